"""What the processes that work splits tell the driver meanwhile; nobody waits for an answer.

Besides the counts of a split so far there are notices, each with its kind:

* `replica_started`: a process loaded what it needs; `replica`, `seconds`, `restarted`
* `split_began`, `split_left`: a stage of a split begins or is done; `split`, `stage`, `replica`
* `split_suspect`: a process ended over the split before; `split`, `replica`
* `split_failed`: work on it raised; `split`, `replica`, `error`
"""

import os
import socket
from typing import Any, Protocol


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


def ignore_notice(kind: str, **details: Any) -> None:
    """Take a notice for nobody."""


def name_process() -> str:
    """This process, for people: its host and its number there."""
    return f"{socket.gethostname()}:{os.getpid()}"
