"""Many texts in one string: a rule that looks at characters is applied to all of them at once.

A call of numpy costs about a microsecond whatever it is given, and a text takes some two hundred of
them: as much as the model spends on ten tokens. So texts are worked in groups, and what belongs to
one of them is a slice of what belongs to the group.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moos.characters import code_points, look_up
from moos.listed_words import Runs, read_runs
from moos.words import Words, cut_words

GROUP_CHARS = 1 << 18
"""Characters worked together: enough to fill micro-batches, few enough to bound memory."""

SEPARATOR = "\n\n"
"""What stands between two texts. Words end at white space, and no expression that is matched on
joined texts takes two line breaks, so no rule sees from one text into the next."""


@dataclass(frozen=True)
class JoinedTexts:
    """Several texts in one string, with their words.

    Attributes:
        texts: The texts.
        joined: The string: the texts with `SEPARATOR` between them, and nothing else.
        starts: First character of each text in `joined`, shape (N,).
        ends: One past the last character of each text in `joined`, shape (N,).
    """

    texts: Sequence[str]
    joined: str
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    _known_words: Sequence[Words] | None

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def codes(self) -> NDArray[np.uint32]:
        """The code point of each character of `joined`, shape (C,)."""
        return code_points(self.joined)

    @cached_property
    def classes(self) -> NDArray[np.uint32]:
        """The class bits of each character of `joined`, shape (C,)."""
        return look_up(self.codes)

    @cached_property
    def runs(self) -> Runs:
        """The runs of letters and numerals, as characters of `joined`."""
        return read_runs(self.codes, self.classes)

    @cached_property
    def words(self) -> Words:
        """The words of all texts, as characters of `joined`; W of them."""
        if self._known_words is None:
            return cut_words(self.joined, self.classes)
        starts = np.concatenate([_NO_PLACES, *(words.starts for words in self._known_words)])
        ends = np.concatenate([_NO_PLACES, *(words.ends for words in self._known_words)])
        shift = np.repeat(self.starts, [len(words) for words in self._known_words])
        return Words((starts + shift).astype(np.int32), (ends + shift).astype(np.int32))

    @cached_property
    def bounds(self) -> NDArray[np.int64]:
        """The first word of each text, and behind the last text W; shape (N + 1,)."""
        return np.append(np.searchsorted(self.words.starts, self.starts), len(self.words))

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """The text that each word belongs to, shape (W,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.bounds))

    def split_words(self) -> list[Words]:
        """The words of each text, as characters of that text."""
        shift = self.starts[self.owners]
        starts = split_column((self.words.starts - shift).astype(np.int32), self.bounds)
        ends = split_column((self.words.ends - shift).astype(np.int32), self.bounds)
        return [Words(*columns) for columns in zip(starts, ends, strict=True)]


_NO_PLACES = np.zeros(0, dtype=np.int32)


def join_texts(texts: Sequence[str], words: Sequence[Words] | None = None) -> JoinedTexts:
    """Join texts.

    Args:
        texts: The texts.
        words: The words of each, where they are known; else they are cut when they are asked for.
    """
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    starts = np.cumsum(lengths + len(SEPARATOR)) - lengths - len(SEPARATOR)
    return JoinedTexts(texts, SEPARATOR.join(texts), starts, starts + lengths, words)


def split_column(column: NDArray[Any], bounds: NDArray[np.int64]) -> list[NDArray[Any]]:
    """The part of each text as a view: a kept part keeps its group's whole column in memory.

    Args:
        column: A value per word, token, or whatever the bounds count.
        bounds: Where each text's part begins, and where the last one's ends, shape (N + 1,).
    """
    return [column[start:stop] for start, stop in pairwise(bounds.tolist())]


def bounds_of(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Bounds of parts that lie end to end, shape (N + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def group_by_chars(items: Sequence[Any], chars: Sequence[int]) -> Iterator[Sequence[Any]]:
    """Consecutive items of about `GROUP_CHARS` together; a longer one ends its group.

    Args:
        items: Whatever holds the texts.
        chars: Characters of each.
    """
    start, held = 0, 0
    for index, count in enumerate(chars):
        held += count
        if held >= GROUP_CHARS:
            yield items[start : index + 1]
            start, held = index + 1, 0
    if start < len(items):
        yield items[start:]
