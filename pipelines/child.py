"""The stages in a process of their own, which a document may kill, hang or fill without harm.

Used for a split whose process ended while it was worked on. The parent reads, writes and watches;
the child gets lists of items and gives results, so neither storage nor another split can be what
ends it. `pipelines.groups` then finds the document that does.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from typing import Any

from moos.errors import DataError, MoosError
from pipelines.job_spec import JobSpec
from pipelines.watchdog import memory_limit, resident_memory

START_TIMEOUT_S = 600.0
"""Longest time for a child to load its model."""

POLL_S = 0.1
PR_SET_PDEATHSIG = 1


class ProcessEndedError(DataError):
    """A child process died, hung or took too much memory over what it was given."""


class ChildProcess:
    """The stages of a spec, done by a child process that is started anew when it ends.

    A job adds a method for each of its stages, which hands its items to `call`.

    Attributes:
        tell: Called when the child says that its work goes on.
        num_scored: Documents given to the model.
        num_ended: Children that ended over what they were given.
        numerics: What the scores depend on besides the plan.
    """

    def __init__(self, spec: JobSpec) -> None:
        """Remember what to start; nothing is started yet."""
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._temporary: TemporaryDirectory[str] | None = None
        self._to_child: Connection | None = None
        self._from_child: Connection | None = None
        self._limit = 0
        self._has_answered = False
        self.tell: Callable[[], None] = lambda: None
        self.num_scored = 0
        self.num_ended = 0
        self.numerics: dict[str, Any] = {}

    def close(self) -> None:
        """End the child, if one is there; the next call starts another."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for connection in (self._to_child, self._from_child):
            if connection is not None:
                connection.close()
        if self._temporary is not None:
            self._temporary.cleanup()
        self._process = self._to_child = self._from_child = self._temporary = None
        self._has_answered = False

    def probe(self) -> None:
        """Do it all to a harmless text in a fresh child; raises where that fails."""
        self.close()
        self.call("probe")

    def call(self, stage: str, *arguments: Sequence[Any]) -> list[Any]:
        """What a stage makes of its arguments, in the child.

        A single item is not to blame for what a child did before, nor for what ended it meanwhile:
        it is tried again in a child of its own.

        Raises:
            ProcessEndedError: The child died, hung, or took too much memory over them.
            MoosError: The child could not be started, or the stage raised.
        """
        had_answered = self._has_answered
        try:
            return self._call(stage, arguments)
        except ProcessEndedError:
            if not had_answered or any(len(argument) > 1 for argument in arguments):
                raise
        return self._call(stage, arguments)

    def _call(self, stage: str, arguments: Sequence[Sequence[Any]]) -> list[Any]:
        if self._process is None:
            self._start()
        try:
            self._send((stage, arguments))
        except OSError as error:
            self.num_ended += 1
            raise self._ended(stage) from error
        try:
            kind, value = self._receive(stage, self._spec.job.document_limits.timeout_s)
        except ProcessEndedError:
            self.num_ended += 1
            raise
        self._has_answered = True
        if kind == "error":
            raise value
        results: list[Any] = value
        return results

    def _start(self) -> None:
        child_reads, parent_writes = os.pipe()
        parent_reads, child_writes = os.pipe()
        # A child that is killed cannot remove what it put there, such as a checkpoint's copy.
        self._temporary = TemporaryDirectory(prefix="moos-child-", ignore_cleanup_errors=True)
        paths = os.pathsep.join(path or "." for path in sys.path)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.child", str(child_reads), str(child_writes)],
                pass_fds=(child_reads, child_writes),
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": paths, "TMPDIR": self._temporary.name},
            )
        except OSError as error:
            os.close(parent_writes)
            os.close(parent_reads)
            self._temporary.cleanup()
            raise _not_started(error) from error
        finally:
            os.close(child_reads)
            os.close(child_writes)
        self._to_child = Connection(parent_writes, readable=False)
        self._from_child = Connection(parent_reads, writable=False)
        self._limit = memory_limit(self._spec.job.document_limits.memory)
        try:
            self._send(self._spec)
            kind, value = self._receive("load", START_TIMEOUT_S)
        except (ProcessEndedError, OSError) as error:
            self.close()
            raise _not_started(error) from error
        if kind == "error":
            self.close()
            raise value
        self.numerics = value

    def _send(self, message: Any) -> None:
        assert self._to_child is not None, "a started child has a pipe"
        self._to_child.send(message)

    def _receive(self, stage: str, timeout_s: float) -> tuple[str, Any]:
        """The next result; the child is ended where it hangs or takes too much memory."""
        assert self._from_child is not None, "a started child has a pipe"
        assert self._process is not None, "a started child is a process"
        last = time.monotonic()
        while True:
            try:
                if self._from_child.poll(POLL_S):
                    kind, value = self._from_child.recv()
                    if kind != "beat":
                        return kind, value
                    last = time.monotonic()
                    self.tell()
            except (EOFError, OSError) as error:
                raise self._ended(stage) from error
            if time.monotonic() - last > timeout_s:
                self.close()
                raise ProcessEndedError(
                    f"the process that did {stage!r} hung: no progress in {timeout_s:g} s "
                    "(document_limits.timeout_s)"
                )
            if resident_memory(self._process.pid) > self._limit:
                self.close()
                raise ProcessEndedError(
                    f"the process that did {stage!r} took more than {self._limit >> 20} MiB "
                    "(document_limits.memory)"
                )

    def _ended(self, stage: str) -> ProcessEndedError:
        assert self._process is not None, "a started child is a process"
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        self.close()
        how = f"with exit code {code}"
        if code is not None and code < 0:
            how = f"by signal {-code} ({signal.Signals(-code).name})"
        return ProcessEndedError(f"the process that did {stage!r} died {how}")


def _not_started(error: Exception) -> MoosError:
    return MoosError(f"a process to work a split apart could not be started: {error}")


def _has_descriptor(stream: Any) -> bool:
    try:
        stream.fileno()
    except (OSError, AttributeError, ValueError):
        return False
    return True


def serve(receive: Connection, send: Connection) -> None:
    """The child: load what the spec says, then answer until the parent is gone."""
    spec: JobSpec = receive.recv()
    try:
        stages, numerics = spec.load_stages(_Beat(send))
    except Exception as error:  # noqa: BLE001  told to the parent
        send.send(("error", MoosError(str(error))))
        return
    send.send(("ready", numerics))
    while True:
        try:
            stage, arguments = receive.recv()
        except EOFError:
            return
        try:
            answer: tuple[str, Any] = ("result", getattr(stages, stage)(*arguments))
        except Exception as error:  # noqa: BLE001  told to the parent
            answer = ("error", _portable(error))
        send.send(answer)


class _Beat:
    """Tells the parent that work goes on, not more often than it looks."""

    def __init__(self, send: Connection) -> None:
        self._send = send
        self._last = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last >= POLL_S:
            self._last = now
            self._send.send(("beat", None))


def _portable(error: Exception) -> Exception:
    """The error as another process can read it: some classes do not survive pickling."""
    if isinstance(error, MoosError):
        return error
    return DataError(f"processing raised {type(error).__name__}: {error}")


def main() -> None:
    """Serve the parent that started this process, and end with it."""
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    receive_fd, send_fd = (int(argument) for argument in sys.argv[1:3])
    with suppress(BrokenPipeError):
        serve(Connection(receive_fd, writable=False), Connection(send_fd, readable=False))


if __name__ == "__main__":
    main()
