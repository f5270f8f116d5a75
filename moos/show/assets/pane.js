"use strict";
// One selection of one document as text to look at. A word is a span once its part of the text comes
// near the screen; until then the part is one piece of text, so that long documents open at once.
const moosPane = (() => {
  const LEAST_WORDS = 120, MOST_WORDS = 2000, SHADES = 7;

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") made.className = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  // Parts of a text end at line breaks, or after very many words without one.
  function cutParts(doc) {
    const parts = [];
    let first = 0;
    for (let i = 1; i <= doc.count; i++) {
      const enough = i - first >= LEAST_WORDS && doc.data.flags[i] & moosSelection.NEWLINE;
      if (i === doc.count || enough || i - first >= MOST_WORDS) {
        parts.push({ first, stop: i });
        first = i;
      }
    }
    return parts;
  }

  // The shade of each word: which seventh of the document's scores it is among.
  function shadesOf(doc) {
    const shades = new Uint8Array(doc.count);
    if (!doc.data.score) return shades;
    const known = doc.data.score.filter((score) => score >= 0).sort((a, b) => a - b);
    const bounds = Array.from({ length: SHADES - 1 }, (_, i) =>
      known[Math.floor(((i + 1) * known.length) / SHADES)]);
    return shades.map((_, i) =>
      doc.data.score[i] < 0 ? 0 : 1 + bounds.filter((bound) => doc.data.score[i] > bound).length);
  }

  function create(doc, label) {
    const shades = shadesOf(doc), spans = new Array(doc.count);
    const box = element("div", {
      class: "words", tabindex: "0", role: "group",
      "aria-label": `${label}. Left and right arrow keys go from word to word.`,
    });
    const state = { keep: doc.decided, other: null, current: -1 };
    const parts = cutParts(doc);
    if (!doc.count) box.append(doc.data.text);

    function classOf(i) {
      const stays = state.keep[i];
      let name = `w ${stays ? "k" : "d"} q${shades[i]}`;
      if (stays && doc.data.why[i]) name += " p";
      if (state.other && state.other[i] !== stays) name += " x";
      return i === state.current ? name + " c" : name;
    }

    function paint(i) {
      const span = spans[i];
      if (!span) return;
      const name = classOf(i);
      if (span.className !== name) span.className = name;
    }

    // White space before a part's first word, less the line break that the part itself makes.
    function leading(part) {
      const gap = doc.data.text.slice(part.first ? doc.ends[part.first - 1] : 0,
        doc.starts[part.first]);
      return part.first ? gap.replace(/^[^\n]*\n/, "") : gap;
    }

    function hydrate(part) {
      if (part.done) return;
      part.done = true;
      const text = doc.data.text, pieces = [leading(part)];
      for (let i = part.first; i < part.stop; i++) {
        if (i > part.first && doc.starts[i] > doc.ends[i - 1]) {
          pieces.push(text.slice(doc.ends[i - 1], doc.starts[i]));
        }
        const span = document.createElement("span");
        span.className = classOf(i);
        span.dataset.i = i;
        span.textContent = text.slice(doc.starts[i], doc.ends[i]);
        spans[i] = span;
        pieces.push(span);
      }
      if (part.stop === doc.count) pieces.push(text.slice(doc.ends[doc.count - 1]));
      part.box.replaceChildren(...pieces);
    }

    const near = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) hydrate(parts[entry.target.dataset.n]);
    }, { rootMargin: "1500px" });
    parts.forEach((part, n) => {
      const end = part.stop === doc.count ? doc.data.text.length : doc.ends[part.stop - 1];
      const rest = doc.data.text.slice(doc.starts[part.first], end);
      part.box = element("div", { class: "part", "data-n": n }, leading(part) + rest);
      box.append(part.box);
      near.observe(part.box);
    });
    if (parts.length) hydrate(parts[0]);

    return {
      box,
      hydrateAll: () => parts.forEach(hydrate),
      // Show a keep mask, and mark where it differs from another one.
      show(keep, other) {
        const before = state.keep, beforeOther = state.other;
        Object.assign(state, { keep, other });
        for (let i = 0; i < doc.count; i++) {
          if (before[i] !== keep[i] || beforeOther || other) paint(i);
        }
      },
      point(i) {
        const before = state.current;
        state.current = i;
        if (before >= 0) paint(before);
        if (i < 0) return null;
        hydrate(parts.find((part) => i < part.stop));
        paint(i);
        return spans[i];
      },
      current: () => state.current,
      keeps: (i) => Boolean(state.keep[i]),
      firstVisible() {
        const seen = spans.findIndex((span) => span && span.getBoundingClientRect().bottom > 0);
        return Math.max(seen, 0);
      },
    };
  }

  return { create, element };
})();
