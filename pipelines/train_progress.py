"""Where a training run is: told by a worker, held by an actor, logged by the driver."""

import logging
import threading
import time
from typing import Any

from moos.training import Progress
from pipelines.events import EventLog
from pipelines.monitor import PROGRESS_EVERY_S

logger = logging.getLogger(__name__)

POLL_S = 1.0
LOG_S = 10.0


class ProgressBoard:
    """An actor that holds where the run is."""

    def __init__(self) -> None:
        self._progress: dict[str, Any] | None = None

    def tell(self, progress: dict[str, Any]) -> None:
        """Take the latest news, a `Progress` as a dict."""
        self._progress = progress

    def read(self) -> dict[str, Any] | None:
        """The latest news."""
        return self._progress


class BoardDisplay:
    """Tells where the run is, from a thread, while the driver waits for Ray Train."""

    def __init__(self, board: Any, events: EventLog) -> None:
        self._board = board
        self._events = events
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        shown, noted_at = None, -PROGRESS_EVERY_S
        while not self._ended.wait(LOG_S if shown else POLL_S):
            try:
                found = ray.get(self._board.read.remote(), timeout=5)
            except (RayError, GetTimeoutError):
                continue
            if found and found != shown:
                shown = found
                progress = Progress(**found)
                logger.info(
                    "step %d of %d, loss %.4f, %.0f tokens/s, %.0f s left",
                    progress.step,
                    progress.num_steps,
                    progress.loss,
                    progress.tokens_per_second,
                    progress.eta_s,
                )
                if time.monotonic() - noted_at >= PROGRESS_EVERY_S:
                    noted_at = time.monotonic()
                    self._events.note("progress", **found)
