"""Where a training run is: told by its processes, held by an actor, watched by the driver.

Any news is progress: a step, a part of a validation, a state that is stored, a worker that begins.
Workers that die over and over are no stall: `workers.max_failures` counts them.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from moos.training import Progress
from pipelines.events import EventLog
from pipelines.executors import describe_free
from pipelines.monitor import PROGRESS_EVERY_S
from pipelines.stall import StallGuard

logger = logging.getLogger(__name__)

TELL_S = 1.0
POLL_S = 1.0
LOG_S = 10.0
PROCESSES_NAMED = 10


class ProgressBoard:
    """An actor that holds where the run is."""

    def __init__(self) -> None:
        self._num_news = 0
        self._progress: dict[str, Any] | None = None
        self._doing: dict[str, tuple[str, float]] = {}
        self._stored_step: int | None = None

    def tell(self, who: str, doing: str, progress: dict[str, Any] | None) -> None:
        """Take what a process does, and where it has the run: a `Progress` as a dict."""
        self._num_news += 1
        self._doing[who] = (doing, time.monotonic())
        if progress is not None:
            self._progress = progress

    def note_stored(self, step: int) -> None:
        """Take that the state of a step is on storage."""
        self._num_news += 1
        self._stored_step = step

    def read(self) -> dict[str, Any]:
        """All that is known: `doing` holds for each process what it last told, and how long ago."""
        now = time.monotonic()
        doing = {who: (what, now - since) for who, (what, since) in self._doing.items()}
        return {
            "num_news": self._num_news,
            "progress": self._progress,
            "doing": doing,
            "stored_step": self._stored_step,
        }


class Teller:
    """Tells the board what one process does, at most once a second, and does not wait for it."""

    def __init__(self, board: Any, who: str) -> None:
        self._board = board
        self._who = who
        self._told_at = -TELL_S

    def __call__(
        self, doing: str, progress: Progress | None = None, *, at_once: bool = False
    ) -> None:
        """Tell what is done from now on.

        Args:
            doing: That, in words.
            progress: Where the run is, from one of its workers.
            at_once: It may take long, or be the last: tell it whenever the last news was.
        """
        now = time.monotonic()
        if at_once or now - self._told_at >= TELL_S:
            self._told_at = now
            told = None if progress is None else asdict(progress)
            self._board.tell.remote(self._who, doing, told)

    @contextmanager
    def within(self, doing: str) -> Iterator[None]:
        """Tell of a call to a store while it is made, as `moos.storage.Storage` would have it."""
        self(f"is to {doing}", at_once=True)
        yield


@dataclass(frozen=True, slots=True)
class Wanted:
    """The processes of one stage of a run, such as Ray Train's workers, and what each one takes."""

    stage: str
    kind: str
    count: int
    cpus: float
    gpus: float


class BoardWatch:
    """Follows one stage by what its board holds, for a `StallGuard`.

    Attributes:
        silence: As a guard says it.
        progressed_at: When there last was news, by the monotonic clock.
    """

    def __init__(self, wanted: Wanted) -> None:
        """Follow a stage."""
        self.silence = f"{wanted.stage} has made no progress"
        self.progressed_at = time.monotonic()
        self._wanted = wanted
        self._found: dict[str, Any] = {"num_news": 0, "doing": {}, "stored_step": None}

    def take(self, found: dict[str, Any]) -> None:
        """Take what the board holds."""
        # One that its node took along counts from nothing again.
        if found["num_news"] != self._found["num_news"]:
            self.progressed_at = time.monotonic()
        self._found = found

    def describe(self) -> list[str]:
        """What each process last told, those silent longest first; which are missing."""
        wanted = self._wanted
        doing = sorted(self._found["doing"].items(), key=lambda item: -item[1][1])
        lines = [f"{who}: {what}, {ago:.0f} s ago" for who, (what, ago) in doing[:PROCESSES_NAMED]]
        if len(doing) > PROCESSES_NAMED:
            lines.append(f"{len(doing) - PROCESSES_NAMED} more {wanted.kind}s")
        if (missing := wanted.count - len(doing)) > 0:
            lines.append(
                f"{missing} of {wanted.count} {wanted.kind}(s) to start; each takes "
                f"{wanted.cpus:g} CPUs and {wanted.gpus:g} GPUs"
            )
        if self._found["stored_step"] is not None:
            lines.append(f"the latest stored state is of step {self._found['stored_step']}")
        return lines

    def look(self) -> list[str]:
        """What the cluster has free."""
        return [describe_free()]


@contextmanager
def follow_stage(wanted: Wanted, timeout_s: float | None, events: EventLog) -> Iterator[Any]:
    """A board for the processes of a stage to tell; where none does, a guard ends the run.

    Args:
        wanted: The processes.
        timeout_s: Seconds without news after which the run gives up; None is never.
        events: The run's log.

    Raises:
        StalledError: There was no news for so long.
    """
    import ray

    # A board that its node takes along begins anew, empty; the handles stay good.
    board = ray.remote(num_cpus=0, max_restarts=-1)(ProgressBoard).remote()
    watch = BoardWatch(wanted)
    with StallGuard(watch, timeout_s, events), BoardDisplay(board, events, watch.take):
        yield board


class BoardDisplay:
    """Tells where the run is, from a thread, while the driver waits for Ray Train."""

    def __init__(
        self, board: Any, events: EventLog, take: Callable[[dict[str, Any]], None]
    ) -> None:
        """Follow a board.

        Args:
            board: Its actor.
            events: The run's log.
            take: Gets what the board holds, at every look.
        """
        self._board = board
        self._events = events
        self._take = take
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="moos-progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        shown: dict[str, Any] | None = None
        logged_at, noted_at = -LOG_S, -PROGRESS_EVERY_S
        while not self._ended.wait(POLL_S):
            try:
                found = ray.get(self._board.read.remote(), timeout=5)
            except (RayError, GetTimeoutError):
                continue
            self._take(found)
            progress, now = found["progress"], time.monotonic()
            if progress and progress != shown and now - logged_at >= LOG_S:
                shown, logged_at = progress, now
                logger.info(
                    "step %(step)d of %(num_steps)d, loss %(loss).4f, %(tokens_per_second).0f "
                    "tokens/s, %(eta_s).0f s left",
                    progress,
                )
                if now - noted_at >= PROGRESS_EVERY_S:
                    noted_at = now
                    self._events.note("progress", **progress)
