"""From a keep mask to kept spans, and from spans to the compressed text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moos.characters import CLOSING, NEWLINE, SPACE, SPACELESS, classify
from moos.errors import DataError
from moos.words import Words


def merge_kept_words(
    keep: NDArray[np.bool_], words: Words, num_chars: int
) -> list[tuple[int, int]]:
    """Half-open character ranges of the kept words; neighbours share one with what lies between.

    White space before the first word and behind the last belongs to those words, so keeping
    everything gives the whole text. A text without words is kept whole; an empty one has no span.
    """
    if num_chars == 0:
        return []
    if len(words) == 0:
        return [(0, num_chars)]
    edges = np.diff(np.concatenate([[0], keep.astype(np.int8), [0]]))
    first = np.flatnonzero(edges == 1)
    last = np.flatnonzero(edges == -1) - 1
    starts = np.where(first == 0, 0, words.starts[first])
    ends = np.where(last == len(words) - 1, num_chars, words.ends[last])
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def render(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The compressed text: the spans' slices, joined by separators.

    Across a gap the separator is a newline if the gap held a line break; nothing if either side is
    of a script written without spaces, or if the right side is closing punctuation that followed
    its word directly in the original; else one space. Spans that touch are joined by nothing. The
    span of the whole text gives the identical text.

    Args:
        text: The original text.
        spans: Half-open code point ranges: sorted, disjoint, not empty, inside the text.

    Raises:
        DataError: A span is empty, out of order or outside the text.
    """
    if not spans:
        return ""
    previous_end = 0
    for start, end in spans:
        if not previous_end <= start < end <= len(text):
            raise DataError(
                f"span [{start}, {end}) is empty, overlaps the one before it, or lies outside "
                f"the text of {len(text)} characters"
            )
        previous_end = end
    if len(spans) == 1:
        return text[spans[0][0] : spans[0][1]]
    separators = choose_separators(classify(text), np.array(spans, dtype=np.int64))
    parts = [text[spans[0][0] : spans[0][1]]]
    for separator, (start, end) in zip(separators, spans[1:], strict=True):
        parts.append(separator)
        parts.append(text[start:end])
    return "".join(parts)


def choose_separators(classes: NDArray[np.uint32], spans: NDArray[np.int64]) -> list[str]:
    """What stands between each span and the next in the compressed text, N - 1 strings."""
    gap_start, gap_end = spans[:-1, 1], spans[1:, 0]
    num_breaks = np.concatenate([[0], np.cumsum(classes & NEWLINE != 0)])
    left, right = classes[gap_start - 1], classes[gap_end]
    breaks = num_breaks[gap_end] > num_breaks[gap_start]
    closes = (right & CLOSING != 0) & (classes[gap_end - 1] & SPACE == 0)
    glued = (gap_start == gap_end) | ((left | right) & SPACELESS != 0) | closes
    codes = np.where(breaks & (gap_start < gap_end), 2, np.where(glued, 0, 1))
    return [("", " ", "\n")[code] for code in codes.tolist()]


def split_kept(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[bool, str]]:
    """The whole text as slices in order, each with True where it was kept."""
    parts = []
    at = 0
    for start, end in spans:
        if at < start:
            parts.append((False, text[at:start]))
        parts.append((True, text[start:end]))
        at = end
    if at < len(text):
        parts.append((False, text[at:]))
    return parts
