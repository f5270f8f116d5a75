"""Says on what a run waits that no longer gets anywhere, and ends it after a set time.

A store that never answers, nodes that never come, a process that neither works nor dies, a
collective that one worker never joins: none of them raises. So a thread watches for progress of
what is under way: the splits of a pass (`pipelines.split_watch`), the calls of planning and
finishing (`pipelines.phase_watch`), the workers of a training run (`pipelines.train_progress`).

How a run that gives up ends, always with exit code 1: the thread that waits is interrupted, by a
signal, or where that cannot be by an exception set in it. It then leaves as any error would: the
log is closed and the lease released, each in bounded time where their store does not answer either,
and Ray's actors go with the driver. Code that blocks in C, or that swallows the interruption, does
not let go for an exception: then, after `GRACE_S`, the process ends as it stands. That loses
nothing. What counts is committed by writes that happen whole, the lease of a process that is gone
is free at once on its machine and after 30 s elsewhere, and Ray ends what belonged to a driver that
is gone. So the same command goes on in either case.
"""

import ctypes
import logging
import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Protocol

from moos.errors import MoosError
from moos.redaction import redact
from pipelines.events import EventLog

logger = logging.getLogger(__name__)

FIRST_WARNING_S = 60.0
"""Silence after which the first warning comes; each further one after twice the silence."""

GRACE_S = 30.0
"""Time for a run that gives up to end by itself."""

LOOK_S = 10.0
"""Longest time for a look at what the cluster has."""

_SIGNAL = getattr(signal, "SIGRTMIN", signal.SIGUSR2)


class StalledError(MoosError):
    """Nothing made progress for `stall_timeout_s`; what is committed stays."""


class _GiveUp(KeyboardInterrupt):
    """Raised in the thread that waits; no handler of errors may take it for a document's.

    Ray's own waits in C look at signals, and of what their handlers raise heed just this kind.
    """


class Watched(Protocol):
    """What a guard watches."""

    @property
    def silence(self) -> str:
        """What does not go on, as `no split has made progress`."""
        ...

    @property
    def progressed_at(self) -> float:
        """When it last went on, by the monotonic clock."""
        ...

    def describe(self) -> list[str]:
        """On what it waits, in lines for people; asks nobody."""
        ...

    def look(self) -> list[str]:
        """What a cluster says about it, likewise; may hang."""
        ...


class StallGuard:
    """Watches while something is under way; enter it in the thread that works or waits for it."""

    def __init__(
        self, watched: Watched, timeout_s: float | None, events: EventLog | None = None
    ) -> None:
        """Set the limit.

        Args:
            watched: Tells of progress.
            timeout_s: Seconds without any after which the run gives up; None is never.
            events: The run's log, once it has one.
        """
        self._watched = watched
        self._timeout_s = timeout_s
        self._events = events
        self._began = time.monotonic()
        self._first_warning_s = min(FIRST_WARNING_S, (timeout_s or FIRST_WARNING_S * 4) / 4)
        self._left = threading.Event()
        self._error: StalledError | None = None
        self._owner = threading.current_thread()

    def __enter__(self) -> "StallGuard":
        self._began = time.monotonic()
        self._owner = threading.current_thread()
        if self._owner is threading.main_thread():
            # It stays: behind a signal that comes too late, the system's own would end the process.
            signal.signal(_SIGNAL, self._raise)
        threading.Thread(target=self._watch, name="moos-stall", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left.set()
        # What was interrupted may have raised an error of its own on its way out.
        if self._error is not None and kind is not None:
            raise self._error from None

    def _raise(self, signum: int, frame: FrameType | None) -> None:
        if self._error is not None and not self._left.is_set():
            raise _GiveUp

    def _watch(self) -> None:
        last, next_warning_s = self._began, self._first_warning_s
        while not self._left.wait(min(1.0, self._first_warning_s / 4)):
            progressed_at = max(self._began, self._watched.progressed_at)
            if progressed_at > last:
                last, next_warning_s = progressed_at, self._first_warning_s
            silent_s = time.monotonic() - last
            if self._timeout_s is not None and silent_s >= self._timeout_s:
                lines = self._describe()
                # That took its time, in which the work may have gone on, or ended.
                if self._left.is_set():
                    return
                if self._watched.progressed_at <= last:
                    self._give_up(silent_s, self._timeout_s, lines)
                    return
            if silent_s >= next_warning_s:
                next_warning_s = 2 * silent_s
                self._warn(silent_s)

    def _warn(self, silent_s: float) -> None:
        lines = self._describe()
        self._note("waiting", silent_s, lines)
        logger.warning(
            "%s for %.0f s; the run gives up %s (stall_timeout_s). It waits for: %s",
            self._watched.silence,
            silent_s,
            "never" if self._timeout_s is None else f"after {self._timeout_s:g} s",
            "; ".join(lines),
        )

    def _note(self, event: str, silent_s: float, lines: list[str], **details: Any) -> None:
        if self._events is not None:
            seconds = round(silent_s, 1)
            facts = {"seconds": seconds, "gives_up_after_s": self._timeout_s, "waits_for": lines}
            self._events.note(event, **facts, **details)

    def _give_up(self, silent_s: float, timeout_s: float, lines: list[str]) -> None:
        message = (
            f"{self._watched.silence} for {silent_s:.0f} s, over stall_timeout_s={timeout_s:g}. "
            f"The run waited for: {'; '.join(lines)}. Where that may rightly take longer, raise "
            "stall_timeout_s (null: never give up)"
        )
        self._error = StalledError(message)
        self._note("stalled", silent_s, lines, exit_code=1)
        self._interrupt()
        if self._left.wait(GRACE_S):
            # A thread that hangs would keep the process from ending; once its main thread has
            # ended, there is nobody left to wait for.
            threading.main_thread().join()
            time.sleep(GRACE_S)
        else:
            told = f"error: {redact(message)}\nrun the same command again to resume\n"
            os.write(2, told.encode())
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
        """On what the run waits; a cluster that does not answer is told as that."""
        found: list[list[str]] = []

        def look() -> None:
            found.append(self._watched.look())

        thread = threading.Thread(target=look, name="moos-stall-look", daemon=True)
        thread.start()
        thread.join(LOOK_S)
        silent = ["the cluster, which does not say what it has"]
        return self._watched.describe() + (found[0] if found else silent)
