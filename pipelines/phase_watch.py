"""The phases of a run that work no split, such as planning and finishing: which calls are out.

What such a phase waits for is a store, nearly always; so `Storage` tells of each of its calls here,
and the other calls that may hang are told by whoever makes them. That one begins or ends is
progress: a call that is tried again meanwhile is still the same one. Calls of the lease and of the
log, which go on whatever else hangs, are not told.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.events import EventLog
from pipelines.stall import StallGuard

CALLS_NAMED = 10


class PhaseWatch:
    """Follows the phases of one run, for a `StallGuard`; safe to call from any thread.

    Attributes:
        silence: As a guard says it.
        progressed_at: When a call last began, ended or went on, by the monotonic clock.
    """

    def __init__(self, timeout_s: float | None = None) -> None:
        """Follow a run; nothing is guarded yet.

        Args:
            timeout_s: Seconds without progress after which a guarded phase gives up; None is never.
        """
        self.silence = ""
        self.progressed_at = time.monotonic()
        self._timeout_s = timeout_s
        self._calls: dict[object, tuple[str, float]] = {}
        self._latest = ""
        self._lock = threading.Lock()

    @contextmanager
    def guard(self, phase: str, events: EventLog | None = None) -> Iterator[None]:
        """Guard a phase in the thread that works it.

        Args:
            phase: Its name: `planning`.
            events: The run's log, once it has one.

        Raises:
            StalledError: It made no progress for the set time.
        """
        self.silence = f"{phase} has made no progress"
        with StallGuard(self, self._timeout_s, events):
            yield

    @contextmanager
    def call(self, what: str) -> Iterator[None]:
        """Tell of a call while it is made; those within it are told too."""
        key = object()
        with self._lock:
            self._calls[key] = (what, time.monotonic())
        self.go_on()
        try:
            yield
        finally:
            with self._lock:
                self._latest, _ = self._calls.pop(key)
            self.go_on()

    def go_on(self) -> None:
        """Say that work goes on, within a call or between calls."""
        self.progressed_at = time.monotonic()

    def describe(self) -> list[str]:
        """Which calls the phase waits for, the latest first, since each is made within others."""
        now = time.monotonic()
        with self._lock:
            calls = [f"{what}, for {now - since:.0f} s" for what, since in self._calls.values()]
        if not calls:
            behind = f", behind the call: {self._latest}" if self._latest else ""
            return [f"work on this machine{behind}"]
        more = len(calls) - CALLS_NAMED
        return calls[::-1][:CALLS_NAMED] + ([f"{more} more calls"] if more > 0 else [])

    def look(self) -> list[str]:
        """Nothing: no cluster works such a phase."""
        return []
