"""From word scores to a keep mask: the only place that decides what is dropped.

Pure numpy: no model, no text, no config object.
"""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from moos.scores import GRID


def budget_of_rate(rate: float, num_tokens: int) -> int:
    """Tokens that `rate` allows of `num_tokens`, rounded down, reading the rate as written.

    0.29 of 100 is 29, although the nearest float lies below 0.29.
    """
    return int(Fraction(repr(rate)) * num_tokens)


def rank_words(
    scores: NDArray[np.float32], token_counts: NDArray[np.int32], protected: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Indices of the words that compete for the budget, best first; ties to the earlier word.

    Protected words stay anyway and words without tokens cost nothing, so neither competes.
    """
    competing = np.flatnonzero(~protected & (token_counts > 0))
    return competing[np.argsort(-scores[competing], kind="stable")]


def select_by_budget(
    scores: NDArray[np.float32],
    token_counts: NDArray[np.int32],
    protected: NDArray[np.bool_],
    budget: int,
) -> NDArray[np.bool_]:
    """Keep the protected words, then the highest-scoring others whose tokens fit the budget.

    Together they hold at most `budget` tokens, unless the protected words alone hold more. The
    ranking stops at the first word that does not fit, so a larger budget keeps a superset and at
    most one word's tokens are left unused. Words without tokens follow their left neighbour.

    Args:
        scores: One score per word, higher meaning more worth keeping, shape (W,).
        token_counts: Tokens of each word, shape (W,).
        protected: Words that stay whatever their score, shape (W,).
        budget: Largest number of tokens to keep, at least 0.

    Returns:
        True for each word that is kept, shape (W,).
    """
    order = rank_words(scores, token_counts, protected)
    left = budget - int(token_counts[protected].sum())
    # Stop at the first word that overflows rather than squeeze in smaller, worse ones: the kept
    # set is then nested as the budget grows, which makes rates comparable.
    num_kept = int(np.searchsorted(np.cumsum(token_counts[order]), left, side="right"))
    return _keep(order[:num_kept], token_counts, protected)


def select_by_threshold(
    scores: NDArray[np.float32],
    token_counts: NDArray[np.int32],
    protected: NDArray[np.bool_],
    threshold: float,
) -> NDArray[np.bool_]:
    """Keep the protected words and every word that scores at least `threshold`.

    The threshold is compared on the scores' grid, rounded to it like they are.
    """
    chosen = np.flatnonzero((scores >= np.float32(round(threshold * GRID) / GRID)) & ~protected)
    return _keep(chosen, token_counts, protected)


def select_by_level(
    scores: NDArray[np.float32],
    token_counts: NDArray[np.int32],
    protected: NDArray[np.bool_],
    level: int,
    tied_share: tuple[int, int],
) -> NDArray[np.bool_]:
    """Keep the protected words, those that score at least `level`, and a share of the next level.

    Args:
        scores: One score per word, on the grid, shape (W,).
        token_counts: Tokens of each word, shape (W,).
        protected: Words that stay whatever their score, shape (W,).
        level: Lowest score kept, in 1/GRID.
        tied_share: (kept, all) tokens of the corpus that score `level - 1`: this text keeps that
            share of its own such tokens, rounded down, from its beginning.

    Returns:
        True for each word that is kept, shape (W,).
    """
    levels = np.rint(scores * np.float64(GRID)).astype(np.int64)
    chosen = np.flatnonzero((levels >= level) & ~protected)
    kept, total = tied_share
    if kept:
        tied = np.flatnonzero((levels == level - 1) & ~protected & (token_counts > 0))
        spent = np.cumsum(token_counts[tied])
        allowed = int(spent[-1]) * kept // total if len(tied) else 0
        chosen = np.append(chosen, tied[spent <= allowed])
    return _keep(chosen, token_counts, protected)


def select_by_count(
    scores: NDArray[np.float32],
    token_counts: NDArray[np.int32],
    protected: NDArray[np.bool_],
    budget: int,
    count: Callable[[NDArray[np.bool_]], int],
) -> tuple[NDArray[np.bool_], int]:
    """Like `select_by_budget`, where only `count` can tell what a keep mask costs.

    For a reader's tokenizer: the cost of a compressed text is known when it is encoded. The length
    of the kept prefix of the ranking is found by bisection, which asks `count` about log2(W) times,
    always fits the budget, and keeps a superset for a larger one even where `count` is not
    monotone, since both searches part ways at one probe.

    Returns:
        The keep mask, shape (W,), and its count.
    """
    order = rank_words(scores, token_counts, protected)
    best = _keep(order[:0], token_counts, protected)
    best_count = count(best)
    if best_count > budget:
        return best, best_count
    fits, overflows = 0, len(order) + 1
    while overflows - fits > 1:
        middle = (fits + overflows) // 2
        keep = _keep(order[:middle], token_counts, protected)
        if (cost := count(keep)) <= budget:
            fits, best, best_count = middle, keep, cost
        else:
            overflows = middle
    return best, best_count


def _keep(
    chosen: NDArray[np.int64], token_counts: NDArray[np.int32], protected: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The mask of chosen and protected words, words without tokens following their neighbour.

    The neighbour is the nearest word with tokens on the left; before the first such word, on the
    right. Where no word has tokens nothing can be saved, so all stay.
    """
    keep = protected.copy()
    keep[chosen] = True
    costed = np.flatnonzero(token_counts > 0)
    if len(costed) == 0:
        return np.ones(len(keep), dtype=np.bool_)
    if len(costed) == len(keep):
        return keep
    left = np.searchsorted(costed, np.arange(len(keep)), side="right") - 1
    return keep[costed[np.maximum(left, 0)]] | protected
