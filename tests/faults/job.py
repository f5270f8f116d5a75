"""The real job as a process: started, watched, struck and cleaned up after."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.faults.nursery import ROOT, ForkedProcess, Nursery

T = TypeVar("T")
HINT = "run the same command again to resume"
PATIENCE_S = 150.0
"""Longest time that a job may take to anything, as an idle machine would count it."""

POLL_S = 0.02


class HungError(Exception):
    """A job that did not end in time."""


class Patience:
    """Time that passes as slowly as the machine is busy: with eight at work on two CPUs, by a
    quarter. A job that hangs is found in minutes, and one that waits for its turn is not."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._last = time.monotonic()

    @property
    def is_over(self) -> bool:
        """True once it is used up; to be asked again and again."""
        now = time.monotonic()
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
        self._left -= (now - self._last) / max(1.0, load)
        self._last = now
        return self._left <= 0


class ProcessId(NamedTuple):
    """A process, told from a later one with the same number by when it started."""

    pid: int
    started: int


def process_table() -> dict[ProcessId, int]:
    """Every process with its parent's pid, as Linux tells in /proc; zombies are left out."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything.
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            found[ProcessId(int(path.parent.name), int(fields[19]))] = int(fields[1])
    return found


def descendants(*pids: int) -> set[ProcessId]:
    """Every process below some."""
    children: dict[int, list[ProcessId]] = {}
    for process, parent in process_table().items():
        children.setdefault(parent, []).append(process)
    found: set[ProcessId] = set()
    todo = list(pids)
    while todo:
        below = children.get(todo.pop(), [])
        found.update(below)
        todo.extend(process.pid for process in below)
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def kill(pid: int) -> bool:
    """SIGKILL; False if it was gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


class Job:
    """A job, with its log and every process it was seen to start."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        prefix: Sequence[str] = (),
        nursery: Nursery | None = None,
        holder: int | None = None,
    ) -> None:
        """Start `python -m *arguments`, behind a `prefix` such as `nsenter ...`.

        With a nursery it is forked there, and enters the mounts of the process `holder` in place of
        the prefix.
        """
        if (
            signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            and threading.current_thread() is threading.main_thread()
        ):
            # A shell's background command ignores SIGINT, and what it starts inherits that.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.log = log
        self.family: set[ProcessId] = set()
        self.started = time.monotonic()
        # The log comes through a pipe, so that no limit on the size of files stops it.
        with log.open("wb") as stream:
            self._logger = subprocess.Popen(
                ["cat"], stdin=subprocess.PIPE, stdout=stream, start_new_session=True
            )
        self.process: subprocess.Popen[bytes] | ForkedProcess
        if nursery is not None:
            stderr = self._logger.stdin.fileno()
            self.process = nursery.start(arguments, environment, stderr, holder)
        else:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._logger.stdin,
                cwd=ROOT,
                env=dict(environment),
                start_new_session=True,
            )
        self._logger.stdin.close()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def remember_family(self) -> None:
        """Note the processes that it started, before their tie to it is cut."""
        self.family |= descendants(self.process.pid)

    def replicas(self) -> list[int]:
        """Processes of Ray Data's actors below it, in order of their start."""
        below = sorted(descendants(self.process.pid), key=lambda process: process.started)
        return [p.pid for p in below if command_line(p.pid).startswith("ray::MapWorker(")]

    def kill(self) -> None:
        """SIGKILL to the job alone; what it started is left to itself."""
        self.remember_family()
        self.process.kill()

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """Its exit code.

        Raises:
            HungError: It did not end in time.
        """
        patience = Patience(patience_s)
        while True:
            try:
                return self.process.wait(1)
            except subprocess.TimeoutExpired:
                if patience.is_over:
                    raise HungError(f"not done after {self.seconds:.0f} s") from None

    def wait_for(self, condition: Callable[[], T], patience_s: float = PATIENCE_S) -> T | None:
        """The first true value of `condition()`; None if the job ended before.

        Raises:
            HungError: Neither happened in time.
        """
        patience = Patience(patience_s)
        while not patience.is_over:
            if found := condition():
                return found
            if self.process.poll() is not None:
                return None
            time.sleep(POLL_S)
        raise HungError(f"waited in vain until {self.seconds:.0f} s")

    def living_family(self) -> set[ProcessId]:
        """What it started and is still there; what that started is taken in."""
        living = self.family & process_table().keys()
        return living | descendants(*(process.pid for process in living))

    def stdout(self) -> str:
        """What an ended job printed."""
        return self.process.stdout.read().decode()

    def said(self) -> str:
        """What it logged until now."""
        return self.log.read_text(errors="replace")

    def clean_up(self) -> int:
        """Kill whatever is left of it; how many processes that were."""
        self.remember_family()
        left = self.living_family()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for process in left:
            kill(process.pid)
        self.process.stdout.close()
        self._logger.wait()
        return len(left)
