"""Memory of processes, as Linux tells it."""

import os
import threading
from contextlib import suppress
from pathlib import Path

from moos.benchmark.processes import tree_processes

SAMPLE_EVERY_S = 1.0


def peak_memory() -> int:
    """Most bytes that this process has held.

    Read from `/proc`: what `getrusage` says begins with the peak of the process that started it.
    """
    try:
        return _read_status("self")["VmHWM"]
    except (OSError, KeyError):
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def tree_memory(pid: int) -> int:
    """Bytes held by a process and all below it, without memory that they share by name.

    Pages of program files count for each process that maps them, so it is a little too much.
    """
    total = 0
    for process in tree_processes(pid):
        with suppress(OSError, KeyError):  # it may have ended meanwhile
            status = _read_status(str(process))
            total += status["VmRSS"] - status["RssShmem"]
    return total


class TreePeak:
    """Samples the memory of this process and all below it while it is entered.

    Attributes:
        peak: Most bytes seen so far.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="moos-memory", daemon=True)

    def __enter__(self) -> "TreePeak":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.peak = max(self.peak, tree_memory(os.getpid()))
            if self._stop.wait(SAMPLE_EVERY_S):
                return


def _read_status(process: str) -> dict[str, int]:
    """The sizes of `/proc/PID/status` in bytes."""
    sizes = {}
    for line in Path("/proc", process, "status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            sizes[name] = int(value.split()[0]) * 1024
    return sizes
