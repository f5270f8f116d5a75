"use strict";
// The page of moos show: a list of documents, of which one is open.
(() => {
  const { element } = moosPane;
  const documents = JSON.parse(document.getElementById("moos-data").textContent);
  const place = document.getElementById("moos-view");
  const title = document.getElementById("moos-title");
  const list = document.getElementById("moos-documents");
  const buttons = documents.map((datas, n) => {
    const button = element("button", { type: "button" }, datas[0].title);
    button.addEventListener("click", () => open(n));
    return button;
  });

  function open(n) {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === n)));
    title.textContent = documents[n][0].title;
    moosShow.mount(place, documents[n]);
  }

  if (documents.length > 1) list.append(...buttons);
  if (documents.length) open(0);
})();
