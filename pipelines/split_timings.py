"""Which splits took longest, from the events of the runs that worked them."""

import heapq
from collections.abc import Container, Mapping
from typing import Any, NamedTuple

SLOWEST = 10


class SplitTiming(NamedTuple):
    """How long one pass over a split took.

    Attributes:
        seconds: So long.
        split: Its id.
        pass_name: What was made of it.
        path: Its file.
        tokens: Tokens in it.
    """

    seconds: float
    split: str
    pass_name: str
    path: str
    tokens: int


class SplitTimings:
    """The slowest splits of some events; holds a few times `SLOWEST`, however many there are."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str], SplitTiming] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Take an event; only `split_done` counts, and the latest one of a split."""
        if event.get("event") != "split_done":
            return
        try:
            timing = SplitTiming(
                float(event["seconds"]),
                event["split"],
                event["pass_name"],
                event["path"],
                int(event["counts"].get("tokens", 0)),
            )
        except (KeyError, TypeError, ValueError):  # something else's line
            return
        self._latest[timing.split, timing.pass_name] = timing
        self._forget()

    def update(self, other: "SplitTimings") -> None:
        """Take another's, which are the later ones."""
        self._latest.update(other._latest)
        self._forget()

    def _forget(self) -> None:
        if len(self._latest) > 50 * SLOWEST:
            kept = heapq.nlargest(25 * SLOWEST, self._latest.values())
            self._latest = {(one.split, one.pass_name): one for one in kept}

    def slowest(self, splits: Container[str]) -> list[SplitTiming]:
        """The slowest of some splits, slowest first."""
        counting = (timing for timing in self._latest.values() if timing.split in splits)
        return heapq.nlargest(SLOWEST, counting)
