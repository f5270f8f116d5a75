"""Attempt records: which work has already cost a process its life.

Before a process begins a split it notes its driver; a record without a done record means that a
process ended in the middle. That alone proves nothing (nodes vanish), so such a split is only
suspect: it is worked in a child process, and a document is quarantined only after it ended a child
of its own while the parent lived.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pipelines.run_state import RunState, dump_json

LOST_DRIVERS = 2
"""So many drivers that ended over a split make it suspect: it may be what ends them."""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """Which drivers' processes have begun a piece of work.

    Attributes:
        state: The run's state.
        key: Name of the work: a split and a stage.
        source: What it reads, as done records say it. Of another source the record says nothing.
    """

    state: RunState
    key: str
    source: dict[str, Any]

    def read(self) -> list[str]:
        """The drivers, oldest first."""
        try:
            found = json.loads(self.state.output.get(self._path))
        except FileNotFoundError:
            return []
        drivers: list[str] = found["drivers"] if found["source"] == self.source else []
        return drivers

    def write(self, drivers: Sequence[str]) -> None:
        """Set the drivers; without any, the record goes."""
        if drivers:
            record = {"drivers": list(drivers), "source": self.source}
            self.state.output.put(self._path, dump_json(record))
        else:
            self.state.output.remove(self._path)

    @property
    def _path(self) -> str:
        return f"{self.state.attempts_directory}/{self.key}.json"


@contextmanager
def attempt(record: AttemptRecord, driver: str, *, in_driver: bool) -> Iterator[bool]:
    """Note that work begins; gives True where it is suspect.

    Work that ends in an exception, Ctrl-C among them, is given back: no process ended over it.

    Args:
        record: The work's record.
        driver: Id of the run that gave it out.
        in_driver: The work is done in the driver's own process, which ends with it.
    """
    before = record.read()
    # A driver that was preempted leaves attempts behind; its replicas' splits are no suspects yet.
    # Where the driver itself does the work, its end may well have been the split's doing.
    suspect = driver in before or len(before) >= LOST_DRIVERS or (in_driver and bool(before))
    record.write(before if driver in before else [*before, driver])
    try:
        yield suspect
    except BaseException:
        with suppress(OSError):  # the storage may be what failed
            record.write(before)
        raise
