"""Groups of records on their way through the stages, and what becomes of the ones that fail.

A stage takes a list of items and gives a result or a `DataError` for each. Where it raises instead,
it is asked again about each item alone; the items at fault leave the group with the reason, and the
stage runs over the others as if they had never been there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from moos.errors import DataError, MoosError
from moos.records import BadRecord, RecordGroup

T = TypeVar("T")
U = TypeVar("U")
Stage = Callable[[Sequence[T]], Sequence[U | DataError]]


@dataclass(frozen=True, slots=True)
class Group(Generic[T]):
    """The records of a piece with what a stage made of each.

    Attributes:
        records: The records as they were read.
        rows: The rows of `records` that are still on their way, ascending.
        items: What the last stage made of each of these rows.
        bad: The records that left, in any order.
    """

    records: RecordGroup
    rows: list[int]
    items: list[T]
    bad: list[BadRecord]


def begin_group(records: RecordGroup) -> Group[str]:
    """A group whose items are the records' texts."""
    return Group(records, list(range(len(records.texts))), records.texts, list(records.bad))


def keep_only(group: Group[str], positions: set[int]) -> Group[str]:
    """The group with only the records at some positions still on their way."""
    rows = [row for row in group.rows if group.records.positions[row] in positions]
    return Group(group.records, rows, [group.records.texts[row] for row in rows], group.bad)


def advance(
    group: Group[T], stage: Stage[T, U], probe: Callable[[], None], id_column: str | None
) -> Group[U]:
    """Run a stage over a group.

    Args:
        group: The group.
        stage: The stage.
        probe: Raises where the stage fails even on a harmless text: then the fault is not the
            documents'.
        id_column: Column or key that names a document, for the quarantine record.

    Raises:
        MoosError: The stage fails on everything.
    """
    results = run_isolated(stage, group.items, probe)
    rows, items, bad = [], [], list(group.bad)
    for row, result in zip(group.rows, results, strict=True):
        if isinstance(result, DataError):
            bad.append(group.records.reject(row, str(result), id_column))
        else:
            rows.append(row)
            items.append(result)
    return Group(group.records, rows, items, bad)


def run_isolated(
    stage: Stage[T, U], items: Sequence[T], probe: Callable[[], None]
) -> Sequence[U | DataError]:
    """The stage's results; items that make it raise have a `DataError` in their place.

    The others' results are those of the stage over exactly the others, so they do not depend on how
    the items at fault were found. Only where the stage fails on items together, but on none alone,
    is it run on halves.
    """
    try:
        return stage(items)
    except Exception as error:  # noqa: BLE001  whatever a document makes happen
        _raise_unless_of_documents(error)
        failing = {0: _describe(error)} if len(items) == 1 else _find_failing(stage, items)
        _check_probe(probe, error)
    rest = [item for index, item in enumerate(items) if index not in failing]
    try:
        results = iter(stage(rest) if rest else [])
    except Exception as error:
        _raise_unless_of_documents(error)
        if len(items) == 1:
            raise
        half = len(items) // 2
        return [
            *run_isolated(stage, items[:half], probe),
            *run_isolated(stage, items[half:], probe),
        ]
    return [failing[i] if i in failing else next(results) for i in range(len(items))]


def _find_failing(stage: Stage[T, U], items: Sequence[T]) -> dict[int, DataError]:
    """The items that fail alone, by their place.

    One by one, not by halves: an item that hangs its process then costs a time limit or two more.
    """
    failing: dict[int, DataError] = {}
    for place, item in enumerate(items):
        try:
            stage([item])
        except Exception as error:  # noqa: BLE001  whatever a document makes happen
            _raise_unless_of_documents(error)
            failing[place] = _describe(error)
    return failing


def _raise_unless_of_documents(error: Exception) -> None:
    """Pass on what is wrong with the run, or with what it runs on, whatever the documents are."""
    if isinstance(error, MoosError) and not isinstance(error, DataError):
        raise error


def _describe(error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    return DataError(f"processing raised {type(error).__name__}: {error}")


def _check_probe(probe: Callable[[], None], error: Exception) -> None:
    try:
        probe()
    except Exception as probe_error:  # noqa: BLE001  whatever breaks a process
        raise MoosError(
            f"compressing fails on every text, a harmless one too ({type(probe_error).__name__}: "
            f"{probe_error}); nothing was quarantined for it. First seen as: {error}"
        ) from error
