"""Says on what a run waits that no longer gets anywhere, and ends it after a set time.

A store that never answers, nodes that never come, a process that neither works nor dies: none of
them raises. So a thread watches for progress of any split: news of its counts, a sign of life of
the process that works it, its end. Beginning it is progress once: a replica that dies over and over
begins often. Giving up must reach a thread that waits: it is interrupted by a signal, or where that
cannot be by an exception set in it; and where it takes neither, the process ends.
"""

import ctypes
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

from moos.errors import MoosError
from moos.splits import WHOLE_FILE, InputSplit
from pipelines.events import EventLog

logger = logging.getLogger(__name__)

FIRST_WARNING_S = 60.0
"""Silence after which the first warning comes; each further one after twice the silence."""

GRACE_S = 30.0
"""Time for a run that gives up to end by itself."""

SPLITS_NAMED = 10
LOOK_S = 10.0
"""Longest time for a look at what the cluster has."""

_SIGNAL = getattr(signal, "SIGRTMIN", signal.SIGUSR2)


class StalledError(MoosError):
    """No split made progress for `stall_timeout_s`; what is committed stays."""


class _GiveUp(BaseException):
    """Raised in the thread that waits; no handler of errors may take it for a document's."""


@dataclass(slots=True)
class _InWork:
    """Where a split is: in a stage at a process, or between stages."""

    stage: str
    replica: str
    since: float
    left: bool = False


class StallGuard:
    """Watches one pass; enter it in the thread that works or waits for work."""

    def __init__(
        self, splits: Sequence[InputSplit], timeout_s: float | None, events: EventLog
    ) -> None:
        """Set the limit.

        Args:
            splits: The splits to work.
            timeout_s: Seconds without progress after which the run gives up; None is never.
            events: The run's log.
        """
        self._splits = {split.id: split for split in splits}
        self._timeout_s = timeout_s
        self._events = events
        self._look: Callable[[], list[str]] = list
        self._in_work: dict[str, _InWork] = {}
        self._most: dict[str, int] = {}
        self._begun: set[tuple[str, str]] = set()
        self._replicas: set[str] = set()
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._first_warning_s = min(FIRST_WARNING_S, (timeout_s or FIRST_WARNING_S * 4) / 4)
        self._next_warning_s = self._first_warning_s
        self._left = threading.Event()
        self._error: StalledError | None = None
        self._owner = threading.current_thread()
        self._previous: Any = None

    @property
    def num_replicas(self) -> int:
        """Processes that have loaded what they need so far."""
        return len(self._replicas)

    def look_with(self, look: Callable[[], list[str]]) -> None:
        """Call `look` where a run waits, for lines about what it lacks."""
        self._look = look

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
        self._last = time.monotonic()
        self._next_warning_s = self._first_warning_s

    def __enter__(self) -> "StallGuard":
        self._last = time.monotonic()
        self._owner = threading.current_thread()
        if self._owner is threading.main_thread():
            self._previous = signal.signal(_SIGNAL, self._raise)
        threading.Thread(target=self._watch, name="moos-stall", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left.set()
        if self._owner is threading.main_thread():
            signal.signal(_SIGNAL, self._previous)
        # What was interrupted may have raised an error of its own on its way out.
        if self._error is not None and kind is not None:
            raise self._error from None

    def _raise(self, signum: int, frame: FrameType | None) -> None:
        if self._error is not None:
            raise _GiveUp

    def _watch(self) -> None:
        while not self._left.wait(min(1.0, self._first_warning_s / 4)):
            silent_s = time.monotonic() - self._last
            if self._timeout_s is not None and silent_s >= self._timeout_s:
                self._give_up(silent_s, self._timeout_s)
                return
            if silent_s >= self._next_warning_s:
                self._next_warning_s = 2 * silent_s
                lines = self._describe()
                self._events.note("waiting", **self._facts(silent_s, lines))
                after = "never" if self._timeout_s is None else f"after {self._timeout_s:g} s"
                logger.warning(
                    "no split has made progress for %.0f s; the run gives up %s "
                    "(stall_timeout_s). It waits for: %s",
                    silent_s,
                    after,
                    "; ".join(lines),
                )

    def _facts(self, silent_s: float, lines: list[str]) -> dict[str, Any]:
        seconds = round(silent_s, 1)
        return {"seconds": seconds, "gives_up_after_s": self._timeout_s, "waits_for": lines}

    def _give_up(self, silent_s: float, timeout_s: float) -> None:
        lines = self._describe()
        message = (
            f"no split has made progress for {silent_s:.0f} s, over stall_timeout_s={timeout_s:g}. "
            f"The run waited for: {'; '.join(lines)}. Where that may rightly take longer, raise "
            "stall_timeout_s (null: never give up)"
        )
        self._error = StalledError(message)
        self._events.note("stalled", **self._facts(silent_s, lines), exit_code=1)
        self._interrupt()
        if self._left.wait(GRACE_S):
            # A thread that hangs would keep the process from ending; once its main thread has
            # ended, there is nobody left to wait for.
            threading.main_thread().join()
            time.sleep(GRACE_S)
        else:
            os.write(2, f"error: {message}\nrun the same command again to resume\n".encode())
        os._exit(1)

    def _interrupt(self) -> None:
        ident = self._owner.ident
        assert ident is not None, "the guard was entered by a thread that runs"
        if self._owner is threading.main_thread():
            signal.pthread_kill(ident, _SIGNAL)
        else:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(ident), ctypes.py_object(_GiveUp)
            )

    def _describe(self) -> list[str]:
        """On what the run waits, in lines."""
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
        return lines + self._look_in_time()

    def _look_in_time(self) -> list[str]:
        """What `look` says; a cluster that does not answer is told as that."""
        found: list[list[str]] = []

        def look() -> None:
            found.append(self._look())

        thread = threading.Thread(target=look, name="moos-stall-look", daemon=True)
        thread.start()
        thread.join(LOOK_S)
        return found[0] if found else ["the cluster, which does not say what it has"]


def name_split(split: InputSplit) -> str:
    """A split for people: its file and range."""
    unit = "bytes" if split.kind == "jsonl" else "rows"
    stop = "the end" if split.stop == WHOLE_FILE else f"{split.stop}"
    return f"{split.relative}, {unit} {split.start} to {stop}"
