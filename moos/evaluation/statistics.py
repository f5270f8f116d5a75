"""Means with bootstrap intervals: what a score could have been on other contexts of its kind.

Several questions share a context, and what a compressor drops from it they miss together. So whole
groups are resampled, not examples (the cluster bootstrap), and intervals are percentiles.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moos.errors import DataError

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
_MAX_DRAWS_AT_ONCE = 4_000_000
"""Drawn indices held at a time: 32 MB."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and where it could lie.

    Attributes:
        value: The figure on the examples as they are.
        low: Lower end of the interval.
        high: Upper end of the interval.
        num_examples: Examples that it is computed from.
        num_groups: Groups that were resampled.
    """

    value: float
    low: float
    high: float
    num_examples: int
    num_groups: int


def estimate_mean(
    scores: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    """The mean of scores with its interval; the same seed gives the same interval.

    Args:
        scores: One per example, shape (N,).
        groups: The context of each example, or its hash, aligned with `scores`; None: every
            example for itself. Where all share one, as GSM8K's questions share their
            demonstrations, examples are resampled: the interval then speaks of other questions,
            not of other contexts.
        num_resamples: Resamples that the percentiles are taken of.
        confidence: Share of the resamples inside the interval.
        seed: Seed of the resampling.

    Raises:
        DataError: There is no score.
    """
    values = _as_scores(scores)
    columns = np.stack([values, np.ones_like(values)], axis=1)
    return _estimate_quotient(columns, groups, num_resamples, confidence, seed)


def estimate_difference(
    scores: ArrayLike,
    baseline: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    """The mean of the paired differences `scores - baseline` with its interval.

    Args:
        scores: One per example, shape (N,).
        baseline: The baseline's, of the same examples in the same order.
        groups: As in `estimate_mean`.
        num_resamples: As in `estimate_mean`.
        confidence: As in `estimate_mean`.
        seed: As in `estimate_mean`.

    Raises:
        DataError: There is no score, or another number of the baseline's.
    """
    values, others = _as_pairs(scores, baseline)
    return estimate_mean(
        values - others, groups, num_resamples=num_resamples, confidence=confidence, seed=seed
    )


def estimate_share(
    scores: ArrayLike,
    baseline: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    """The mean of scores as a share of the baseline's mean, with its interval.

    Both means are of the same resample. Resamples in which the baseline scores 0 are left out.

    Args:
        scores: One per example, shape (N,).
        baseline: The baseline's, of the same examples in the same order.
        groups: As in `estimate_mean`.
        num_resamples: As in `estimate_mean`.
        confidence: As in `estimate_mean`.
        seed: As in `estimate_mean`.

    Raises:
        DataError: There is no score, another number of the baseline's, or its mean is 0.
    """
    values, others = _as_pairs(scores, baseline)
    if not others.sum():
        raise DataError(f"the baseline's mean over {len(others)} examples is 0: it has no share")
    columns = np.stack([values, others], axis=1)
    return _estimate_quotient(columns, groups, num_resamples, confidence, seed)


def _as_scores(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise DataError(f"scores have shape {values.shape}; one per example is needed, at least 1")
    return values


def _as_pairs(
    scores: ArrayLike, baseline: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, others = _as_scores(scores), _as_scores(baseline)
    if len(values) != len(others):
        raise DataError(
            f"{len(values)} scores cannot be paired with {len(others)} of the baseline; score both "
            "on the same examples"
        )
    return values, others


def _estimate_quotient(
    columns: NDArray[np.float64],
    groups: Sequence[Hashable] | None,
    num_resamples: int,
    confidence: float,
    seed: int,
) -> Estimate:
    """Sum of the first column by sum of the second, over all and over each resample."""
    sums = _sum_groups(columns, groups)
    totals = _resample(sums, num_resamples, np.random.default_rng(seed))
    totals = totals[totals[:, 1] != 0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [tail, 1 - tail])
    value = columns[:, 0].sum() / columns[:, 1].sum()
    return Estimate(float(value), float(low), float(high), len(columns), len(sums))


def _sum_groups(
    columns: NDArray[np.float64], groups: Sequence[Hashable] | None
) -> NDArray[np.float64]:
    if groups is None:
        return columns
    if len(groups) != len(columns):
        raise DataError(f"{len(columns)} scores came with the groups of {len(groups)} examples")
    numbers: dict[Hashable, int] = {}
    places = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    if len(numbers) < 2:
        return columns
    sums = np.zeros((len(numbers), columns.shape[1]))
    np.add.at(sums, places, columns)
    return sums


def _resample(
    sums: NDArray[np.float64], num_resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Column sums of each resample, as many groups drawn as there are, shape (R, 2)."""
    num_at_once = max(1, _MAX_DRAWS_AT_ONCE // len(sums))
    parts = []
    for start in range(0, num_resamples, num_at_once):
        num_here = min(num_at_once, num_resamples - start)
        drawn = generator.integers(len(sums), size=(num_here, len(sums)))
        parts.append(np.stack([column[drawn].sum(axis=1) for column in sums.T], axis=1))
    return np.concatenate(parts)
