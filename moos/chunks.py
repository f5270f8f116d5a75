"""Chunks of compressed text for a vector store, each with the spans of the original it is made of.

Chunks are a pure function of the original, its kept spans and a tokenizer: an output can be cut
anew, or its chunks checked, without a model. A run that is told to writes them as a column of their
row, `chunks`, not as files beside it: the row is what is committed, retried and counted exactly
once, so chunks never lack their row or outlive it, and the id and every other column of the
document are at hand. `UNNEST` in SQL, or `explode` in pandas and Polars, makes one row of each.
Cutting takes a CPU second for some 200,000 tokens of the originals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moos.characters import CLOSING, NEWLINE, SENTENCE_END, SPACE, code_points, look_up
from moos.rendering import locate_spans, render, words_in_spans
from moos.tokens import TextTokenizer
from moos.words import Words, count_tokens, cut_words, map_tokens

_BLANK_LINE, _SENTENCE, _SPACE = 3, 2, 1
"""How good a place between two kept words is to cut at; 0 where no white space is."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a compressed text.

    Attributes:
        index: Its place among the chunks of its document, from 0.
        text: The part; equals `render(original, spans)`.
        spans: The half-open code point ranges of the original that it is made of.
        start: First character of these: where a citation begins in the original.
        end: One past the last.
        num_tokens: Tokens of `text` by the chunker's tokenizer.
    """

    index: int
    text: str
    spans: list[tuple[int, int]]
    start: int
    end: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Chunker:
    """Cuts compressed texts into chunks.

    Attributes:
        tokenizer: What counts: that of the run's budget, or of the model that embeds the chunks.
        max_tokens: Most tokens of a chunk. Words are never cut: one of more tokens, which only
            URLs and the like are, is a chunk of its own.
        overlap: Most tokens at the end of a chunk that the next one begins with, at most half of
            `max_tokens`.
    """

    tokenizer: TextTokenizer
    max_tokens: int
    overlap: int = 0

    def cut(self, text: str, spans: Sequence[tuple[int, int]]) -> list[Chunk]:
        """The chunks of one document, in order; none of a text without a kept word.

        Together they hold every kept word, each once where there is no overlap. A cut falls behind
        a blank line, else behind a sentence or line, else where white space was, if one of these is
        in the last quarter of what a chunk can hold.

        Args:
            text: The original.
            spans: What was kept of it: `kept_spans`, or `CompressedDocument.spans`.

        Raises:
            DataError: A span is empty, out of order or outside the text.
        """
        compressed = render(text, spans)
        words = cut_words(text)
        kept = np.flatnonzero(words_in_spans(words, spans))
        if len(kept) == 0:
            return []
        shown = locate_spans(text, spans)
        at = np.searchsorted([start for start, _ in spans], words.starts[kept], side="right") - 1
        shift = (shown - np.array([start for start, _ in spans]))[at]
        in_compressed = Words(
            (words.starts[kept] + shift).astype(np.int32),
            (words.ends[kept] + shift).astype(np.int32),
        )
        (tokens,) = self.tokenizer.tokenize([compressed])
        counts = count_tokens(map_tokens(tokens, in_compressed), len(kept))
        cutter = _Cutter(self, text, words, kept, counts, _rate_places(text, words, kept))
        # What a part has alone may differ from its share of the whole, by a token or so. Counting
        # each part as it is cut takes a call each, all in the end takes one.
        return cutter.cut(exactly=False) or cutter.cut(exactly=True)


@dataclass(frozen=True, slots=True)
class _Cutter:
    """One document on its way into chunks; K words of it are kept.

    Attributes:
        chunker: The settings.
        text: The original.
        words: Its words, W of them.
        kept: Places of the kept words among them, shape (K,).
        counts: Tokens of each kept word in the compressed text, shape (K,).
        places: How good it is to cut behind each kept word, shape (K,).
    """

    chunker: Chunker
    text: str
    words: Words
    kept: NDArray[np.int64]
    counts: NDArray[np.int32]
    places: NDArray[np.int64]

    def cut(self, *, exactly: bool) -> list[Chunk]:
        """The chunks; if not exactly, then none where one of them has too many tokens."""
        ends = np.concatenate([[0], np.cumsum(self.counts)])
        ranges: list[tuple[int, int]] = []
        start, covered = 0, 0
        while covered < len(self.kept):
            stop = self._choose_stop(ends, start, covered)
            while exactly and stop - start > 1 and self._count(start, stop) > self._limit:
                stop -= 1
            if stop <= covered:
                start = covered  # there is no room for an overlap
                continue
            ranges.append((start, stop))
            start, covered = self._choose_start(ends, start, stop), stop
        chunks = self._build(ranges)
        if not exactly and any(
            chunk.num_tokens > self._limit and stop - start > 1
            for chunk, (start, stop) in zip(chunks, ranges, strict=True)
        ):
            return []
        return chunks

    @property
    def _limit(self) -> int:
        return self.chunker.max_tokens

    def _choose_stop(self, ends: NDArray[np.int64], start: int, covered: int) -> int:
        """Behind the last kept word of a chunk that begins with the one at `start`."""
        latest = int(np.searchsorted(ends, ends[start] + self._limit, side="right")) - 1
        latest = max(latest, start + 1)
        if latest >= len(self.kept):
            return len(self.kept)
        earliest = int(np.searchsorted(ends, ends[start] + 3 * self._limit // 4))
        earliest = max(earliest, start + 1, covered + 1)
        if earliest > latest:
            return latest
        quality = self.places[earliest - 1 : latest]
        return latest - int(np.argmax(quality[::-1]))

    def _choose_start(self, ends: NDArray[np.int64], start: int, stop: int) -> int:
        """The first kept word of the chunk after one of `[start, stop)`."""
        if self.chunker.overlap == 0:
            return stop
        first = int(np.searchsorted(ends, ends[stop] - self.chunker.overlap))
        first = max(first, start + 1)
        if first >= stop:
            return stop
        return first + int(np.argmax(self.places[first - 1 : stop - 1]))

    def _spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """What some kept words are in the original, as `merge_kept_words` has it."""
        own = self.kept[start:stop]
        gaps = np.diff(own) > 1
        starts = self.words.starts[own[np.append(True, gaps)]].tolist()
        ends = self.words.ends[own[np.append(gaps, True)]].tolist()
        if own[0] == 0:
            starts[0] = 0
        if own[-1] == len(self.words) - 1:
            ends[-1] = len(self.text)
        return list(zip(starts, ends, strict=True))

    def _render(self, spans: Sequence[tuple[int, int]]) -> str:
        first, last = spans[0][0], spans[-1][1]
        return render(self.text[first:last], [(a - first, b - first) for a, b in spans])

    def _count(self, start: int, stop: int) -> int:
        return self.chunker.tokenizer.count(self._render(self._spans(start, stop)))

    def _build(self, ranges: Sequence[tuple[int, int]]) -> list[Chunk]:
        spans = [self._spans(start, stop) for start, stop in ranges]
        texts = [self._render(own) for own in spans]
        counts = [len(tokens) for tokens in self.chunker.tokenizer.tokenize(texts)]
        return [
            Chunk(index, text, own, own[0][0], own[-1][1], num_tokens)
            for index, (text, own, num_tokens) in enumerate(zip(texts, spans, counts, strict=True))
        ]


def _rate_places(text: str, words: Words, kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """How good it is to cut behind each kept word, by what stood up to the next, shape (K,)."""
    codes = code_points(text)
    classes = look_up(codes)
    following = np.append(kept[1:], len(words))
    gap_starts = words.ends[kept]
    gap_ends = np.append(words.starts, len(text))[following]

    def count(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
        sums = np.concatenate([[0], np.cumsum(flags)])
        found: NDArray[np.int64] = sums[gap_ends] - sums[gap_starts]
        return found

    is_break = classes & NEWLINE != 0
    is_break[1:] &= (codes[1:] != ord("\n")) | (codes[:-1] != ord("\r"))
    breaks = count(is_break)
    is_mark = (words.ends - words.starts == 1) & (classes[words.starts] & SENTENCE_END != 0)
    marks = np.concatenate([[0], np.cumsum(is_mark)])
    places = np.where(count(classes & SPACE != 0) > 0, _SPACE, 0)
    places[(breaks > 0) | (marks[following] > marks[kept])] = _SENTENCE
    places[breaks > 1] = _BLANK_LINE
    # A chunk that began with a closing mark would have it from the sentence before.
    places[:-1][classes[words.starts[kept[1:]]] & CLOSING != 0] = 0
    return places
