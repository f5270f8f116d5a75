"""From the model's two numbers per token to one score per word, on a grid of 1/4096."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

GRID = 4096
"""Scores are multiples of 1/GRID, so that a kernel's rounding noise hardly ever decides."""


def round_scores(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """The nearest multiples of 1/GRID, which float32 holds exactly."""
    return (np.rint(values * np.float64(GRID)) / GRID).astype(np.float32)


def combine_scores(
    preserve_probability: NDArray[np.float32], outlier_score: NDArray[np.float32], alpha: float
) -> NDArray[np.float32]:
    """`m = alpha * p + (1 - alpha) * s` per token, on the grid (MOOSComp, arXiv 2504.16786).

    `alpha = 1` is the rounded preserve probability exactly.
    """
    if alpha == 1.0:
        return round_scores(preserve_probability)
    return round_scores(
        alpha * preserve_probability.astype(np.float64) + (1.0 - alpha) * outlier_score
    )


def reduce_to_words(
    token_scores: NDArray[np.float32],
    token_words: NDArray[np.int32],
    num_words: int,
    how: Literal["mean", "max", "first"] = "mean",
) -> NDArray[np.float32]:
    """One score per word from its tokens' scores, on the grid, shape (W,).

    A word that no token belongs to scores 0.
    """
    if num_words == 0:
        return np.zeros(0, dtype=np.float32)
    if how == "mean":
        counts = np.bincount(token_words, minlength=num_words)
        sums = np.bincount(token_words, weights=token_scores, minlength=num_words)
        return round_scores(sums / np.maximum(counts, 1))
    result = np.zeros(num_words, dtype=np.float32)
    if how == "max":
        np.maximum.at(result, token_words, token_scores)
    else:
        owners, first = np.unique(token_words, return_index=True)
        result[owners] = token_scores[first]
    return round_scores(result)
