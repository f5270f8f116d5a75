"""From rows to scores: per task and per group of tasks, with intervals, rates, seconds and cost."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moos.evaluation.statistics import (
    Estimate,
    estimate_difference,
    estimate_mean,
    estimate_share,
)
from pipelines.evaluate_figures import (
    CellFigure,
    EstimateFigure,
    GroupFigure,
    ResultRow,
    ScoreFigure,
)

CellKey = tuple[str, str, float | None]
"""Task, method and rate."""


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """What figures are relative to.

    Attributes:
        full: Name of the method that leaves contexts whole; None if it was not run.
        baseline: Name of the method that differences are to; None: none.
        price: Of a million tokens; None: not known.
        seed: Seed of the intervals.
    """

    full: str | None
    baseline: str | None
    price: float | None
    seed: int


def group_cells(rows: Iterable[ResultRow]) -> dict[CellKey, list[ResultRow]]:
    """The rows of each task, method and rate, in the order in which they first occur."""
    cells: dict[CellKey, list[ResultRow]] = defaultdict(list)
    for row in rows:
        cells[row["task"], row["method"], row["rate"]].append(row)
    return dict(cells)


def measure_cells(rows: Sequence[ResultRow], settings: ScoreSettings) -> list[CellFigure]:
    """The figures of each cell; the examples of a task have the same order in all its cells."""
    cells = group_cells(rows)
    return [
        CellFigure(
            task=task,
            **_measure(
                cell,
                full=cells.get((task, settings.full or "", None)),
                baseline=_find_baseline(cells, (task, method, rate), settings.baseline),
                settings=settings,
            ),
        )
        for (task, method, rate), cell in cells.items()
    ]


def measure_groups(
    cells: Sequence[CellFigure], groups: dict[str, str], full: str | None
) -> list[GroupFigure]:
    """The figures of each group of tasks.

    Args:
        cells: Those of the tasks.
        groups: Each task's group, in the order of the tasks.
        full: As in `ScoreSettings`.
    """
    gathered: dict[tuple[str, str, float | None], list[CellFigure]] = {}
    for group in dict.fromkeys(groups.values()):
        for cell in cells:
            if groups[cell["task"]] == group:
                gathered.setdefault((group, cell["method"], cell["rate"]), []).append(cell)
    return [
        GroupFigure(
            group=group,
            num_tasks=len(members),
            **_average(members, gathered.get((group, full or "", None))),
        )
        for (group, _, _), members in gathered.items()
    ]


def combine_estimates(estimates: Sequence[EstimateFigure]) -> EstimateFigure | None:
    """The mean of independent figures; None of none.

    Its interval is recovered from theirs: on either side, its distance from the mean is the root of
    their squared distances' sum, over their number (Zou and Donner, 2008, doi:10.1002/sim.3095).
    """
    if not estimates:
        return None
    number = len(estimates)
    value = sum(each["value"] for each in estimates) / number
    below = math.hypot(*(each["value"] - each["low"] for each in estimates)) / number
    above = math.hypot(*(each["high"] - each["value"] for each in estimates)) / number
    return EstimateFigure(
        value=value,
        low=value - below,
        high=value + above,
        num_examples=sum(each["num_examples"] for each in estimates),
        num_groups=sum(each["num_groups"] for each in estimates),
    )


def divide(numerator: float, denominator: float) -> float | None:
    """The quotient; None where it cannot be told."""
    return numerator / denominator if denominator > 0 else None


def _measure(
    cell: Sequence[ResultRow],
    *,
    full: Sequence[ResultRow] | None,
    baseline: Sequence[ResultRow] | None,
    settings: ScoreSettings,
) -> ScoreFigure:
    scores, seed = [row["score"] for row in cell], settings.seed
    groups = [row["context"] for row in cell]
    whole = [row["score"] for row in full or ()]
    base = [row["score"] for row in baseline or ()]
    share = estimate_share(scores, whole, groups, seed=seed) if sum(whole) else None
    difference = estimate_difference(scores, base, groups, seed=seed) if base else None
    contexts = {row["context"]: row for row in cell}.values()
    compress_s = sum(row["compress_seconds"] for row in contexts)
    read_s = sum(row["read_seconds"] for row in cell)
    full_s = sum(row["read_seconds"] for row in full or ())
    num_prompt_tokens = sum(row["num_prompt_tokens"] for row in cell)
    price = settings.price
    return ScoreFigure(
        method=cell[0]["method"],
        rate=cell[0]["rate"],
        score=_show(estimate_mean(scores, groups, seed=seed)),
        share_of_full=None if share is None else _show(share),
        difference=None if difference is None else _show(difference),
        achieved_rate=divide(
            sum(row["num_compressed_tokens"] for row in contexts),
            sum(row["num_context_tokens"] for row in contexts),
        ),
        num_prompt_tokens=num_prompt_tokens,
        compress_seconds=compress_s,
        read_seconds=read_s,
        speed_up=divide(full_s, compress_s + read_s) if full else None,
        cost_per_1000=None if price is None else price * num_prompt_tokens / (1000 * len(cell)),
    )


def _find_baseline(
    cells: dict[CellKey, list[ResultRow]], key: CellKey, baseline: str | None
) -> list[ResultRow] | None:
    """The baseline's rows to pair a cell with."""
    task, method, rate = key
    if baseline is None or method == baseline:
        return None
    return cells.get((task, baseline, rate)) or cells.get((task, baseline, None))


def _average(members: Sequence[CellFigure], full: Sequence[CellFigure] | None) -> ScoreFigure:
    score = combine_estimates([cell["score"] for cell in members])
    assert score is not None, "a group has a task"
    compress_s = sum(cell["compress_seconds"] for cell in members)
    read_s = sum(cell["read_seconds"] for cell in members)
    full_s = sum(cell["read_seconds"] for cell in full or ())
    return ScoreFigure(
        method=members[0]["method"],
        rate=members[0]["rate"],
        score=score,
        share_of_full=combine_estimates(_known(cell["share_of_full"] for cell in members)),
        difference=combine_estimates(_known(cell["difference"] for cell in members)),
        achieved_rate=_mean(cell["achieved_rate"] for cell in members),
        num_prompt_tokens=sum(cell["num_prompt_tokens"] for cell in members),
        compress_seconds=compress_s,
        read_seconds=read_s,
        speed_up=divide(full_s, compress_s + read_s) if full else None,
        cost_per_1000=_mean(cell["cost_per_1000"] for cell in members),
    )


def _known(estimates: Iterable[EstimateFigure | None]) -> list[EstimateFigure]:
    return [each for each in estimates if each is not None]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return divide(sum(known), len(known))


def _show(estimate: Estimate) -> EstimateFigure:
    return EstimateFigure(
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        num_examples=estimate.num_examples,
        num_groups=estimate.num_groups,
    )
