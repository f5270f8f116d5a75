"use strict";
// The rule of moos/selection.py and moos/rendering.py over a document's data (page_data.py): the
// same words stay, to the last one. Whole numbers only: scores are in 1/4096, budgets in tokens.
const moosSelection = (() => {
  const NEWLINE = 1, OPENS_SPACELESS = 2, ENDS_SPACELESS = 4, CLOSES = 8;

  // The ranking, and what each prefix of it costs.
  function prepare(data) {
    const count = data.lengths.length;
    const starts = new Int32Array(count), ends = new Int32Array(count);
    let at = 0;
    for (let i = 0; i < count; i++) {
      starts[i] = at + data.gaps[i];
      at = ends[i] = starts[i] + data.lengths[i];
    }
    const doc = { data, count, starts, ends, decided: flags(data.kept, count) };
    if (!data.canSelect) return doc;
    const tokens = data.tokens, why = data.why, scores = data.score;
    const order = [];
    let protectedTokens = 0;
    for (let i = 0; i < count; i++) {
      if (why[i]) protectedTokens += tokens[i];
      else if (tokens[i] > 0) order.push(i);
    }
    order.sort((a, b) => scores[b] - scores[a] || a - b);
    const spent = new Float64Array(order.length);
    let sum = 0;
    order.forEach((word, place) => { spent[place] = sum += tokens[word]; });
    return Object.assign(doc, { order, spent, protectedTokens, follows: neighbours(tokens) });
  }

  function flags(digits, count) {
    const found = new Uint8Array(count);
    for (let i = 0; i < count; i++) found[i] = digits.charCodeAt(i) - 48;
    return found;
  }

  // The word whose decision each word follows: itself, or for one without tokens the nearest word
  // with tokens on the left, before the first one on the right; -1 where there is none.
  function neighbours(tokens) {
    const first = tokens.findIndex((count) => count > 0);
    let last = first;
    return Int32Array.from(tokens, (count, i) => { if (count > 0) last = i; return last; });
  }

  // "0.29" as whole numbers, so that 0.29 of 100 is 29; null for what is no rate in (0, 1].
  function parseRate(text) {
    const match = /^\s*(\d?)(?:\.(\d{0,6}))?\s*$/.exec(text);
    if (!match || match[1] + (match[2] || "") === "") return null;
    const digits = match[2] || "";
    const top = Number((match[1] || "0") + digits), bottom = 10 ** digits.length;
    return top > 0 && top <= bottom ? { top, bottom } : null;
  }

  function budgetOf(rate, numTokens) {
    const product = rate.top * numTokens;
    return (product - (product % rate.bottom)) / rate.bottom;
  }

  // What a budget keeps, counted in the compressor's tokens.
  function selectBudget(doc, budget) {
    const total = doc.data.numTokens;
    if (doc.count === 0 || total <= budget) {
      return { keep: new Uint8Array(doc.count).fill(1), kept: total, over: total > budget };
    }
    const left = budget - doc.protectedTokens;
    let prefix = 0;
    while (prefix < doc.spent.length && doc.spent[prefix] <= left) prefix++;
    const keep = keepPrefix(doc, prefix);
    let kept = 0;
    keep.forEach((stays, i) => { if (stays) kept += doc.data.tokens[i]; });
    return { keep, kept, over: kept > budget };
  }

  // The protected words and the first ones of the ranking.
  function keepPrefix(doc, prefix) {
    const own = Uint8Array.from(doc.data.why, (reason) => (reason ? 1 : 0));
    for (let place = 0; place < prefix; place++) own[doc.order[place]] = 1;
    return own.map((stays, i) => {
      const neighbour = doc.follows[i];
      return stays || neighbour < 0 || own[neighbour] ? 1 : 0;
    });
  }

  function selectRate(doc, rate) {
    return selectBudget(doc, budgetOf(rate, doc.data.numTokens));
  }

  // A step that was worked out with the reader's tokenizer, which is not here.
  function selectStep(doc, step) {
    const [, prefix, kept, over] = step;
    const keep = prefix < 0 ? new Uint8Array(doc.count).fill(1) : keepPrefix(doc, prefix);
    return { keep, kept, over: Boolean(over) };
  }

  // The compressed text: slices of the original, and what stands for each gap.
  function render(doc, keep) {
    const text = doc.data.text, marks = doc.data.flags, last = doc.count - 1;
    if (doc.count === 0) return text;
    const parts = [];
    let before = -1;
    for (let i = 0; i <= last; i++) {
      if (!keep[i]) continue;
      let end = i;
      while (end < last && keep[end + 1]) end++;
      if (before >= 0) parts.push(separator(marks, before, i));
      parts.push(text.slice(i ? doc.starts[i] : 0, end < last ? doc.ends[end] : text.length));
      before = i = end;
    }
    return parts.join("");
  }

  function separator(marks, before, behind) {
    for (let i = before + 1; i <= behind; i++) if (marks[i] & NEWLINE) return "\n";
    const glued = marks[before] & ENDS_SPACELESS || marks[behind] & (OPENS_SPACELESS | CLOSES);
    return glued ? "" : " ";
  }

  return { prepare, parseRate, budgetOf, selectBudget, selectRate, selectStep, render, NEWLINE };
})();
