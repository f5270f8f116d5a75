"""Jobs without the wait for their imports: forked from a process that has made them.

Most of a small run's time goes into starting Python and importing libraries. Here one process does
that once; every job is a fork of it, in a session of its own, that sets up its environment and then
runs the module like `python -m`. It is struck like any other process. A job's parent is a process
that waits for it, and passes on how it ended.

python -m tests.faults.nursery FD
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.faults.machine import PATCHED

ROOT = Path(__file__).parents[2]
IMPORTED = (
    *("openvino", "pandas", "s3fs"),
    *("jobs.command", "pipelines.compress", "pipelines.compress_worker", "pipelines.verify"),
    "moos.engines.openvino_cpu",
)
"""What a local run or `moos verify` imports; pandas is pyarrow's doing."""

MOST_BYTES = 1 << 20
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MACHINE = "MOOS_TEST_MACHINE"


class ForkedProcess:
    """A job in the way of `subprocess.Popen`.

    Attributes:
        pid: Its process id.
        returncode: How it ended, negative for a signal; None before `poll` or `wait` found out.
        stdout: What it prints.
    """

    def __init__(self, pid: int, status: int, stdout: IO[bytes]) -> None:
        """Take over the descriptors."""
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = stdout
        self._status = status

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code.

        Raises:
            subprocess.TimeoutExpired: It did not end in time.
        """
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = int(os.read(self._status, 100))
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that jobs are forked from, until it is closed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it; it imports while others go on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env=dict(environment),
            start_new_session=True,
        )
        theirs.close()

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        stderr: int,
        holder: int | None = None,
    ) -> ForkedProcess:
        """Run `python -m *arguments`, among the mounts of the process `holder` if there is one."""
        status, status_end = os.pipe()
        stdout, stdout_end = os.pipe()
        told = json.dumps(
            {
                "arguments": list(arguments),
                "environment": dict(environment),
                "holder": holder,
            }
        )
        socket.send_fds(self._socket, [told.encode()], [stdout_end, stderr, status_end])
        for descriptor in (stdout_end, status_end):
            os.close(descriptor)
        pid = int(self._socket.recv(100))
        return ForkedProcess(pid, status, os.fdopen(stdout, "rb"))

    def close(self) -> None:
        """End it; jobs go on."""
        self._socket.close()
        self._process.wait()


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork jobs until the harness is gone; what to run comes back in a job, and None at the end."""
    # Nobody asks how the processes ended that wait for jobs.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        told, descriptors, _, _ = socket.recv_fds(requests, MOST_BYTES, 3)
        if not told:
            return None
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _fork_job(requests, json.loads(told), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _fork_job(
    requests: socket.socket, told: dict[str, Any], stdout: int, stderr: int, status: int
) -> dict[str, Any]:
    """Fork again: the parent waits and passes the exit code on, the child returns."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        # Whoever started us in the background of a shell may have had it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
    else:
        requests.send(str(pid).encode())
    requests.close()
    os.close(stdout)
    os.close(stderr)
    if pid:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(status, str(code).encode())
        os._exit(0)
    os.close(status)
    return told


def _enter_mounts(holder: int) -> None:
    """What `nsenter --user --mount` does; a fork has one thread, as entering asks for."""
    library = ctypes.CDLL(None, use_errno=True)
    spaces = (("user", CLONE_NEWUSER), ("mnt", CLONE_NEWNS))
    opened = [(os.open(f"/proc/{holder}/ns/{name}", os.O_RDONLY), kind) for name, kind in spaces]
    for descriptor, kind in opened:
        if library.setns(descriptor, kind):
            raise OSError(ctypes.get_errno(), f"cannot enter the mounts of {holder}")
        os.close(descriptor)
    os.chdir(ROOT)


def _run(told: dict[str, Any]) -> None:
    if told["holder"] is not None:
        _enter_mounts(told["holder"])
    os.environ.clear()
    os.environ.update(told["environment"])
    # The generator of waits, which forks would share.
    sys.modules["moos.retries"]._random.seed()
    if MACHINE in os.environ:
        _break_machine()
    name, *rest = told["arguments"]
    sys.argv = [name, *rest]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _break_machine() -> None:
    """What `patched/sitecustomize.py` does where modules are not imported yet."""
    sys.path.insert(0, str(PATCHED))
    machine = importlib.import_module("patched_machine")
    machine.patch_standard_library()
    machine.patch(sys.modules["moos.storage"])


if __name__ == "__main__":
    for module in IMPORTED:
        importlib.import_module(module)
    # Tables of all characters, which a process makes when it first needs them.
    sys.modules["moos.characters"].classify("")
    sys.modules["moos.listed_words"]._letter_table()
    # A collection in a fork would touch, and so copy, every page: a second of a run's three.
    gc.collect()
    gc.freeze()
    if (wanted := _serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        _run(wanted)
