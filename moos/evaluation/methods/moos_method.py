"""This library as a method: its scores, its protection, its selection."""

from collections.abc import Iterator, Sequence
from typing import Literal

from moos.compressor import Compressor, check_threshold
from moos.config import ALL_PROTECTED, ProtectedClass, SelectionConfig
from moos.corpus import find_threshold
from moos.errors import ConfigError, DataError
from moos.evaluation.methods.budgets import make_largest
from moos.joined_texts import group_by_chars
from moos.scored_text import (
    ProtectedText,
    ScoredText,
    compress_protected,
    count_scores,
    protect_scored,
)
from moos.selector import Selector
from moos.tokens import TextTokenizer

NUM_RATES = 8192
"""Corpus rates that are told apart, in steps of 0.012 % of the corpus's tokens."""


class MoosMethod:
    """Compresses contexts by a `Compressor`; each context is scored once for all budgets."""

    def __init__(
        self,
        name: str,
        compressor: Compressor,
        tokenizer: TextTokenizer,
        *,
        protect: Sequence[ProtectedClass] = ALL_PROTECTED,
        budget_per: Literal["context", "corpus"] = "context",
    ) -> None:
        """Take a compressor.

        Args:
            name: What reports call it.
            compressor: What scores words.
            tokenizer: What budgets are counted by.
            protect: Classes of words that stay whatever their score.
            budget_per: `context`: each context meets its own budget. `corpus`: all contexts of a
                call together meet the sum of their budgets, by one threshold.

        Raises:
            ConfigError: One threshold is asked for on scores that are not comparable.
        """
        self.name = name
        self._compressor = compressor
        self._tokenizer = tokenizer
        self._protect = tuple(protect)
        self._is_corpus = budget_per == "corpus"
        # The threshold, not this rate, decides; it is found for each call.
        self._corpus_config = SelectionConfig(corpus_rate=1.0, protect=self._protect)
        if self._is_corpus:
            try:
                check_threshold(self._corpus_config, compressor.scoring)
            except ConfigError as error:
                raise ConfigError(f"method {name!r} with budget_per=corpus: {error}") from error
        self._scored: dict[str, ProtectedText] = {}

    def compress(self, contexts: Sequence[str], budgets: Sequence[int]) -> list[str]:
        """The contexts' compressions; protected words alone may exceed a budget.

        Raises:
            DataError: A context is not valid Unicode.
        """
        self._score(contexts)
        if self._is_corpus:
            return self._compress_corpus(contexts, sum(budgets))
        selectors = {budget: self._selector(budget) for budget in set(budgets)}
        return [
            self._render(context, selectors[budget])
            for context, budget in zip(contexts, budgets, strict=True)
        ]

    def _selector(self, budget: int) -> Selector:
        config = SelectionConfig(target_tokens=budget, protect=self._protect)
        return Selector(config, self._tokenizer)

    def _render(self, context: str, selector: Selector) -> str:
        (document,) = compress_protected([self._scored[context]], selector)
        return document.text

    def _score(self, contexts: Sequence[str]) -> None:
        """Score those contexts that were not scored before."""
        selector = Selector(self._corpus_config)
        new = [context for context in dict.fromkeys(contexts) if context not in self._scored]
        for scored in score_texts(self._compressor, new):
            (found,) = protect_scored([scored], selector)
            if isinstance(found, DataError):
                raise found
            self._scored[scored.text] = found

    def _compress_corpus(self, contexts: Sequence[str], budget: int) -> list[str]:
        def fits(compressed: list[str]) -> bool:
            return sum(map(self._tokenizer.count, compressed)) <= budget

        if fits(list(contexts)):
            return list(contexts)
        histogram = count_scores([self._scored[context] for context in contexts])

        def compress_at(setting: int) -> list[str]:
            # Rates are of the encoder's tokens; which one meets a budget of the reader's is
            # known when the compressions are encoded.
            threshold = find_threshold(histogram, setting / NUM_RATES)
            selector = Selector(self._corpus_config, corpus=threshold)
            return [self._render(context, selector) for context in contexts]

        return make_largest(compress_at, fits, NUM_RATES)


def score_texts(compressor: Compressor, texts: Sequence[str]) -> Iterator[ScoredText]:
    """The word scores of texts, in order.

    Raises:
        DataError: A text is not valid Unicode.
    """
    for group in group_by_chars(texts, [len(text) for text in texts]):
        parts = []
        for part in compressor.preparer.prepare(group):
            if isinstance(part, DataError):
                raise part
            parts.append(part)
        yield from compressor.score(parts)
