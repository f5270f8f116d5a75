"""Checks one row of an output against its own promises."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moos.chunks import Chunker
from moos.corpus import score_levels
from moos.errors import DataError
from moos.joined_texts import join_texts
from moos.rendering import merge_kept_words, render, words_in_spans
from moos.schema import CHUNKS, annotation_schema, chunk_rows
from moos.scores import GRID
from moos.storage import Storage
from moos.words import Words, count_tokens, cut_words, map_tokens
from pipelines.run_selector import read_selector, read_tokenizer
from pipelines.run_state import TOKENIZER


class RowChecker:
    """Checks one row's promises with the run's own settings."""

    sums = ("tokens", "kept_tokens")

    def __init__(self, manifest: Mapping[str, Any], output: Storage) -> None:
        """Prepare the selection's expressions and the tokenizers that counted."""
        signature = manifest["signature"]
        self._tokenizer = read_tokenizer(output, TOKENIZER)
        self._selector = read_selector(output, manifest)
        self._text_column = signature["input.text_column"]
        self._annotations = signature["output.annotations"]
        max_tokens = signature.get("output.chunks.tokens")
        added = annotation_schema(self._annotations, chunks=max_tokens is not None)
        self.columns = [self._text_column, *added.names]
        self._chunker = None
        if max_tokens is not None:
            counter = self._selector.budget_tokenizer or self._tokenizer
            self._chunker = Chunker(counter, max_tokens, signature["output.chunks.overlap"])

    def count(self, row: Mapping[str, Any]) -> dict[str, int]:
        """What a row adds to the totals."""
        return {"tokens": row["num_tokens"], "kept_tokens": row["num_kept_tokens"]}

    def check(self, row: Mapping[str, Any]) -> Iterator[str]:
        """Every promise that the row breaks."""
        text = row[self._text_column]
        if not isinstance(text, str):
            yield f"{self._text_column} is {type(text).__name__}, not a string"
            return
        spans = [(span["start"], span["end"]) for span in row["kept_spans"]]
        try:
            rendered = render(text, spans)
        except DataError as error:
            yield f"kept_spans: {error}"
            return
        if rendered != row["compressed_text"]:
            yield "compressed_text is not render(text, kept_spans)"
        words = cut_words(text)
        keep = words_in_spans(words, spans)
        if merge_kept_words(keep, words, len(text)) != spans:
            yield "kept_spans do not begin and end with words"
        tokens = self._tokenizer.tokenize([text])[0]
        counts = count_tokens(map_tokens(tokens, words), len(words))
        found = _Row(row, text, rendered, words, keep, len(tokens), counts)
        yield from self._check_counts(found)
        yield from self._check_annotations(found)
        yield from self._check_decision(found)
        if self._chunker is not None:
            yield from _check_chunks(row, text, self._chunker)

    def _check_counts(self, found: "_Row") -> Iterator[str]:
        row, text, words, keep = found.row, found.text, found.words, found.keep
        num_tokens, num_kept = row["num_tokens"], row["num_kept_tokens"]
        counts, expected = found.token_counts, found.num_tokens
        expected_kept = int(counts[keep].sum()) if len(words) else expected
        if (reader := self._selector.budget_tokenizer) is not None:
            expected, expected_kept = reader.count(text), reader.count(found.rendered)
        if num_tokens != expected:
            yield f"num_tokens is {num_tokens}, the tokenizer gives {expected}"
        if num_kept != expected_kept:
            yield f"num_kept_tokens is {num_kept}, the kept words hold {expected_kept}"
        rate = num_kept / num_tokens if num_tokens else 1.0
        if abs(row["rate"] - rate) > 1e-6:
            yield f"rate is {row['rate']}, num_kept_tokens / num_tokens is {rate:.6f}"
        budgets = self._selector.budgets([num_tokens])
        budget = None if budgets is None else budgets[0]
        over = budget is not None and num_kept > budget
        if over != row["over_budget"]:
            yield f"over_budget is {row['over_budget']} with {num_kept} tokens kept of {budget}"
        protected = self._protect(found)
        lost = np.flatnonzero(protected & ~keep)
        if len(lost):
            word = text[words.starts[lost[0]] : words.ends[lost[0]]]
            yield f"protected word {word!r} at {words.starts[lost[0]]} was dropped"
        dropped = counts[~keep]
        if self._selector.budget_tokenizer is None and budget is not None and len(dropped):
            unused = budget - num_kept
            if unused >= dropped.max():
                yield f"{unused} tokens of the budget are unused, and any dropped word would fit"
        if over and np.any(keep & ~protected & (counts > 0)):
            yield "over budget, yet a word that is not protected was kept"

    def _check_annotations(self, found: "_Row") -> Iterator[str]:
        if self._annotations == "none":
            return
        words, keep, listed = found.words, found.keep, found.row["kept_words"]
        wanted = np.ones_like(keep) if self._annotations == "all" else keep
        expected = list(
            zip(words.starts[wanted].tolist(), words.ends[wanted].tolist(), strict=True)
        )
        if [(word["start"], word["end"]) for word in listed] != expected:
            yield "kept_words are not the kept words of the text"
        if self._annotations == "all" and [w["kept"] for w in listed] != keep.tolist():
            yield "kept flags differ from kept_spans"
        for name in ("preserve_probability", "outlier_score", "score"):
            values = np.array([word[name] for word in listed], dtype=np.float64)
            if np.any((values < 0) | (values > 1) | (values * GRID != np.rint(values * GRID))):
                yield f"{name} leaves [0, 1] or its grid of 1/{GRID}"

    def _check_decision(self, found: "_Row") -> Iterator[str]:
        """The decision follows from the scores, where the row holds what that takes."""
        words, keep, counts = found.words, found.keep, found.token_counts
        if self._annotations == "none" or len(words) == 0:
            return
        scores = np.array([word["score"] for word in found.row["kept_words"]], dtype=np.float32)
        if self._annotations == "all" and len(scores) == len(words):
            decided = self._selector.select(
                join_texts([found.text], [words]),
                scores,
                counts,
                num_tokens=[found.num_tokens],
                protected=self._protect(found),
            )
            if not np.array_equal(decided.keep, keep):
                yield "the words kept are not those that their scores and the budget select"
        elif (corpus := self._selector.corpus) is not None and len(scores) == keep.sum():
            protected = self._protect(found)
            chosen = ~protected[keep] & (counts[keep] > 0)
            lowest = score_levels(scores[chosen]).min(initial=corpus.level)
            if lowest < corpus.level - 1:
                yield f"a word that scores {lowest / GRID:.4f} was kept, under the threshold"

    def _protect(self, found: "_Row") -> NDArray[np.bool_]:
        protection = self._selector.protect(join_texts([found.text], [found.words]))
        for error in protection.errors.values():
            raise error
        return protection.mask


@dataclass(frozen=True, slots=True)
class _Row:
    """A row with what its text and its spans say: words, keep mask (W,), tokens (W,)."""

    row: Mapping[str, Any]
    text: str
    rendered: str
    words: Words
    keep: NDArray[np.bool_]
    num_tokens: int
    token_counts: NDArray[np.int32]


def _check_chunks(row: Mapping[str, Any], text: str, chunker: Chunker) -> Iterator[str]:
    """Each chunk is slices of the original within its limit; all are as the chunker cuts them."""
    for chunk in row[CHUNKS]:
        spans = [(span["start"], span["end"]) for span in chunk["kept_spans"]]
        try:
            rendered = render(text, spans)
        except DataError as error:
            yield f"chunk {chunk['index']}: {error}"
            return
        if rendered != chunk["text"]:
            yield f"text of chunk {chunk['index']} is not render(text, its kept_spans)"
    spans = [(span["start"], span["end"]) for span in row["kept_spans"]]
    if chunk_rows(chunker.cut(text, spans)) != row[CHUNKS]:
        yield f"chunks are not those of at most {chunker.max_tokens} tokens that the row gives"
