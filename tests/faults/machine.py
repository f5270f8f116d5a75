"""Faults of the machine under a job: what they are, and the file that its processes obey.

`patched/patched_machine.py` makes them, inside every process that finds `MOOS_TEST_MACHINE` in its
environment.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Literal

PATCHED = Path(__file__).parent / "patched"

COMMIT_PLACES = (r"^data/", r"^data/", r"^_run/done/", r"^_run/done/", r"^_run/attempts/")
"""Of every split; a write that matches belongs to its commit."""

FINISH_PLACES = (r"^manifest\.json", r"^_SUCCESS", r"^report\.html", r"^_run/events\.jsonl")
HOURS_S = 3600.0

MACHINE_KINDS = (
    "kill_committing",
    "node_lost_committing",
    "clock_moved",
    "disk_full_commit",
    "fsync_error",
    "write_error",
)


@dataclass(frozen=True, slots=True)
class MachineFault:
    """What breaks.

    Attributes:
        deed: A clock that is moved, a disk operation that fails, or a process that is held.
        offset_s: By how many seconds a process's wall clock is off.
        operation: Of an error: `write`, `fsync` or `replace`; of a hold: `before` or `after` the
            object is there.
        place: Regular expression of the object's name below the output.
        error: Name of the error's number.
        most: Operations that fail.
        lasts: Once one has failed, every write does: what is full stays full.
        of_driver: Only the job's own process is struck, not those that it starts.
    """

    deed: Literal["clock", "error", "hold"]
    offset_s: float = 0.0
    operation: str = ""
    place: str = ""
    error: str = "EIO"
    most: int = 1
    lasts: bool = False
    of_driver: bool = False

    def __str__(self) -> str:
        if self.deed == "clock":
            whose = "the driver's" if self.of_driver else "every"
            return f"{whose} clock moved by {self.offset_s / HOURS_S:+.1f} h"
        if self.deed == "hold":
            return f"{self.operation} a write to {self.place}"
        return f"{self.error} of {self.operation} to {self.place}"


def choose_machine_fault(kind: str, rng: Random) -> MachineFault | None:
    """The fault of a kind; None for kinds that break no machine."""
    if kind == "clock_moved":
        hours = rng.choice((-1, 1)) * rng.choice((0.01, 1, rng.uniform(2, 48), 24 * 365))
        return MachineFault("clock", offset_s=hours * HOURS_S, of_driver=rng.random() < 0.5)
    if kind == "kill_committing":
        places = COMMIT_PLACES * 2 + FINISH_PLACES
        return MachineFault(
            "hold", operation=rng.choice(("before", "after")), place=rng.choice(places)
        )
    if kind == "node_lost_committing":
        return MachineFault(
            "hold", operation=rng.choice(("before", "after")), place=rng.choice(COMMIT_PLACES)
        )
    place = rng.choice(COMMIT_PLACES * 2 + FINISH_PLACES)
    if kind == "disk_full_commit":
        return MachineFault("error", operation="write", place=place, error="ENOSPC", lasts=True)
    if kind == "fsync_error":
        return MachineFault("error", operation="fsync", place=place, most=rng.choice((1, 3)))
    if kind == "write_error":
        operation = rng.choice(("write", "replace"))
        return MachineFault("error", operation=operation, place=place, most=rng.choice((1, 3)))
    return None


class Machine:
    """The control file of one trial's machine.

    Attributes:
        environment: What a job must find in its environment to obey it.
    """

    def __init__(self, directory: Path, root: str, fault: MachineFault | None) -> None:
        """Nothing is broken yet.

        Args:
            directory: Where the files go.
            root: The output, as jobs name it.
            fault: What will break, if anything.
        """
        self._control = directory / "machine.json"
        self._struck = directory / "machine.json.struck"
        self._root = root
        self.environment = {"MOOS_TEST_MACHINE": str(self._control)}
        if fault is not None and fault.deed == "clock":
            self.environment["MOOS_TEST_CLOCK"] = "1"

    def break_now(self, fault: MachineFault, driver: int, parent: int | None = None) -> None:
        """Break it: for all processes, for the driver alone, or for children of one process."""
        process = driver if fault.of_driver else None
        whom = {"process": process, "parent": parent}
        told = json.dumps({**asdict(fault), "root": self._root, **whom})
        temporary = self._control.with_suffix(".new")
        temporary.write_text(told, encoding="utf-8")
        temporary.replace(self._control)

    def repair(self) -> None:
        """Let everything work again."""
        self._control.unlink(missing_ok=True)

    def struck(self) -> list[str]:
        """What was struck until now."""
        try:
            return self._struck.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
