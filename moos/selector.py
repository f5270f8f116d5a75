"""Selection as configured: expressions compiled, reader's tokenizer loaded, budget applied."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moos.config import SelectionConfig
from moos.corpus import CorpusThreshold
from moos.protect import ProtectedPattern, compile_patterns, protect_words
from moos.rendering import merge_kept_words, render
from moos.selection import (
    budget_of_rate,
    select_by_budget,
    select_by_count,
    select_by_level,
    select_by_threshold,
)
from moos.tokens import TextTokenizer
from moos.words import Words


@dataclass(frozen=True, slots=True)
class Selection:
    """The decision about a text's words, and its counts in the budget's tokens.

    Attributes:
        keep: True for each word that stays, shape (W,).
        protected: True for each word that stays whatever its score, shape (W,).
        num_tokens: Tokens of the text.
        num_kept_tokens: Tokens kept; all of them for a text without words.
        over_budget: What must stay alone exceeds the budget: the protected words, or the whole of
            a text that has tokens but no words.
    """

    keep: NDArray[np.bool_]
    protected: NDArray[np.bool_]
    num_tokens: int
    num_kept_tokens: int
    over_budget: bool


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

    def budget(self, num_tokens: int) -> int | None:
        """Tokens that a document of `num_tokens` may keep; None where a threshold decides."""
        if self.config.target_tokens is not None:
            return self.config.target_tokens
        rate = self.config.effective_rate
        return None if rate is None else budget_of_rate(rate, num_tokens)

    def protected(self, text: str, words: Words) -> NDArray[np.bool_]:
        """True for each word that stays whatever its score, shape (W,).

        Raises:
            DataError: A protected pattern takes too long on this text.
        """
        return protect_words(text, words, self.patterns)

    def select(
        self,
        text: str,
        words: Words,
        scores: NDArray[np.float32],
        token_counts: NDArray[np.int32],
        *,
        num_tokens: int,
        protected: NDArray[np.bool_] | None = None,
    ) -> Selection:
        """Decide about every word of a text.

        Args:
            text: The original text.
            words: Its words.
            scores: One score per word, shape (W,).
            token_counts: The compressor's tokens of each word, shape (W,).
            num_tokens: The compressor's tokens of the whole text.
            protected: The protected words, shape (W,), where they are known already.

        Raises:
            DataError: A protected pattern takes too long on this text.
        """
        if protected is None:
            protected = self.protected(text, words)
        if self.budget_tokenizer is not None:
            num_tokens = self.budget_tokenizer.count(text)
        budget = self.budget(num_tokens)
        fits = budget is None or num_tokens <= budget
        if len(words) == 0 or (fits and budget is not None):
            return Selection(np.ones_like(protected), protected, num_tokens, num_tokens, not fits)
        if budget is None:
            keep = self._select_by_threshold(scores, token_counts, protected)
            return Selection(keep, protected, num_tokens, int(token_counts[keep].sum()), False)
        if self.budget_tokenizer is None:
            keep = select_by_budget(scores, token_counts, protected, budget)
            num_kept = int(token_counts[keep].sum())
        else:
            tokenizer = self.budget_tokenizer

            def count(mask: NDArray[np.bool_]) -> int:
                return tokenizer.count(render(text, merge_kept_words(mask, words, len(text))))

            keep, num_kept = select_by_count(scores, token_counts, protected, budget, count)
        return Selection(keep, protected, num_tokens, num_kept, num_kept > budget)

    def _select_by_threshold(
        self,
        scores: NDArray[np.float32],
        token_counts: NDArray[np.int32],
        protected: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        if self.config.threshold is not None:
            return select_by_threshold(scores, token_counts, protected, self.config.threshold)
        assert self.corpus is not None, "a corpus rate is selected by the corpus's threshold"
        tied_share = (self.corpus.tied_kept, self.corpus.tied_tokens)
        return select_by_level(scores, token_counts, protected, self.corpus.level, tied_share)
