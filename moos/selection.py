"""From word scores to a keep mask: the only place that decides what is dropped.

Pure numpy: no model, no text, no config object. Texts are decided about in groups: their words lie
end to end, and `bounds` holds the first word of each text and then the number of all words, shape
(N + 1,). No text sees another's words.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moos.scores import GRID


def budget_of_rate(rate: float, num_tokens: int) -> int:
    """Tokens that `rate` allows of `num_tokens`, rounded down, reading the rate as written.

    0.29 of 100 is 29, although the nearest float lies below 0.29.
    """
    return budgets_of_rate(rate, [num_tokens])[0]


def budgets_of_rate(rate: float, nums_tokens: Iterable[int]) -> list[int]:
    """The budget of each of some texts, as `budget_of_rate` has it."""
    share = Fraction(repr(rate))
    return [share.numerator * count // share.denominator for count in nums_tokens]


def sum_by_text(column: NDArray[Any], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of each text's part of a column of whole numbers, shape (N,)."""
    sums = np.concatenate([[0], np.cumsum(column, dtype=np.int64)])
    by_text: NDArray[np.int64] = sums[bounds[1:]] - sums[bounds[:-1]]
    return by_text


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
    bounds: NDArray[np.int64],
    budgets: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Keep the protected words, then the highest-scoring others whose tokens fit the budget.

    Together a text's kept words hold at most its budget of tokens, unless the protected words alone
    hold more. The ranking stops at the first word that does not fit, so a larger budget keeps a
    superset and at most one word's tokens are left unused. Words without tokens follow their left
    neighbour.

    Args:
        scores: One score per word, higher meaning more worth keeping, shape (W,).
        token_counts: Tokens of each word, shape (W,).
        protected: Words that stay whatever their score, shape (W,).
        bounds: Where each text's words begin, shape (N + 1,).
        budgets: Largest number of tokens to keep of each text, at least 0, shape (N,).

    Returns:
        True for each word that is kept, shape (W,).
    """
    owners = _owners(bounds)
    order = rank_words(scores, token_counts, protected)
    order = order[np.argsort(owners[order], kind="stable")]  # text by text, best first in each
    # Stop at the first word that overflows rather than squeeze in smaller, worse ones: the kept
    # set is then nested as the budget grows, which makes rates comparable.
    left = budgets - sum_by_text(token_counts * protected, bounds)
    spent = _sum_within(token_counts[order], owners[order], len(budgets))
    return _keep(order[spent <= left[owners[order]]], token_counts, protected, bounds)


def select_by_threshold(
    scores: NDArray[np.float32],
    token_counts: NDArray[np.int32],
    protected: NDArray[np.bool_],
    bounds: NDArray[np.int64],
    threshold: float,
) -> NDArray[np.bool_]:
    """Keep the protected words and every word that scores at least `threshold`.

    The threshold is compared on the scores' grid, rounded to it like they are.
    """
    chosen = np.flatnonzero((scores >= np.float32(round(threshold * GRID) / GRID)) & ~protected)
    return _keep(chosen, token_counts, protected, bounds)


def select_by_level(
    scores: NDArray[np.float32],
    token_counts: NDArray[np.int32],
    protected: NDArray[np.bool_],
    bounds: NDArray[np.int64],
    level: int,
    tied_share: tuple[int, int],
) -> NDArray[np.bool_]:
    """Keep the protected words, those that score at least `level`, and a share of the next level.

    Args:
        scores: One score per word, on the grid, shape (W,).
        token_counts: Tokens of each word, shape (W,).
        protected: Words that stay whatever their score, shape (W,).
        bounds: Where each text's words begin, shape (N + 1,).
        level: Lowest score kept, in 1/GRID.
        tied_share: (kept, all) tokens of the corpus that score `level - 1`: each text keeps that
            share of its own such tokens, rounded down, from its beginning.

    Returns:
        True for each word that is kept, shape (W,).
    """
    levels = np.rint(scores * np.float64(GRID)).astype(np.int64)
    chosen = np.flatnonzero((levels >= level) & ~protected)
    kept, total = tied_share
    if kept:
        is_tied = (levels == level - 1) & ~protected & (token_counts > 0)
        # Python's integers: a corpus's tokens times a text's may be more than 64 bits hold.
        nums_tied = sum_by_text(token_counts * is_tied, bounds).tolist()
        allowed = np.array([num_tied * kept // total for num_tied in nums_tied], dtype=np.int64)
        tied, owners = np.flatnonzero(is_tied), _owners(bounds)[is_tied]
        spent = _sum_within(token_counts[tied], owners, len(allowed))
        chosen = np.append(chosen, tied[spent <= allowed[owners]])
    return _keep(chosen, token_counts, protected, bounds)


def select_by_count(
    scores: NDArray[np.float32],
    token_counts: NDArray[np.int32],
    protected: NDArray[np.bool_],
    budget: int,
    count: Callable[[NDArray[np.bool_]], int],
) -> tuple[NDArray[np.bool_], int]:
    """Like `select_by_budget` of one text, where only `count` can tell what a keep mask costs.

    For a reader's tokenizer: the cost of a compressed text is known when it is encoded. The length
    of the kept prefix of the ranking is found by bisection, which asks `count` about log2(W) times,
    always fits the budget, and keeps a superset for a larger one even where `count` is not
    monotone, since both searches part ways at one probe.

    Returns:
        The keep mask, shape (W,), and its count.
    """
    order = rank_words(scores, token_counts, protected)
    bounds = np.array([0, len(scores)])
    best = _keep(order[:0], token_counts, protected, bounds)
    best_count = count(best)
    if best_count > budget:
        return best, best_count
    fits, overflows = 0, len(order) + 1
    while overflows - fits > 1:
        middle = (fits + overflows) // 2
        keep = _keep(order[:middle], token_counts, protected, bounds)
        if (cost := count(keep)) <= budget:
            fits, best, best_count = middle, keep, cost
        else:
            overflows = middle
    return best, best_count


def _owners(bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """The text of each word, shape (W,)."""
    return np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))


def _sum_within(
    token_counts: NDArray[np.int32], owners: NDArray[np.int64], num_texts: int
) -> NDArray[np.int64]:
    """Running sums that begin anew with each text, of words in the order of their texts."""
    sums = np.concatenate([[0], np.cumsum(token_counts, dtype=np.int64)])
    before = sums[np.searchsorted(owners, np.arange(num_texts))]
    within: NDArray[np.int64] = sums[1:] - before[owners]
    return within


def _keep(
    chosen: NDArray[np.int64],
    token_counts: NDArray[np.int32],
    protected: NDArray[np.bool_],
    bounds: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """The mask of chosen and protected words, words without tokens following their neighbour.

    The neighbour is the nearest word with tokens on the left; before the first such word of the
    text, on the right. Where no word of a text has tokens nothing can be saved, so all stay.
    """
    keep = protected.copy()
    keep[chosen] = True
    costed = np.flatnonzero(token_counts > 0)
    if len(costed) == len(keep):
        return keep
    # Words with tokens up to each text's beginning, and up to each word's end.
    before = np.searchsorted(costed, bounds)
    owners = _owners(bounds)
    left = np.maximum(np.cumsum(token_counts > 0) - 1, before[owners])
    follows: NDArray[np.bool_] = np.append(keep[costed], True)[left]
    follows[before[owners] == before[owners + 1]] = True
    return follows | protected
