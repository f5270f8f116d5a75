"""Selection as configured: expressions compiled, reader's tokenizer loaded, budget applied."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moos.config import SelectionConfig
from moos.corpus import CorpusThreshold
from moos.joined_texts import JoinedTexts
from moos.protect import ProtectedPattern, Protection, compile_patterns, protect_words
from moos.rendering import merge_kept_words, render
from moos.selection import (
    budgets_of_rate,
    select_by_budget,
    select_by_count,
    select_by_level,
    select_by_threshold,
    sum_by_text,
)
from moos.tokens import TextTokenizer
from moos.words import Words

Columns = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.bool_]]
"""Of each word its score, its tokens, and whether it is protected."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The decision about the words of some texts, and their counts in the budget's tokens.

    Attributes:
        keep: True for each word that stays, shape (W,).
        num_tokens: Tokens of each text.
        num_kept_tokens: Tokens kept of each; all of them of a text without words.
        over_budget: Of each text whether what must stay alone exceeds the budget: the protected
            words, or the whole of a text that has tokens but no words.
    """

    keep: NDArray[np.bool_]
    num_tokens: list[int]
    num_kept_tokens: list[int]
    over_budget: list[bool]


class Selector:
    """A validated `SelectionConfig`, ready to decide about texts."""

    def __init__(
        self,
        config: SelectionConfig,
        budget_tokenizer: TextTokenizer | None = None,
        *,
        corpus: CorpusThreshold | None = None,
    ) -> None:
        """Compile and load.

        Args:
            config: The selection.
            budget_tokenizer: The reader's tokenizer where it is loaded already; else it is read
                from `config.budget_tokenizer`, if that is set.
            corpus: The corpus's threshold, needed to select by `config.corpus_rate`.

        Raises:
            ModelError: `budget_tokenizer` cannot be read.
        """
        self.config = config
        self.patterns: list[ProtectedPattern] = compile_patterns(
            config.protect, config.protect_words, config.protect_patterns
        )
        if budget_tokenizer is None and config.budget_tokenizer is not None:
            budget_tokenizer = TextTokenizer.from_file(config.budget_tokenizer)
        self.budget_tokenizer = budget_tokenizer
        self.corpus = corpus
        self.on_progress: Callable[[], None] = _do_nothing
        """Called between texts where one alone may take seconds."""

    def budgets(self, nums_tokens: Sequence[int]) -> list[int] | None:
        """Tokens that texts of so many may keep; None where a threshold decides."""
        if self.config.target_tokens is not None:
            return [self.config.target_tokens] * len(nums_tokens)
        rate = self.config.effective_rate
        return None if rate is None else budgets_of_rate(rate, nums_tokens)

    def protect(self, texts: JoinedTexts) -> Protection:
        """The words that stay whatever their score, and texts on which a pattern takes too long."""
        return protect_words(texts, self.patterns, self.on_progress)

    def select(
        self,
        texts: JoinedTexts,
        scores: NDArray[np.float32],
        token_counts: NDArray[np.int32],
        *,
        num_tokens: Sequence[int],
        protected: NDArray[np.bool_],
    ) -> Selection:
        """Decide about every word of some texts.

        Args:
            texts: The texts.
            scores: One score per word, shape (W,).
            token_counts: The compressor's tokens of each word, shape (W,).
            num_tokens: The compressor's tokens of each text.
            protected: The protected words, shape (W,).
        """
        if self.budget_tokenizer is not None:
            num_tokens = [len(tokens) for tokens in self.budget_tokenizer.tokenize(texts.texts)]
        budgets = self.budgets(num_tokens)
        is_whole = np.diff(texts.bounds) == 0
        if budgets is not None:
            is_whole |= np.array(num_tokens) <= np.array(budgets)
        columns = (scores, token_counts, protected)
        if budgets is None:
            keep = self._select_by_threshold(columns, texts.bounds)
            num_kept = sum_by_text(token_counts * keep, texts.bounds)
        elif self.budget_tokenizer is None:
            limits = np.minimum(budgets, num_tokens).astype(np.int64)
            keep = select_by_budget(*columns, texts.bounds, limits)
            num_kept = sum_by_text(token_counts * keep, texts.bounds)
        else:
            keep, num_kept = self._select_by_count(texts, columns, budgets, is_whole)
        keep |= is_whole[texts.owners]
        nums_kept = np.where(is_whole, num_tokens, num_kept).tolist()
        over_budget = [
            budgets is not None and kept > budgets[place] for place, kept in enumerate(nums_kept)
        ]
        return Selection(keep, list(num_tokens), nums_kept, over_budget)

    def _select_by_threshold(
        self, columns: Columns, bounds: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        if self.config.threshold is not None:
            return select_by_threshold(*columns, bounds, self.config.threshold)
        assert self.corpus is not None, "a corpus rate is selected by the corpus's threshold"
        tied_share = (self.corpus.tied_kept, self.corpus.tied_tokens)
        return select_by_level(*columns, bounds, self.corpus.level, tied_share)

    def _select_by_count(
        self,
        texts: JoinedTexts,
        columns: Columns,
        budgets: Sequence[int],
        is_whole: NDArray[np.bool_],
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """The keep mask and the reader's tokens kept of each text; of those not whole only."""
        tokenizer = self.budget_tokenizer
        assert tokenizer is not None, "counting takes the reader's tokenizer"
        keep = np.zeros(len(texts.words), dtype=np.bool_)
        num_kept = np.zeros(len(texts), dtype=np.int64)
        all_words = texts.split_words()
        for place in np.flatnonzero(~is_whole).tolist():
            self.on_progress()
            text, words = texts.texts[place], all_words[place]

            def count(mask: NDArray[np.bool_], text: str = text, words: Words = words) -> int:
                return tokenizer.count(render(text, merge_kept_words(mask, words, len(text))))

            part = slice(texts.bounds[place], texts.bounds[place + 1])
            scores, token_counts, protected = columns
            keep[part], num_kept[place] = select_by_count(
                scores[part], token_counts[part], protected[part], budgets[place], count
            )
        return keep, num_kept


def _do_nothing() -> None:
    """Nobody wants to know."""
