"""Reading ahead: the next items are made in a thread while the current one is worked on."""

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")

LEAVE_S = 5.0
"""Longest wait for the thread where its items are no longer wanted: a read may hang for good."""


def prefetch(source: Iterator[T], depth: int) -> Iterator[T]:
    """The items of `source`, read ahead by a thread that holds at most `depth` of them."""
    ahead: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: tuple[str, Any]) -> bool:
        while not stop.is_set():
            try:
                ahead.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def fill() -> None:
        try:
            for item in source:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:  # noqa: BLE001  raised again in the consumer's thread
            put(("error", error))

    thread = threading.Thread(target=fill, name="moos-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ahead.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        thread.join(LEAVE_S)
