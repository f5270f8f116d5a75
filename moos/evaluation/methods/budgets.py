"""Meeting a budget of the reader's tokens, which only encoding the compressed text can count."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from moos.rendering import merge_kept_words, render
from moos.selection import select_by_count
from moos.tokens import TextTokenizer
from moos.words import Words

T = TypeVar("T")


def compress_by_scores(
    text: str,
    words: Words,
    scores: NDArray[np.float32],
    budget: int,
    tokenizer: TextTokenizer,
) -> str:
    """Keep the highest-scoring words that fit a budget, as `Selector` does with nothing protected.

    A text within the budget comes back whole, as does one without words.

    Args:
        text: The text.
        words: Its words.
        scores: One per word, shape (W,); ties go to the earlier word. Words that score -inf stay
            only in a text that stays whole: the budget may then be left half used.
        budget: Most tokens of the compression.
        tokenizer: What counts them.
    """
    if len(words) == 0 or tokenizer.count(text) <= budget:
        return text
    is_candidate = scores > -np.inf

    def show(keep: NDArray[np.bool_]) -> str:
        return render(text, merge_kept_words(keep & is_candidate, words, len(text)))

    keep, _ = select_by_count(
        scores,
        np.ones(len(words), dtype=np.int32),
        np.zeros(len(words), dtype=np.bool_),
        budget,
        lambda keep: tokenizer.count(show(keep)),
    )
    return show(keep)


def make_largest(make: Callable[[int], T], fits: Callable[[T], bool], num_settings: int) -> T:
    """What the largest setting that fits makes, by bisection; the smallest's where none fits.

    Args:
        make: From a setting, 0 to `num_settings` - 1, to what it makes.
        fits: Whether that is within the budget.
        num_settings: Number of settings, at least 1.
    """
    best = make(0)
    if not fits(best):
        return best
    largest, overflows = 0, num_settings
    while overflows - largest > 1:
        middle = (largest + overflows) // 2
        made = make(middle)
        if fits(made):
            largest, best = middle, made
        else:
            overflows = middle
    return best
