"""Baselines: the whole context, an empty one, and words ranked by a score.

A baseline that ranks words is a function from a text's words to scores; how scores meet a budget is
the same for all of them.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from moos.evaluation.methods.budgets import compress_by_scores
from moos.tokens import TextTokenizer
from moos.words import Words, cut_words

ScoreWords = Callable[[str, Words], NDArray[np.float32]]
"""From a text and its words to one score per word, shape (W,), higher meaning more worth keeping;
-inf for words that never stay."""

FitContexts = Callable[[Sequence[str]], ScoreWords]
"""From all contexts to the function that scores the words of each."""


class FixedMethod:
    """Leaves contexts as they are, or leaves them out, whatever the budget."""

    def __init__(self, name: str, *, is_empty: bool) -> None:
        self.name = name
        self._is_empty = is_empty

    def compress(self, contexts: Sequence[str], budgets: Sequence[int]) -> list[str]:
        """The contexts themselves, or an empty text for each."""
        return [""] * len(contexts) if self._is_empty else list(contexts)


class WordMethod:
    """Keeps the words that score highest, in their order."""

    def __init__(self, name: str, tokenizer: TextTokenizer, fit: FitContexts) -> None:
        self.name = name
        self._tokenizer = tokenizer
        self._fit = fit

    def compress(self, contexts: Sequence[str], budgets: Sequence[int]) -> list[str]:
        """The contexts' compressions; only white space without a word may exceed its budget.

        Raises:
            DataError: A context holds a lone surrogate.
        """
        score = self._fit(contexts)
        compressed = []
        for context, budget in zip(contexts, budgets, strict=True):
            words = cut_words(context)
            scores = score(context, words)
            compressed.append(compress_by_scores(context, words, scores, budget, self._tokenizer))
        return compressed


def fit_nothing(score: ScoreWords) -> FitContexts:
    """Scores that other contexts have no part in."""
    return lambda contexts: score


def score_lead(text: str, words: Words) -> NDArray[np.float32]:
    """The earlier, the higher."""
    return -np.arange(len(words), dtype=np.float32)


def random_scores(seed: int) -> ScoreWords:
    """Uniform scores, drawn from the seed and the text alone."""

    def score(text: str, words: Words) -> NDArray[np.float32]:
        digest = hashlib.sha256(f"{seed}\0{text}".encode("utf-8", "surrogatepass")).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        return generator.random(len(words), dtype=np.float32)

    return score
