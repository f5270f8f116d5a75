"""What the report wants to know of a split's documents, small enough for its done record."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moos.document import CompressedDocument

SCORE_BINS = 20
"""Equal bins over [0, 1] for the histograms of words' scores."""

EXTREMES = 3
"""Documents remembered of each split at either end of the rates."""

MIN_TOKENS = 20
"""Shorter documents are no extremes: of two words, half is one."""


class DocumentPlace(NamedTuple):
    """A document among a split's rows.

    Attributes:
        rate: Its kept / all tokens.
        num_tokens: Its tokens.
        row: Its place in the split's data file, counted from 0.
    """

    rate: float
    num_tokens: int
    row: int


@dataclass(slots=True)
class DocumentDigest:
    """Words by score, and the documents that were compressed most and least.

    Attributes:
        kept: Kept words by score, shape (SCORE_BINS,).
        dropped: Dropped words by score, the same.
        most: The most compressed documents, first the one that kept the smallest share.
        least: The least compressed ones, first the one that kept the largest.
    """

    kept: NDArray[np.int64] = field(default_factory=lambda: np.zeros(SCORE_BINS, dtype=np.int64))
    dropped: NDArray[np.int64] = field(default_factory=lambda: np.zeros(SCORE_BINS, dtype=np.int64))
    most: list[DocumentPlace] = field(default_factory=list)
    least: list[DocumentPlace] = field(default_factory=list)

    def add(self, documents: Sequence[CompressedDocument], rows: Iterable[int]) -> None:
        """Take documents.

        Args:
            documents: The documents.
            rows: Where each of them stands in the data file.
        """
        if not documents:
            return
        tables = [document.word_table for document in documents]
        scores = np.concatenate([table.score for table in tables])
        keep = np.concatenate([table.kept for table in tables])
        self.kept += _histogram(scores[keep])
        self.dropped += _histogram(scores[~keep])
        found = [
            DocumentPlace(round(document.rate, 6), document.num_tokens, row)
            for document, row in zip(documents, rows, strict=True)
            if document.num_tokens >= MIN_TOKENS
        ]
        self.add_places(found, found)

    def add_places(self, most: Iterable[DocumentPlace], least: Iterable[DocumentPlace]) -> None:
        """Take documents that may be the most, or the least, compressed."""
        self.most = most_compressed([*self.most, *most])[:EXTREMES]
        self.least = least_compressed([*self.least, *least])[:EXTREMES]

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads back."""
        return {
            "kept_words_by_score": self.kept.tolist(),
            "dropped_words_by_score": self.dropped.tolist(),
            "most_compressed": [list(place) for place in self.most],
            "least_compressed": [list(place) for place in self.least],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "DocumentDigest":
        """Read what `to_json` wrote."""
        return cls(
            np.array(value["kept_words_by_score"], dtype=np.int64),
            np.array(value["dropped_words_by_score"], dtype=np.int64),
            [DocumentPlace(*place) for place in value["most_compressed"]],
            [DocumentPlace(*place) for place in value["least_compressed"]],
        )


def most_compressed(places: Iterable[DocumentPlace]) -> list[DocumentPlace]:
    """Documents by rate, the lowest first; the longer of equals first, then the earlier."""
    return sorted(places, key=lambda place: (place.rate, -place.num_tokens, place.row))


def least_compressed(places: Iterable[DocumentPlace]) -> list[DocumentPlace]:
    """The same, the highest first."""
    return sorted(places, key=lambda place: (-place.rate, -place.num_tokens, place.row))


def _histogram(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = np.histogram(scores, SCORE_BINS, (0.0, 1.0))[0]
    return counts
