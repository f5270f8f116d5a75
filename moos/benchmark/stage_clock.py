"""Times the stages of the library by wrapping its functions for as long as it is entered.

Wrapping costs time itself, so this belongs into a turn of its own, never into one that is compared.
"""

import importlib
import inspect
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

Place = tuple[str, str, str]
"""A module, a function or `Class.method` looked up in it, and the stage that its time is."""

LIBRARY_STAGES: tuple[Place, ...] = (
    ("moos.tokens", "TextTokenizer.tokenize_group", "tokenise"),
    ("moos.preparation", "TextPreparer.prepare", "words and windows"),
    ("moos.engines.openvino_cpu", "OpenVinoEngine.begin", "score"),
    ("moos.engines.openvino_cpu", "OpenVinoEngine._end", "score"),
    ("moos.engines.pytorch", "TorchEngine.begin", "score"),
    ("moos.engines.pytorch", "TorchEngine._end", "score"),
    ("moos.compressor", "score_words", "word scores"),
    ("moos.selector", "Selector.select", "select"),
    ("moos.compressor", "compress_scored", "render"),
)
"""`score` is the engine alone: micro-batches, forward pass, outlier scores, copies; with one that
works ahead of its caller, what the caller waits for it."""


@dataclass(slots=True)
class _Call:
    """A call that goes on, and the seconds of the stages within it."""

    stage: str
    within_s: float = 0.0


class StageClock:
    """Wraps functions while it is entered; times of stages within others are not counted twice."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self._lock = threading.Lock()
        # By the outermost stage in whose call the time was spent, and the stage itself.
        self._seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._open = threading.local()
        self._undo = ExitStack()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each stage so far, summed over threads, without the stages within it."""
        return self._sum(lambda outermost: True)

    def seconds_within(self, outermost: str) -> dict[str, float]:
        """The same, only of what calls of one stage did in their own thread, its own time too.

        Together that is how long these calls took, so it says what their thread waited for.
        """
        return self._sum(lambda stage: stage == outermost)

    def _sum(self, is_wanted: Callable[[str], bool]) -> dict[str, float]:
        sums: defaultdict[str, float] = defaultdict(float)
        with self._lock:
            for (outermost, stage), seconds in self._seconds.items():
                if is_wanted(outermost):
                    sums[stage] += seconds
        return dict(sums)

    def __enter__(self) -> "StageClock":
        for module, path, stage in self._places:
            try:
                owner, name, found = find_place(module, path)
            except AttributeError as error:
                # A figure is missing then; the rest of the measurement stands.
                logger.warning("the stage %r is not timed: %s", stage, error)
                continue
            setattr(owner, name, self._wrap(found, stage))
            self._undo.callback(setattr, owner, name, found)
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()

    def _wrap(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if inspect.isgeneratorfunction(function):
                return self._iterate(function(*args, **kwargs), stage)
            return self._call(lambda: function(*args, **kwargs), stage)

        return timed

    def _iterate(self, items: Iterator[Any], stage: str) -> Iterator[Any]:
        """A generator works while it is read."""
        end = object()
        while (item := self._call(lambda: next(items, end), stage)) is not end:
            yield item

    def _call(self, work: Callable[[], Any], stage: str) -> Any:
        stack: list[_Call] | None = getattr(self._open, "calls", None)
        if stack is None:
            stack = self._open.calls = []
        stack.append(_Call(stage))
        began = time.perf_counter()
        try:
            return work()
        finally:
            took = time.perf_counter() - began
            outermost = stack[0].stage
            own = took - stack.pop().within_s
            if stack:
                stack[-1].within_s += took
            with self._lock:
                self._seconds[outermost, stage] += own


def find_place(module: str, path: str) -> tuple[Any, str, Any]:
    """The object that holds a function, the function's name in it, and the function.

    Raises:
        AttributeError: There is no such function.
    """
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name, getattr(owner, name)
