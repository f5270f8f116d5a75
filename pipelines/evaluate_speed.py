"""From which length of a context on compression pays: speed-up by buckets of similar lengths."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluate_figures import LengthBucket, ResultRow, SpeedFigure
from pipelines.evaluate_scores import divide

NUM_BUCKETS = 5
"""Buckets at most, of about as many examples each; equal lengths are in one."""


def measure_speed(rows: Sequence[ResultRow], full: str | None) -> list[SpeedFigure]:
    """Speed-up of each method and rate by length, the examples of all tasks together.

    Args:
        rows: All rows.
        full: Name of the method that leaves contexts whole; None gives no figure.
    """
    by_cell: dict[tuple[str, float | None], list[ResultRow]] = defaultdict(list)
    for row in rows:
        by_cell[row["method"], row["rate"]].append(row)
    whole = {
        (row["task"], row["example"]): row["read_seconds"]
        for row in by_cell.get((full or "", None), ())
    }
    if not whole:
        return []
    figures = []
    for (method, rate), cell in by_cell.items():
        if rate is not None:
            full_s = np.array([whole[row["task"], row["example"]] for row in cell])
            buckets = _measure_buckets(cell, full_s)
            figures.append(
                SpeedFigure(method=method, rate=rate, buckets=buckets, pays_from=pays_from(buckets))
            )
    return figures


def cut_lengths(lengths: NDArray[np.int64], num_buckets: int = NUM_BUCKETS) -> NDArray[np.int64]:
    """The bucket of each length, from 0 on; bounds are quantiles of the lengths."""
    bounds = np.quantile(lengths, np.arange(1, num_buckets) / num_buckets)
    _, buckets = np.unique(np.searchsorted(bounds, lengths), return_inverse=True)
    return buckets.astype(np.int64)


def pays_from(buckets: Sequence[LengthBucket]) -> int | None:
    """The shortest context of the first bucket from which on all are faster; None if none is."""
    shortest = None
    for bucket in reversed(buckets):
        if bucket["speed_up"] <= 1:
            break
        shortest = bucket["min_tokens"]
    return shortest


def _measure_buckets(cell: Sequence[ResultRow], full_s: NDArray[np.float64]) -> list[LengthBucket]:
    sharing = Counter((row["task"], row["context"]) for row in cell)
    lengths = np.array([row["num_context_tokens"] for row in cell])
    read_s = np.array([row["read_seconds"] for row in cell])
    compress_s = np.array(
        [row["compress_seconds"] / sharing[row["task"], row["context"]] for row in cell]
    )
    buckets = cut_lengths(lengths)
    return [
        _describe(lengths[own], full_s[own], read_s[own], compress_s[own])
        for own in (buckets == number for number in range(buckets.max() + 1))
    ]


def _describe(
    lengths: NDArray[np.int64],
    full_s: NDArray[np.float64],
    read_s: NDArray[np.float64],
    compress_s: NDArray[np.float64],
) -> LengthBucket:
    return LengthBucket(
        num_examples=len(lengths),
        min_tokens=int(lengths.min()),
        max_tokens=int(lengths.max()),
        mean_tokens=float(lengths.mean()),
        read_seconds_full=float(full_s.mean()),
        read_seconds=float(read_s.mean()),
        compress_seconds=float(compress_s.mean()),
        # A reader that takes no time at all is no faster for it.
        speed_up=divide(float(full_s.sum()), float(compress_s.sum() + read_s.sum())) or 0.0,
    )
