"""The processes below one, and the CPU time that each has taken, as Linux tells it."""

import os
from contextlib import suppress
from pathlib import Path

_PARENT, _USER_TICKS, _SYSTEM_TICKS = 1, 11, 12
"""Fields of `/proc/PID/stat`, counted from the one behind the name (man 5 proc)."""


def tree_cpu(pid: int) -> dict[int, float]:
    """CPU seconds so far of a process and of all below it that live, threads included."""
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    stats = _read_stats()
    return {
        process: (int(stats[process][_USER_TICKS]) + int(stats[process][_SYSTEM_TICKS]))
        / ticks_per_s
        for process in _below(pid, stats)
        if process in stats
    }


def tree_processes(pid: int) -> set[int]:
    """A process and all below it."""
    return _below(pid, _read_stats())


def _below(pid: int, stats: dict[int, list[str]]) -> set[int]:
    below, found = {pid}, [pid]
    while found:
        found = [child for child, fields in stats.items() if int(fields[_PARENT]) in found]
        below.update(found)
    return below


def _read_stats() -> dict[int, list[str]]:
    """The fields of every process's `/proc/PID/stat` behind its name."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may have ended meanwhile
            # The name, in brackets, may hold anything.
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            stats[int(path.parent.name)] = fields
    return stats
