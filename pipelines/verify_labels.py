"""Checks one labelled row against its own promises: no teacher is asked again."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from moos.alignment import PairBounds, PairFigures, align_pair, failed_filters
from moos.labelled_rows import FIGURES, LABELLED_SCHEMA
from moos.labels import is_held_out

_SPACED_WORD = re.compile(r"\S+")


class LabelChecker:
    """Checks one labelled row's promises with the run's own settings."""

    sums = ("words", "labelled_words", "kept_words", "passed")

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        """Take the bounds and the split of the run."""
        self.columns = LABELLED_SCHEMA.names
        signature = manifest["signature"]
        self._aligner = signature.get("teacher.aligner")
        self._bounds = PairBounds(**manifest["bounds"])
        self._share = signature["split.validation_share"]
        self._seed = signature["split.seed"]

    def count(self, row: Mapping[str, Any]) -> dict[str, int]:
        """What a row adds to the totals."""
        labels = [word["label"] for word in row["words"]]
        return {
            "words": len(labels),
            "labelled_words": sum(label is not None for label in labels),
            "kept_words": sum(label is not None and label >= 0.5 for label in labels),
            "passed": int(not row["failed_filters"]),
        }

    def check(self, row: Mapping[str, Any]) -> Iterator[str]:
        """Every promise that the row breaks."""
        text, words = row["text"], row["words"]
        spans = [(word["start"], word["end"]) for word in words]
        if spans != [match.span() for match in _SPACED_WORD.finditer(text)]:
            yield "words are not the white-space-separated words of the text"
        labels = [word["label"] for word in words]
        if any(label is not None and not 0.0 <= label <= 1.0 for label in labels):
            yield "a label lies outside [0, 1]"
        held_out = is_held_out(row["document"], self._share, self._seed)
        if row["split"] != ("validation" if held_out else "train"):
            yield f"split is {row['split']!r}, which its document's name does not give"
        figures = PairFigures(**{name: row[name] for name, _ in FIGURES})
        if list(failed_filters(figures, self._bounds)) != row["failed_filters"]:
            yield f"failed_filters is {row['failed_filters']}, which its figures do not give"
        yield from self._check_teacher(row, figures, labels)

    def _check_teacher(
        self, row: Mapping[str, Any], figures: PairFigures, labels: list[float | None]
    ) -> Iterator[str]:
        """What the compression says, against the labels that were made of it."""
        text, compressed = row["text"], row["compressed_text"]
        if self._aligner is None:  # a local teacher, which can only delete
            left = iter(text.split())
            if not all(word in left for word in compressed.split()):
                yield "compressed_text holds words that the text has not, or in another order"
            if figures.num_compressed_words != len(compressed.split()):
                yield "num_compressed_words is not that of compressed_text"
            return
        aligned = align_pair(text, compressed, aligner=self._aligner)
        if aligned.figures != figures:
            yield f"figures are not those of its alignment: {aligned.figures}"
        if not np.array_equal(aligned.keep.astype(float), np.array(labels, dtype=float)):
            yield "labels are not those of its alignment"
