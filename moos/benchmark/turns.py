"""Contestants in processes of their own, which take turns.

Each keeps its own threads, memory and settings. All get the same cores, and only the one whose turn
it is works.
"""

import logging
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol

from moos.errors import MoosError

END_TIMEOUT_S = 30.0


class ContestantError(MoosError):
    """A contestant failed; the others go on."""


class Spec(Protocol):
    """Plain data that becomes a contestant."""

    def load(self) -> Any:
        """Load the model, or whatever there is to load."""
        ...


class ContestantProcess:
    """A contestant in a process that lives until `close`."""

    def __init__(self, name: str, spec: Spec, *, threads: int) -> None:
        """Start the process; it loads meanwhile, and `wait_loaded` waits for that.

        Args:
            name: What it is called.
            spec: What to load.
            threads: Cores that it may use.
        """
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, spec, threads), name=f"moos-bench-{name}"
        )
        self._process.start()
        theirs.close()

    def wait_loaded(self) -> None:
        """Wait until it can be asked.

        Raises:
            ContestantError: It could not be loaded.
        """
        self._receive()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of it there; what it gives.

        Raises:
            ContestantError: It raised, or its process ended.
        """
        try:
            self._connection.send((method, arguments))
        except OSError as error:
            raise self._ended() from error
        return self._receive()

    def close(self) -> None:
        """End the process: by itself, or after a while by force."""
        self._connection.close()
        self._process.join(END_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _receive(self) -> Any:
        try:
            is_done, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if not is_done:
            raise ContestantError(answer)
        return answer

    def _ended(self) -> ContestantError:
        self._process.join(END_TIMEOUT_S)
        return ContestantError(f"its process ended with exit code {self._process.exitcode}")


def _serve(connection: Connection, spec: Spec, threads: int) -> None:
    """Load a contestant and answer what it is asked, until the other end closes."""
    # Ctrl-C reaches every process of a terminal: the parent closes this one in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # SIGTERM may, too; leaving in order removes what was written to temporary directories.
    signal.signal(signal.SIGTERM, _leave)
    # What others print is no result; the command's stdout carries its summary alone.
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    bind_cores(threads)
    try:
        contestant = spec.load()
    except BaseException as error:  # noqa: BLE001  whatever a package raises is its result
        _send(connection, (False, _describe(error)))
        return
    _send(connection, (True, None))
    while True:
        try:
            method, arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (True, getattr(contestant, method)(*arguments))
        except Exception as error:
            logging.getLogger(__name__).debug("%s failed", method, exc_info=error)
            answer = (False, _describe(error))
        _send(connection, answer)


def _leave(signum: int, frame: object) -> None:
    sys.exit(128 + signum)


def _send(connection: Connection, answer: tuple[bool, Any]) -> None:
    with suppress(OSError):  # the other end may be gone
        connection.send(answer)


def _describe(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, MoosError) else f"{type(error).__name__}: {text}"


def bind_cores(threads: int) -> None:
    """Bind this process and all that it starts to so many cores, where the system can.

    Thread pools of every library size themselves by that.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:threads])
