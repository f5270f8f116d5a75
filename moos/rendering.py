"""From a keep mask to kept spans, and from spans to the compressed text."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from moos.characters import CLOSING, NEWLINE, SPACE, SPACELESS, classify
from moos.errors import DataError
from moos.joined_texts import JoinedTexts, bounds_of
from moos.words import Words


def merge_kept_words(
    keep: NDArray[np.bool_], words: Words, num_chars: int
) -> list[tuple[int, int]]:
    """Half-open character ranges of the kept words; neighbours share one with what lies between.

    White space before the first word and behind the last belongs to those words, so keeping
    everything gives the whole text. A text without words is kept whole; an empty one has no span.
    """
    if len(words) == 0:
        return _whole(num_chars)
    owners = np.zeros(len(words), dtype=np.int64)
    starts, ends = _merge(keep, words, owners, np.array([0]), np.array([num_chars]))
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def words_in_spans(words: Words, spans: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """True for each word that lies in a span, shape (W,): what `merge_kept_words` was given."""
    if not spans:
        return np.zeros(len(words), dtype=np.bool_)
    bounds = np.array(spans)
    index = np.searchsorted(bounds[:, 0], words.starts, side="right") - 1
    is_inside: NDArray[np.bool_] = words.ends <= bounds[np.maximum(index, 0), 1]
    return (index >= 0) & is_inside


def _merge(
    keep: NDArray[np.bool_],
    words: Words,
    owners: NDArray[np.int64],
    text_starts: NDArray[np.int64],
    text_ends: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of the spans of texts that lie end to end, each with its own white space."""
    changes = owners[1:] != owners[:-1]
    opens, closes = np.append(True, changes), np.append(changes, True)
    first = np.flatnonzero(keep & (opens | ~np.append(False, keep[:-1])))
    last = np.flatnonzero(keep & (closes | ~np.append(keep[1:], False)))
    starts = np.where(opens[first], text_starts[owners[first]], words.starts[first])
    ends = np.where(closes[last], text_ends[owners[last]], words.ends[last])
    return starts, ends


def render_texts(
    texts: JoinedTexts, keep: NDArray[np.bool_]
) -> list[tuple[str, list[tuple[int, int]]]]:
    """Each text's compression and its spans: `merge_kept_words`, then `render`, of all at once.

    Args:
        texts: The texts.
        keep: True for each word that stays, shape (W,).
    """
    if len(keep) == 0:
        return [(text, _whole(len(text))) for text in texts.texts]
    starts, ends = _merge(keep, texts.words, texts.owners, texts.starts, texts.ends)
    owners = np.searchsorted(texts.starts, starts, side="right") - 1
    separators = _choose_separators(texts.classes, ends[:-1], starts[1:])
    separators[owners[1:] != owners[:-1]] = 0
    rendered = _join_spans(texts, starts, ends, separators)
    shift = texts.starts[owners]
    spans = list(zip((starts - shift).tolist(), (ends - shift).tolist(), strict=True))
    span_bounds = np.searchsorted(owners, np.arange(len(texts) + 1))
    shown_chars = ends - starts
    shown_chars[1:] += separators > 0
    bounds = bounds_of(shown_chars)[span_bounds]
    parts = zip(
        texts.texts,
        np.diff(texts.bounds).tolist(),
        pairwise(bounds.tolist()),
        pairwise(span_bounds.tolist()),
        strict=True,
    )
    return [
        (rendered[slice(*shown)], spans[slice(*own)]) if num_words else (text, _whole(len(text)))
        for text, num_words, shown, own in parts
    ]


def _join_spans(
    texts: JoinedTexts,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    separators: NDArray[np.uint32],
) -> str:
    """The characters of all spans, with the separators between them."""
    edges = np.stack([starts, ends], axis=1).ravel()
    lengths = np.diff(edges, prepend=0, append=len(texts.joined))
    shown = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    # A separator takes the place of the first character of its gap.
    codes = texts.codes.copy()
    places = ends[:-1][separators > 0]
    codes[places] = separators[separators > 0]
    shown[places] = True
    encoded: bytes = codes[shown].tobytes()
    return encoded.decode("utf-32-le", "surrogatepass")


def _whole(num_chars: int) -> list[tuple[int, int]]:
    """The one span of a text without words; an empty text has none."""
    return [(0, num_chars)] if num_chars else []


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
    bounds = np.array(spans, dtype=np.int64)
    separators = _choose_separators(classify(text), bounds[:-1, 1], bounds[1:, 0])
    parts = [text[spans[0][0] : spans[0][1]]]
    for code, (start, end) in zip(separators.tolist(), spans[1:], strict=True):
        parts.append(chr(code) if code else "")
        parts.append(text[start:end])
    return "".join(parts)


def locate_spans(text: str, spans: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Where each span begins in `render(text, spans)`, in code points, shape (number of spans,).

    Args:
        text: The original text.
        spans: As `render` takes them.
    """
    bounds = np.array(spans, dtype=np.int64).reshape(-1, 2)
    lengths = bounds[:, 1] - bounds[:, 0]
    if len(bounds) > 1:
        separators = _choose_separators(classify(text), bounds[:-1, 1], bounds[1:, 0])
        lengths[:-1] += separators > 0
    return bounds_of(lengths)[:-1]


def _choose_separators(
    classes: NDArray[np.uint32], gap_starts: NDArray[np.int64], gap_ends: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """The code point of what stands for each gap in the compressed text, 0 for nothing."""
    line_breaks = np.flatnonzero(classes & NEWLINE)
    breaks = np.searchsorted(line_breaks, gap_ends) > np.searchsorted(line_breaks, gap_starts)
    left, right = classes[gap_starts - 1], classes[gap_ends]
    closes = (right & CLOSING != 0) & (classes[gap_ends - 1] & SPACE == 0)
    glued = (gap_starts == gap_ends) | ((left | right) & SPACELESS != 0) | closes
    codes = np.where(breaks, ord("\n"), np.where(glued, 0, ord(" ")))
    return codes.astype(np.uint32)


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
