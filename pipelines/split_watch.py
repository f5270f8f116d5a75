"""Which splits of a pass are where, and when any of them last made progress.

Progress is news of a split's counts, a sign of life of the process that works it, its end.
Beginning it is progress once: a replica that dies over and over begins often.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from moos.splits import WHOLE_FILE, InputSplit

SPLITS_NAMED = 10


@dataclass(slots=True)
class _InWork:
    """Where a split is: in a stage at a process, or between stages."""

    stage: str
    replica: str
    since: float
    left: bool = False


class SplitWatch:
    """Follows the splits of one pass, for a `StallGuard`; safe to call from any thread.

    Attributes:
        silence: As a guard says it.
        progressed_at: When a split last made progress, by the monotonic clock.
        look: Called where a run waits, for lines about what it lacks.
    """

    silence = "no split has made progress"

    def __init__(self, splits: Sequence[InputSplit]) -> None:
        """Follow the splits to work."""
        self.progressed_at = time.monotonic()
        self.look: Callable[[], list[str]] = list
        self._splits = {split.id: split for split in splits}
        self._in_work: dict[str, _InWork] = {}
        self._most: dict[str, int] = {}
        self._begun: set[tuple[str, str]] = set()
        self._replicas: set[str] = set()
        self._lock = threading.Lock()

    @property
    def num_replicas(self) -> int:
        """Processes that have loaded what they need so far."""
        return len(self._replicas)

    def count(self, split_id: str, counts: dict[str, int]) -> None:
        """Take news of a split's counts; more than it ever had are progress."""
        total = sum(counts.values())
        with self._lock:
            if total > self._most.get(split_id, 0):
                self._most[split_id] = total
                self._progress()

    def note(self, kind: str, details: dict[str, Any]) -> None:
        """Take a notice (see `pipelines.notices`)."""
        with self._lock:
            if kind == "alive":
                self._progress()
            elif kind == "replica_started" and details["replica"] not in self._replicas:
                self._replicas.add(details["replica"])
                if not details["restarted"]:
                    self._progress()
            elif kind == "split_began":
                split_id, stage = details["split"], details["stage"]
                if split_id in self._splits:
                    self._in_work[split_id] = _InWork(stage, details["replica"], time.monotonic())
                if (split_id, stage) not in self._begun:
                    self._begun.add((split_id, stage))
                    self._progress()
            elif kind == "split_left" and details["split"] in self._in_work:
                work = self._in_work[details["split"]]
                work.left, work.since = True, time.monotonic()

    def finish(self, split_id: str) -> None:
        """Take the end of a split."""
        with self._lock:
            self._splits.pop(split_id, None)
            self._in_work.pop(split_id, None)
            self._progress()

    def _progress(self) -> None:
        self.progressed_at = time.monotonic()

    def describe(self) -> list[str]:
        """On what the pass waits, in lines."""
        now = time.monotonic()
        with self._lock:
            in_work = sorted(self._in_work.items(), key=lambda item: item[1].since)
            num_idle = len(self._splits) - len(in_work)
            lines = [
                f"{name_split(self._splits[split_id])}: "
                + (f"waits behind stage {work.stage!r}" if work.left else f"{work.stage!r}")
                + f" at {work.replica} for {now - work.since:.0f} s"
                for split_id, work in in_work[:SPLITS_NAMED]
            ]
        if len(in_work) > SPLITS_NAMED:
            lines.append(f"{len(in_work) - SPLITS_NAMED} more splits in work")
        if num_idle:
            lines.append(f"{num_idle} split(s) that no process has begun")
        return lines


def name_split(split: InputSplit) -> str:
    """A split for people: its file and range."""
    unit = "bytes" if split.kind == "jsonl" else "rows"
    stop = "the end" if split.stop == WHOLE_FILE else f"{split.stop}"
    return f"{split.relative}, {unit} {split.start} to {stop}"
