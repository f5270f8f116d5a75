"""Questions whose answer a compression broke: which they are, and what it dropped of the text."""

import html
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moos.alignment import align_lcs
from moos.rendering import merge_kept_words, split_kept
from moos.words import Words, cut_words
from pipelines.evaluate_figures import ContextRow, ResultRow

MIN_FULL_SCORE = 0.5
"""The whole context answered a question from this score on."""
MIN_DROP = 0.3
"""A compression broke the answer if it scores this much below the whole context."""
MAX_EXAMPLES = 24
MAX_CHARS = 6000
"""Of a text in the page, around what matters of it."""
NOT_A_COMPRESSION = ("full", "none")

Span = tuple[int, int]
Setting = tuple[str, str, float]
"""Task, method, rate."""


@dataclass(frozen=True, slots=True)
class Broken:
    """An answer that was right from the whole context.

    Attributes:
        row: What the compression led to.
        full: What the whole context led to.
    """

    row: ResultRow
    full: ResultRow

    @property
    def drop(self) -> float:
        """What the compression cost, in (0, 1]."""
        return self.full["score"] - self.row["score"]


@dataclass(frozen=True, slots=True)
class BrokenCount:
    """How often a compression broke an answer.

    Attributes:
        num_answered: Questions that the whole context answered and the compression was asked.
        num_broken: Those that the compression did not answer any more.
    """

    num_answered: int
    num_broken: int


def find_broken(
    rows: Sequence[ResultRow],
) -> tuple[list[Broken], dict[Setting, BrokenCount]]:
    """All broken answers in the order of the rows, and how many of each setting.

    Both are empty without rows of `full`, which tell what can be answered.
    """
    full = {(row["task"], row["example"]): row for row in rows if row["method"] == "full"}
    broken: list[Broken] = []
    counts: dict[Setting, BrokenCount] = {}
    for row in rows:
        whole = full.get((row["task"], row["example"]))
        if row["method"] in NOT_A_COMPRESSION or row["rate"] is None or whole is None:
            continue
        pair = Broken(row, whole)
        is_answered = whole["score"] >= MIN_FULL_SCORE
        # Scores are sums of floats: 0.8 - 0.5 must not miss 0.3.
        is_broken = is_answered and pair.drop >= MIN_DROP - 1e-9
        setting = (row["task"], row["method"], row["rate"])
        count = counts.get(setting, BrokenCount(0, 0))
        counts[setting] = BrokenCount(
            count.num_answered + is_answered, count.num_broken + is_broken
        )
        if is_broken:
            broken.append(pair)
    return broken, counts


def choose_broken(
    broken: Sequence[Broken], counts: Mapping[Setting, BrokenCount], limit: int = MAX_EXAMPLES
) -> list[Broken]:
    """The worst of each task and method in turn, no question twice.

    Of a method's answers, those that lost most come first, then those at the higher rate, which
    had more room. Methods that break least come first: what they still break tells most.
    """
    by_task: dict[str, dict[str, list[Broken]]] = {}
    for pair in sorted(broken, key=lambda pair: (-pair.drop, -(pair.row["rate"] or 0.0))):
        methods = by_task.setdefault(pair.row["task"], defaultdict(list))
        methods[pair.row["method"]].append(pair)
    lines = [
        _take_turns([methods[name] for name in _least_broken(task, methods, counts)])
        for task, methods in sorted(by_task.items())
    ]
    chosen: list[Broken] = []
    seen: set[tuple[str, str]] = set()
    for pair in _take_turns(lines):
        question = (pair.row["task"], pair.row["example"])
        if question not in seen and len(chosen) < limit:
            seen.add(question)
            chosen.append(pair)
    return sorted(chosen, key=lambda pair: -pair.drop)


def _least_broken(
    task: str, methods: Iterable[str], counts: Mapping[Setting, BrokenCount]
) -> list[str]:
    def share(method: str) -> float:
        own = [count for key, count in counts.items() if key[:2] == (task, method)]
        answered = sum(count.num_answered for count in own)
        return sum(count.num_broken for count in own) / max(1, answered)

    return sorted(methods, key=lambda method: (share(method), method))


def _take_turns(lines: Sequence[Sequence[Broken]]) -> list[Broken]:
    """The first of each, then the second of each, and so on."""
    longest = max(map(len, lines), default=0)
    return [line[turn] for turn in range(longest) for line in lines if turn < len(line)]


def broken_html(chosen: Sequence[Broken], contexts: Iterable[ContextRow]) -> str:
    """The examples, each to be opened, the first open; everything from the data escaped.

    Args:
        chosen: The examples.
        contexts: The texts; only those that are needed are kept.
    """
    wanted = {_context_key(row) for pair in chosen for row in (pair.row, pair.full)}
    texts = {
        key: context["text"] for context in contexts if (key := _context_key(context)) in wanted
    }
    return "".join(
        _example_html(
            pair,
            texts.get(_context_key(pair.full)),
            texts.get(_context_key(pair.row)),
            is_open=place == 0,
        )
        for place, pair in enumerate(chosen)
    )


def _context_key(row: ResultRow | ContextRow) -> tuple[str, str, str, float | None]:
    return row["task"], row["context"], row["method"], row["rate"]


def _example_html(
    pair: Broken, original: str | None, compressed: str | None, *, is_open: bool
) -> str:
    row, full = pair.row, pair.full
    accepted = "\n".join(row["answers"])
    facts = {
        "question": row["question"],
        "accepted": accepted,
        f"from full (score {100 * full['score']:.0f})": full["answer"].strip() or "(nothing)",
        f"from {row['method']} (score {100 * row['score']:.0f})": row["answer"].strip()
        or "(nothing)",
    }
    listed = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(_shorten(value, 1200))}</dd>"
        for name, value in facts.items()
    )
    question = html.escape(_shorten(" ".join(row["question"].split()), 160))
    about = (
        f"{row['task']} · {row['method']} at {row['rate']:g} · "
        f"{100 * full['score']:.0f} → {100 * row['score']:.0f}"
    )
    if original is None or compressed is None:
        text = '<p class="soft">The text was not kept.</p>'
    else:
        text = compared_html(original, compressed, row["answers"])
    return (
        f"<details{' open' if is_open else ''}><summary><b>{html.escape(about)}</b> {question}"
        f"</summary><dl>{listed}</dl>{text}</details>"
    )


def compared_html(original: str, compressed: str, answers: Sequence[str]) -> str:
    """The original with its dropped words struck through and the answers in it marked."""
    kept = find_kept(original, compressed)
    places = find_answers(original, answers)
    whole = sum(any(a <= start and end <= b for a, b in kept) for start, end in places)
    start, end = _choose_part(len(original), kept, places)
    part = (
        ""
        if (start, end) == (0, len(original))
        else (f" Shown: characters {start + 1:,} to {end:,} of {len(original):,}.")
    )
    found = (
        f"Places in the text where an accepted answer stands: {len(places):,}, "
        f"of which kept whole: {whole:,}."
        if places
        else "No accepted answer stands in the text word for word."
    )
    return (
        f'<p class="soft">{found}{part}</p>'
        f'<div class="doc">{_marked_html(original, kept, places, (start, end))}</div>'
    )


def find_kept(original: str, compressed: str) -> list[Span]:
    """Character ranges of the original whose words the compression has, case aside.

    Both are cut into words and the longest common subsequence counts as kept. Of a word that is
    there twice, the first one may be shown as kept though it was the second.
    """
    words = cut_words(original)
    keep = align_lcs(_forms(original, words), _forms(compressed, cut_words(compressed)))
    return merge_kept_words(np.asarray(keep), words, len(original)) if len(words) else []


def _forms(text: str, words: Words) -> list[str]:
    bounds = zip(words.starts.tolist(), words.ends.tolist(), strict=True)
    return [text[start:end].casefold() for start, end in bounds]


def find_answers(text: str, answers: Sequence[str]) -> list[Span]:
    """Where an accepted answer stands as whole words, case and white space aside; longest first."""
    forms = sorted({" ".join(answer.split()) for answer in answers} - {""}, key=len, reverse=True)
    if not forms:
        return []
    choices = "|".join(r"\s+".join(map(re.escape, form.split())) for form in forms)
    found = re.finditer(rf"(?<!\w)(?:{choices})(?!\w)", text, re.IGNORECASE)
    return [match.span() for match in found]


def _choose_part(num_chars: int, kept: Sequence[Span], places: Sequence[Span]) -> Span:
    """What is shown of a long text: about an answer that was dropped, else about the first."""
    if num_chars <= MAX_CHARS:
        return 0, num_chars
    lost = [
        (start, end) for start, end in places if not any(a <= start and end <= b for a, b in kept)
    ]
    centre = next(iter([*lost, *places]), (0, 0))[0]
    start = min(max(0, centre - MAX_CHARS // 2), num_chars - MAX_CHARS)
    return start, start + MAX_CHARS


def _marked_html(text: str, kept: Sequence[Span], places: Sequence[Span], shown: Span) -> str:
    parts, at = [], 0
    for is_kept, part in split_kept(text, kept):
        inner = _answers_html(text, (max(at, shown[0]), min(at + len(part), shown[1])), places)
        at += len(part)
        if inner:
            parts.append(inner if is_kept else f"<s>{inner}</s>")
    return "".join(parts)


def _answers_html(text: str, part: Span, places: Sequence[Span]) -> str:
    """A part of the text, escaped, with what lies in it of the answers marked."""
    if part[0] >= part[1]:
        return ""
    pieces, at = [], part[0]
    for start, end in places:
        start, end = max(start, at), min(end, part[1])
        if start < end:
            pieces.append(html.escape(text[at:start]))
            pieces.append(f"<mark>{html.escape(text[start:end])}</mark>")
            at = end
    return "".join([*pieces, html.escape(text[at : part[1]])])


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} …"
