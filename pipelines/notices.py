"""What the processes that work splits tell the driver meanwhile; nobody waits for an answer.

Besides the counts of a split so far there are notices, each with its kind:

* `replica_started`: a process loaded what it needs; `replica`, `seconds`, `restarted`
* `split_began`, `split_left`: a stage of a split begins or is done; `split`, `stage`, `replica`
* `split_suspect`: a process ended over the split before; `split`, `replica`
* `split_failed`: work on it raised; `split`, `replica`, `error`
* `alive`: a document that takes long is still being worked; every few seconds, with nothing
"""

import os
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

ALIVE_EVERY_S = 5.0
"""Seconds between signs of life of a process."""


class NoticeCallback(Protocol):
    """Takes a notice."""

    def __call__(self, kind: str, **details: Any) -> None:
        """Take a notice of some kind."""
        ...


class Report(Protocol):
    """What a process has to tell the driver by: counts of splits, and notices."""

    def __call__(self, split_id: str, counts: dict[str, int]) -> None:
        """Take a split's counts so far."""
        ...

    def note(self, kind: str, **details: Any) -> None:
        """Take a notice of some kind."""
        ...


class Throttle:
    """Passes a call on, but not sooner than so many seconds after the last one."""

    def __init__(self, call: Callable[[], None], every_s: float = ALIVE_EVERY_S) -> None:
        self._call = call
        self._every_s = every_s
        self._last = time.monotonic()

    def __call__(self) -> None:
        """Call, or not yet."""
        now = time.monotonic()
        if now - self._last >= self._every_s:
            self._last = now
            self._call()


def ignore_notice(kind: str, **details: Any) -> None:
    """Take a notice for nobody."""


def name_process() -> str:
    """This process, for people: its host and its number there."""
    return f"{socket.gethostname()}:{os.getpid()}"
