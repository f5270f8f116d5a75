"use strict";
// The word view: a document's text, a slider over the rate, figures of the word that is pointed at.
const moosShow = (() => {
  const { element } = moosPane;
  const whole = new Intl.NumberFormat("en-US");
  const mounted = new Map();
  let views = 0;

  window.addEventListener("beforeprint", () => {
    for (const sides of mounted.values()) sides.forEach((side) => side.pane.hydrateAll());
  });
  const shade = document.getElementById("moos-shade");
  shade.addEventListener("change", () => {
    document.getElementById("moos-main").classList.toggle("shaded", shade.checked);
  });

  function figuresOf(doc, i) {
    const known = (levels) => (levels && levels[i] >= 0 ? (levels[i] / 4096).toFixed(3) : null);
    const lines = [
      ["preserve probability", known(doc.data.p)],
      ["outlier score", known(doc.data.s)],
      ["score", known(doc.data.score)],
      ["tokens", doc.data.tokens ? String(doc.data.tokens[i]) : null],
    ];
    const reasons = doc.data.reasons[doc.data.why[i]];
    if (reasons.length) lines.push(["protected", reasons.join(", ")]);
    return lines.filter(([, value]) => value !== null);
  }

  // The card that says what is known of one word; one for the whole page.
  function makeCard() {
    const card = element("div", { class: "wordcard", role: "status", hidden: "" });
    document.body.append(card);
    let pointed = null;
    const follow = () => {
      if (card.hidden || !pointed) return;
      const at = pointed.getClientRects()[0];
      if (at && at.bottom > 0 && at.top < window.innerHeight) place(card, at);
      else card.hidden = true;
    };
    window.addEventListener("scroll", follow, { passive: true });
    window.addEventListener("resize", follow);
    return {
      show(doc, pane, i, span) {
        const word = doc.data.text.slice(doc.starts[i], doc.ends[i]);
        const list = element("dl");
        for (const [name, value] of figuresOf(doc, i)) {
          list.append(element("dt", {}, name), " ", element("dd", {}, value), " ");
        }
        const head = element("p", {}, element("b", {}, word), pane.keeps(i) ? " kept" : " dropped");
        card.replaceChildren(head, list);
        card.hidden = false;
        pointed = span;
        place(card, span.getClientRects()[0] || span.getBoundingClientRect());
      },
      hide() {
        pointed = null;
        card.hidden = true;
      },
    };
  }

  function place(card, at) {
    const room = 8, width = document.documentElement.clientWidth;
    const left = Math.min(at.left, width - card.offsetWidth - room);
    const below = at.bottom + room + card.offsetHeight <= window.innerHeight;
    card.style.left = `${Math.max(room, left)}px`;
    card.style.top = `${below ? at.bottom + room : Math.max(room, at.top - room - card.offsetHeight)}px`;
  }

  function listen(doc, pane, card) {
    const show = (i) => {
      const span = pane.point(i);
      if (span) card.show(doc, pane, i, span);
    };
    const hide = () => { pane.point(-1); card.hide(); };
    const wordAt = (event) => {
      const index = event.target.dataset && event.target.dataset.i;
      return index === undefined ? -1 : Number(index);
    };
    pane.box.addEventListener("pointerover", (event) => {
      if (wordAt(event) >= 0) show(wordAt(event));
      else if (document.activeElement !== pane.box) hide();
    });
    pane.box.addEventListener("click", (event) => { if (wordAt(event) >= 0) show(wordAt(event)); });
    pane.box.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && document.activeElement !== pane.box) hide();
    });
    pane.box.addEventListener("focus", () => {
      if (doc.count && pane.current() < 0 && pane.box.matches(":focus-visible")) {
        show(pane.firstVisible());
      }
    });
    pane.box.addEventListener("blur", hide);
    pane.box.addEventListener("keydown", (event) => {
      const last = doc.count - 1, at = pane.current();
      const goal = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last }[event.key];
      if (event.key === "Escape") hide();
      if (goal === undefined || event.ctrlKey || event.metaKey || event.altKey || last < 0) return;
      event.preventDefault();
      const next = Math.min(Math.max(goal, 0), last);
      pane.point(next).scrollIntoView({ block: "nearest" });
      show(next);
    });
  }

  // A slider over the rate with a field for exact ones; over steps worked out before, if need be.
  function makeControls(doc, label, change) {
    const id = `rate-${++views}`, steps = doc.data.steps;
    const range = element("input", {
      type: "range", id, min: "1", max: String(steps ? steps.length : 100), step: "1",
      "aria-label": `Rate of ${label}`,
    });
    const field = element("input", {
      type: "number", min: "0.001", max: "1", step: "any", "aria-label": `Rate of ${label}, exact`,
    });
    const reset = element("button", { type: "button" }, `As decided (${doc.data.budget})`);
    const select = (text) => {
      const rate = moosSelection.parseRate(text);
      field.setCustomValidity(rate ? "" : "a rate above 0 and up to 1");
      if (rate) change(moosSelection.selectRate(doc, rate));
      return rate;
    };
    range.addEventListener("input", () => {
      const rate = steps ? steps[range.value - 1][0] : range.value / 100;
      field.value = rate.toFixed(2);
      if (steps) change(moosSelection.selectStep(doc, steps[range.value - 1]));
      else select(field.value);
      range.setAttribute("aria-valuetext", `rate ${field.value}`);
    });
    field.addEventListener("input", () => {
      const rate = select(field.value);
      if (rate) range.value = Math.round((100 * rate.top) / rate.bottom);
    });
    const start = () => {
      const rate = doc.data.total ? doc.data.kept_tokens / doc.data.total : 1;
      const asked = /^rate (0?\.\d{1,6}|1)$/.exec(doc.data.budget);
      field.value = asked ? asked[1] : rate.toFixed(3);
      range.value = Math.round(field.value * range.max);
      range.setAttribute("aria-valuetext", `rate ${field.value}`);
      change(decidedOf(doc));
    };
    reset.addEventListener("click", start);
    field.readOnly = Boolean(steps);
    return { start, box: element("div", { class: "controls" },
      element("label", { for: id }, "Rate"), range, field, reset) };
  }

  function decidedOf(doc) {
    return { keep: doc.decided, kept: doc.data.kept_tokens, over: doc.data.over };
  }

  function makeResult(doc, label) {
    const area = element("textarea", {
      readonly: "", rows: "8", "aria-label": `Compressed text of ${label}`,
    });
    const details = element("details", { class: "result" },
      element("summary", {}, "Compressed text"), area);
    const copy = element("button", { type: "button", class: "copy" }, "Copy compressed text");
    let keep = doc.decided;
    const fill = () => { area.value = moosSelection.render(doc, keep); };
    details.addEventListener("toggle", fill);
    copy.addEventListener("click", async () => {
      details.open = true;
      fill();
      area.select();
      try {
        await navigator.clipboard.writeText(area.value);
      } catch {
        document.execCommand("copy");
      }
      copy.textContent = "Copied";
      setTimeout(() => { copy.textContent = "Copy compressed text"; }, 1500);
    });
    return {
      copy, details,
      update(next) { keep = next; if (details.open) fill(); },
    };
  }

  // One document, or two selections of it side by side, into an empty element.
  function mount(place, datas) {
    const card = mount.card || (mount.card = makeCard());
    card.hide();
    const sides = datas.map((data, n) => {
      const doc = moosSelection.prepare(data);
      const label = datas.length > 1 ? `selection ${n + 1}` : "this document";
      const pane = moosPane.create(doc, `Text of ${data.title}, ${label}`);
      return { doc, data, label, pane, result: makeResult(doc, label), now: decidedOf(doc) };
    });
    mounted.set(place, sides);
    const differing = element("p", { class: "soft differing", role: "status" });

    function refresh() {
      sides.forEach((side, n) => {
        const other = sides.length > 1 ? sides[1 - n].now.keep : null;
        side.pane.show(side.now.keep, other);
        side.result.update(side.now.keep);
        const { data, now } = side;
        const rate = data.total ? now.kept / data.total : 1;
        side.status.replaceChildren(
          element("b", { class: "keptcount" }, whole.format(now.kept)),
          ` of ${whole.format(data.total)} ${data.unit} kept, rate `,
          element("b", { class: "rate" }, rate.toFixed(3)),
          ...(now.over ? [" ", element("span", { class: "over" },
            "over budget: what is protected alone exceeds it")] : []));
      });
      if (sides.length > 1) {
        const [one, two] = sides.map((side) => side.now.keep);
        const count = one.reduce((sum, stays, i) => sum + (stays !== two[i] ? 1 : 0), 0);
        differing.textContent = `${whole.format(count)} words differ; they are underlined.`;
      }
    }

    let waiting = false;
    function change(side, now) {
      side.now = now;
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; refresh(); });
    }

    const boxes = sides.map((side) => {
      side.status = element("p", { class: "status", role: "status" });
      const box = element("section", { class: "pane", "aria-label": side.label });
      for (const note of side.data.notes) box.append(element("p", { class: "note" }, note));
      const start = [];
      if (side.data.canSelect) {
        const controls = makeControls(side.doc, side.label, (now) => change(side, now));
        box.append(controls.box);
        start.push(controls.start);
      }
      box.append(element("div", { class: "outcome" }, side.status, side.result.copy),
        side.result.details, side.pane.box);
      listen(side.doc, side.pane, card);
      return { box, start };
    });
    place.replaceChildren(...(sides.length > 1 ? [differing] : []),
      element("div", { class: sides.length > 1 ? "panes two" : "panes" },
        ...boxes.map(({ box }) => box)));
    boxes.forEach(({ start }) => start.forEach((begin) => begin()));
    refresh();
  }

  function unmount(place) {
    if (mount.card) mount.card.hide();
    mounted.delete(place);
    place.replaceChildren();
  }

  return { mount, unmount };
})();
