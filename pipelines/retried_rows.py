"""Rows of records that are tried again go among those that are there, whatever the job."""

from collections.abc import Collection, Mapping
from typing import Any

from moos.errors import MoosError
from moos.records import RecordGroup
from moos.splits import InputSplit
from moos.storage import Storage
from pipelines.quarantine import read_quarantine


def read_positions(output: Storage, done: Mapping[str, Any]) -> set[int]:
    """Where the quarantined records of a done split stand in its file."""
    records = read_quarantine(output.get(done["quarantine"]["name"]))
    return {int(record["position"]) for record in records}


def present_rows(
    records: RecordGroup, new: Collection[int], quarantined: Collection[int]
) -> list[int]:
    """The rows of a group that the data file will hold, in order.

    Args:
        records: The group.
        new: Rows that were quarantined and no longer are.
        quarantined: Positions of the records that were.
    """
    return [
        row
        for row, position in enumerate(records.positions)
        if row in new or position not in quarantined
    ]


class OldRows:
    """Counts off the rows that a done split's data file holds, as they get their new places.

    Attributes:
        taken: How many have got theirs.
    """

    def __init__(self, split: InputSplit, count: int) -> None:
        """Begin with the first of `count` rows."""
        self.taken = 0
        self._split = split
        self._count = count

    def take(self, count: int) -> int:
        """The place of the first of the next `count` rows.

        Raises:
            MoosError: There are not so many.
        """
        if self.taken + count > self._count:
            raise MoosError(
                f"{self._split.id} holds fewer rows than its source has records; give another "
                "output.path"
            )
        self.taken += count
        return self.taken - count

    def check_all_taken(self) -> None:
        """Every row has its new place.

        Raises:
            MoosError: Some have none, so those before them may stand in the wrong one.
        """
        if self.taken != self._count:
            raise MoosError(
                f"{self._split.id} holds {self._count - self.taken} rows more than its source has "
                "records for; give another output.path"
            )
