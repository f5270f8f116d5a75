"use strict";
// The report of a run: documents that open as words, and tables that sort.
(() => {
  const block = document.getElementById("moos-data");
  const documents = block ? JSON.parse(block.textContent) : [];
  for (const button of document.querySelectorAll("[data-open]")) {
    const section = button.closest(".excerpt"), place = section.querySelector(".opened");
    const excerpt = section.querySelector(".doc");
    button.addEventListener("click", () => {
      const opens = button.getAttribute("aria-expanded") === "false";
      button.setAttribute("aria-expanded", String(opens));
      button.textContent = opens ? "Close" : "Look at its words";
      excerpt.hidden = opens;
      if (opens) moosShow.mount(place, documents[Number(button.dataset.open)]);
      else moosShow.unmount(place);
    });
  }

  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  };
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const heads = Array.from(table.tHead.rows[0].cells), rows = table.tBodies[0];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const isNumber = head.classList.contains("n");
        const now = head.getAttribute("aria-sort");
        const first = isNumber ? "descending" : "ascending";
        const order = now === null ? first : now === "ascending" ? "descending" : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const sorted = Array.from(rows.rows).sort((a, b) => {
          const [one, two] = [value(a, column), value(b, column)];
          return sign * (isNumber ? one - two : one < two ? -1 : one > two ? 1 : 0);
        });
        rows.append(...sorted);
      });
    });
  }
})();
