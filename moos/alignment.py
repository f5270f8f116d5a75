"""From an original text and a teacher's compression of it to one label per word of the original.

Words are what white space parts, as in `moos.labels`. Two words are the same when their surface
forms are: case and the punctuation around them do not count, inflection does.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

GREEDY_WINDOW = 150
"""Original words that the greedy search looks at on each side, as LLMLingua-2's scripts do."""

# The standard library's \s agrees with str.split, by which teachers count words.
_SPACED_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class PairFigures:
    """How well a compression could be aligned with its original (LLMLingua-2, arXiv 2403.12968).

    Each rate is 0 where its denominator is. `S_ori` and `S_comp` are the words of the two texts,
    repeated ones counted each time; a word is in the other text when its form occurs there.

    Attributes:
        num_words: Words of the original, |S_ori|.
        num_compressed_words: Words of the compression, |S_comp|.
        keep_rate: Share of the original's words that are kept.
        variation_rate: Share of the compression's words that the original lacks, words that the
            teacher made up or changed: VR = 1/|S_comp| * sum over w in S_comp of [w not in S_ori].
        matching_rate: Share of the original's words that are labelled as kept, hence always
            `keep_rate`: MR = 1/|S_ori| * sum over w in S_ori of [l(w) = True].
        hitting_rate: Words of the compression that the original has, per word of the original, so
            it may exceed 1 where the teacher repeats words:
            HR = 1/|S_ori| * sum over w in S_comp of [w in S_ori].
        alignment_gap: Words that were there to be found but were not labelled, per word of the
            original, never negative: AG = HR - MR.
    """

    num_words: int
    num_compressed_words: int
    keep_rate: float
    variation_rate: float
    matching_rate: float
    hitting_rate: float
    alignment_gap: float


@dataclass(frozen=True, slots=True)
class PairAlignment:
    """The words of an original text, and which of them its compression kept.

    Attributes:
        starts: First character of each word, in code points of the original, shape (W,).
        ends: One past the last character of each word, shape (W,).
        keep: True where the compression has the word, shape (W,).
        figures: How well the two texts could be aligned.
    """

    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    keep: NDArray[np.bool_]
    figures: PairFigures


@dataclass(frozen=True, slots=True)
class PairFilters:
    """Which pairs are too badly aligned to learn from; None turns a filter off.

    Attributes:
        max_variation_rate: Largest variation rate that passes.
        max_alignment_gap: Largest alignment gap that passes.
        variation_percentile: Percentile, in [0, 100], of the corpus's variation rates that still
            passes; the LLMLingua-2 paper drops the top 5 %, which is 95.
        gap_percentile: The same for the alignment gaps; the paper drops the top 10 %: 90.
        min_keep_rate: Smallest keep rate that passes.
        max_keep_rate: Largest keep rate that passes.
    """

    max_variation_rate: float | None = None
    max_alignment_gap: float | None = None
    variation_percentile: float | None = None
    gap_percentile: float | None = None
    min_keep_rate: float | None = None
    max_keep_rate: float | None = None


@dataclass(frozen=True, slots=True)
class PairBounds:
    """`PairFilters` for one corpus, its percentiles resolved; None bounds nothing."""

    max_variation_rate: float | None
    max_alignment_gap: float | None
    min_keep_rate: float | None
    max_keep_rate: float | None


def align_pair(
    original: str, compressed: str, *, aligner: Literal["lcs", "greedy"] = "lcs"
) -> PairAlignment:
    """Label each word of a text by whether a teacher's compression of it kept the word.

    A word of the compression keeps at most one word of the original. Either text may be empty.

    Args:
        original: The text.
        compressed: What the teacher made of it.
        aligner: `lcs` keeps the longest common subsequence, in which the order of words counts;
            `greedy` is LLMLingua-2's search, which also finds words that moved a little.
    """
    spans = [match.span() for match in _SPACED_WORD.finditer(original)]
    bounds = np.array(spans, dtype=np.int32).reshape(-1, 2)
    original_forms, compressed_forms = _read_forms(original), _read_forms(compressed)
    align = align_lcs if aligner == "lcs" else align_greedy
    keep = align(original_forms, compressed_forms)
    figures = _measure_pair(original_forms, compressed_forms, keep)
    return PairAlignment(bounds[:, 0].copy(), bounds[:, 1].copy(), keep, figures)


def hard_labels(alignment: PairAlignment) -> NDArray[np.float32]:
    """The label of each word: 1 where it was kept, 0 elsewhere, shape (W,)."""
    return alignment.keep.astype(np.float32)


def align_lcs(original: Sequence[str], compressed: Sequence[str]) -> NDArray[np.bool_]:
    """Keep the longest common subsequence of two sequences of word forms, exactly.

    Of several longest ones, the one whose first kept word comes earliest in the original, then
    whose second does, and so on. Takes one pass of big-integer arithmetic and a bit per pair of
    words, both only for words that the other text has: 2 MB for 5,000 words against 2,500.

    Args:
        original: Forms of the original's W words.
        compressed: Forms of the compression's words.

    Returns:
        True for each word of the original that is kept, shape (W,).
    """
    known = set(original)
    shared = [form for form in compressed if form in known]
    # Bit b stands for the (b + 1)-th shared word from the end, so that the lowest bits are a
    # suffix, and going through the original from its end gives the lengths of all suffixes.
    places: dict[str, int] = {}
    for bit, form in enumerate(reversed(shared)):
        places[form] = places.get(form, 0) | 1 << bit
    rows = _suffix_rows(original, places, len(shared))
    keep = np.zeros(len(original), dtype=np.bool_)
    rest = len(shared)
    missing = _common_length(rows[-1], rest)
    for index, form in enumerate(original):
        here = places.get(form, 0) & ((1 << rest) - 1)
        if not here:
            continue
        # The highest bit is the earliest of the remaining words, which leaves most for the others.
        rest_after = here.bit_length() - 1
        if _common_length(rows[len(original) - 1 - index], rest_after) == missing - 1:
            keep[index] = True
            rest, missing = rest_after, missing - 1
    return keep


def _suffix_rows(original: Sequence[str], places: dict[str, int], width: int) -> list[int]:
    """Row k of the table of common lengths, for the last k words of the original.

    A row is a bit vector (Hyyro 2004, "Bit-parallel LCS-length computation revisited"): its lowest
    b bits hold as many zeros as those words have in common with the last b shared ones.
    """
    ones = (1 << width) - 1
    rows = [ones]
    for form in reversed(original):
        row = rows[-1]
        matches = row & places.get(form, 0)
        # A word without a match adds a reference to the row before, not a row.
        rows.append(((row + matches) | (row - matches)) & ones if matches else row)
    return rows


def _common_length(row: int, width: int) -> int:
    return width - (row & ((1 << width) - 1)).bit_count()


def align_greedy(
    original: Sequence[str], compressed: Sequence[str], *, window: int = GREEDY_WINDOW
) -> NDArray[np.bool_]:
    """Keep the nearest match of each compressed word, by LLMLingua-2's search.

    Algorithm 1 of arXiv 2403.12968 with the distances of the authors' scripts: each compressed
    word, in order, takes the free word of its form that is nearest to the last match and less than
    `window` away, the one ahead where two are equally near. The next search starts there, but at
    most `window // 2` further on, so that a stray match cannot carry it off. Their comparison of
    lemmas is left out: only equal forms match.

    Args:
        original: Forms of the original's W words.
        compressed: Forms of the compression's words.
        window: Original words searched on each side, the last match included, at least 1.

    Returns:
        True for each word of the original that is kept, shape (W,).
    """
    free: dict[str, list[int]] = {}
    for index, form in enumerate(original):
        free.setdefault(form, []).append(index)
    keep = np.zeros(len(original), dtype=np.bool_)
    last = 0
    for form in compressed:
        places = free.get(form, [])
        near = range(bisect_right(places, last - window), bisect_left(places, last + window))
        if not near:
            continue
        match = places.pop(_nearest(places, near, last))
        keep[match] = True
        last = min(match, last + window // 2)
    return keep


def _nearest(places: Sequence[int], near: range, last: int) -> int:
    """Of the indices `near` into places, that of the one nearest to `last`; ties go ahead."""
    return min(near, key=lambda index: (abs(places[index] - last), places[index] < last))


def _read_forms(text: str) -> list[str]:
    return [_word_form(word) for word in _SPACED_WORD.findall(text)]


def _word_form(word: str) -> str:
    """The word in folded case without punctuation around it; all of it if it is nothing else.

    Symbols such as a currency sign are no punctuation, nor are marks inside the word.
    """
    start, end = 0, len(word)
    while start < end and unicodedata.category(word[start]).startswith("P"):
        start += 1
    while start < end and unicodedata.category(word[end - 1]).startswith("P"):
        end -= 1
    return (word[start:end] or word).casefold()


def _measure_pair(
    original: Sequence[str], compressed: Sequence[str], keep: NDArray[np.bool_]
) -> PairFigures:
    known = set(original)
    num_words, num_compressed, num_kept = len(original), len(compressed), int(keep.sum())
    num_found = sum(form in known for form in compressed)
    return PairFigures(
        num_words=num_words,
        num_compressed_words=num_compressed,
        keep_rate=num_kept / max(num_words, 1),
        variation_rate=(num_compressed - num_found) / max(num_compressed, 1),
        matching_rate=num_kept / max(num_words, 1),
        hitting_rate=num_found / max(num_words, 1),
        # One division, so that a gap of no words is exactly 0.
        alignment_gap=(num_found - num_kept) / max(num_words, 1),
    )


def resolve_bounds(filters: PairFilters, figures: Sequence[PairFigures]) -> PairBounds:
    """Turn percentiles into bounds over a corpus; the tighter of bound and percentile holds.

    Both percentiles are over all pairs, interpolated linearly; of no pairs they bound nothing.
    (LLMLingua-2's scripts take the second over what the first left, and drop ties.)
    """
    rates = [figure.variation_rate for figure in figures]
    gaps = [figure.alignment_gap for figure in figures]
    return PairBounds(
        _tighter(filters.max_variation_rate, filters.variation_percentile, rates),
        _tighter(filters.max_alignment_gap, filters.gap_percentile, gaps),
        filters.min_keep_rate,
        filters.max_keep_rate,
    )


def _tighter(bound: float | None, percentile: float | None, rates: list[float]) -> float | None:
    if percentile is None or not rates:
        return bound
    of_corpus = float(np.percentile(rates, percentile))
    return of_corpus if bound is None else min(bound, of_corpus)


def failed_filters(figures: PairFigures, bounds: PairBounds) -> tuple[str, ...]:
    """Which of `variation_rate`, `alignment_gap` and `keep_rate` a pair fails, in this order.

    A figure at its bound passes. A text without words has no keep rate to fail by.
    """
    failed = []
    if bounds.max_variation_rate is not None and figures.variation_rate > bounds.max_variation_rate:
        failed.append("variation_rate")
    if bounds.max_alignment_gap is not None and figures.alignment_gap > bounds.max_alignment_gap:
        failed.append("alignment_gap")
    lowest, highest = bounds.min_keep_rate or 0.0, bounds.max_keep_rate
    is_above = highest is not None and figures.keep_rate > highest
    if figures.num_words and (is_above or figures.keep_rate < lowest):
        failed.append("keep_rate")
    return tuple(failed)
