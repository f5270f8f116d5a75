"""A compressed document: what was kept of a text, and why."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moos.chunks import Chunk
from moos.words import Words


@dataclass(frozen=True, slots=True)
class Word:
    """One word of the original text and the decision about it.

    Attributes:
        start: First character, in code points of the original text.
        end: One past the last character.
        preserve_probability: Probability of the class "preserve", reduced over the word's tokens
            and rounded to the 1/4096 grid.
        outlier_score: The same of the outlier score.
        score: What the word was ranked by.
        protected: The word stays whatever its score.
        kept: The decision.
    """

    start: int
    end: int
    preserve_probability: float
    outlier_score: float
    score: float
    protected: bool
    kept: bool


@dataclass(frozen=True, slots=True)
class WordTable:
    """The words of a document as columns of shape (W,); see `Word` for their meaning."""

    words: Words
    preserve_probability: NDArray[np.float32]
    outlier_score: NDArray[np.float32]
    score: NDArray[np.float32]
    protected: NDArray[np.bool_]
    kept: NDArray[np.bool_]


@dataclass(frozen=True)
class CompressedDocument:
    """A text's compression: slices of it, joined by separators.

    Attributes:
        text: The compressed text; equals `render(original, spans)`.
        spans: Half-open code point ranges of the original that were kept, sorted and disjoint.
        num_tokens: Tokens of the original, by the budget's tokenizer.
        num_kept_tokens: Tokens kept, by the same tokenizer.
        over_budget: Protected words alone exceeded the budget.
        num_encoder_tokens: Tokens of the original by the compressor's own tokenizer.
        num_unknown_tokens: Those of them that its vocabulary does not know.
        num_letters: Letters of the original, of any script.
        num_non_latin_letters: Those of scripts other than Latin.
        word_table: Every word with its scores and the decision, as columns.
        chunks: What a `Chunker` cut the compressed text into, where one was told to.
    """

    text: str
    spans: list[tuple[int, int]]
    num_tokens: int
    num_kept_tokens: int
    over_budget: bool
    num_encoder_tokens: int
    num_unknown_tokens: int
    num_letters: int
    num_non_latin_letters: int
    word_table: WordTable
    chunks: tuple[Chunk, ...] = ()

    @property
    def rate(self) -> float:
        """Kept tokens / all tokens; 1 for a document without tokens."""
        return self.num_kept_tokens / self.num_tokens if self.num_tokens else 1.0

    @cached_property
    def words(self) -> list[Word]:
        """Every word of the original, in order, with its scores and the decision."""
        table = self.word_table
        columns = (
            table.words.starts,
            table.words.ends,
            table.preserve_probability,
            table.outlier_score,
            table.score,
            table.protected,
            table.kept,
        )
        return [Word(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
