"""Ends a process that a document hangs, or drives out of its memory.

A process cannot take back control from code that hangs in C, but it can end; its split is then
worked again in a process of its own, where the document is found (`pipelines.child`).
"""

import faulthandler
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

MEMORY_SHARE = 0.8
"""Share of the free memory that a process may take where nothing is configured."""

CHECK_EVERY_S = 0.25
GRACE_S = 2.0
"""Seconds that code which holds the GIL gets on top."""

BEAT_EVERY_S = 0.2
"""A beat so soon after another is not passed on: a million short documents beat often."""


class Watchdog:
    """Watches over this process while work is on; `beat` says that it goes on.

    Attributes:
        tell: Called when it goes on, to tell others; at most every 0.2 s.
    """

    def __init__(self, timeout_s: float, memory: int) -> None:
        """Set the limits.

        Args:
            timeout_s: Longest time between two beats.
            memory: Most bytes of resident memory.
        """
        self.tell: Callable[[], None] = lambda: None
        self._timeout_s = timeout_s
        self._memory = memory
        self._stop = threading.Event()
        self._last_beat = -BEAT_EVERY_S
        self._thread: threading.Thread | None = None

    def beat(self) -> None:
        """Say that work goes on."""
        now = time.monotonic()
        if self._thread is not None and now - self._last_beat >= BEAT_EVERY_S:
            self._last_beat = now
            # The thread below comes first and says more. This one is C's own: it ends the process
            # even while the GIL is held.
            faulthandler.dump_traceback_later(self._timeout_s + GRACE_S, exit=True, file=2)
            self.tell()

    def __enter__(self) -> "Watchdog":
        self._stop.clear()
        self._last_beat = time.monotonic() - BEAT_EVERY_S
        self._thread = threading.Thread(target=self._watch, name="moos-watchdog", daemon=True)
        self._thread.start()
        self.beat()
        return self

    def __exit__(self, *error: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None

    def _watch(self) -> None:
        while not self._stop.wait(CHECK_EVERY_S):
            used = resident_memory(os.getpid())
            if used > self._memory:
                _end(
                    f"this process takes {used >> 20} MiB, over its limit of "
                    f"{self._memory >> 20} MiB (document_limits.memory)"
                )
            if time.monotonic() - self._last_beat > self._timeout_s:
                _end(f"no progress in {self._timeout_s:g} s (document_limits.timeout_s)")


def _end(reason: str) -> None:
    """End this process as it stands: whatever holds it would not let go for an exception."""
    message = (
        f"error: {reason}; the process ends, and its split is worked again in a process of its own "
        "when the run goes on\nrun the same command again to resume, if it has ended too\n"
    )
    os.write(2, message.encode())
    os._exit(1)


def memory_limit(setting: int | Literal["auto"]) -> int:
    """Most bytes that this process, or a child of it, may take; `auto` looks at what is free."""
    if setting != "auto":
        return int(setting)
    return resident_memory(os.getpid()) + int(MEMORY_SHARE * free_memory())


def resident_memory(pid: int) -> int:
    """Bytes of memory that a process takes; 0 where the system does not say, or it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def free_memory() -> int:
    """Bytes that this machine, or this container, has free; very many where it does not say."""
    free = 1 << 50
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) << 10
    except OSError:
        return free
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except OSError:
        return free
    return free if limit == "max" else min(free, max(0, int(limit) - used))
