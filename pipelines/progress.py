"""Progress of a run in documents, tokens, tokens/s, rate and time left.

A bar on a terminal; a line every few seconds in a log.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

logger = logging.getLogger(__name__)

LOG_EVERY_S = 5.0
REFRESH_EVERY_S = 0.5


class ProgressReport:
    """Shows how far a run is; safe to call from any thread.

    Counts are kept per split and replaced, not added, so a split that is worked again after its
    replica died is not counted twice.
    """

    def __init__(self, planned_bytes: int, done_bytes: int, *, unit: str = "tokens") -> None:
        """Prepare a report.

        Args:
            planned_bytes: Bytes of all planned splits.
            done_bytes: Bytes of the splits that were done before this run began.
            unit: What documents are counted in: counts have it, and `kept_` before it.
        """
        self._unit = unit
        self._planned = max(1, planned_bytes)
        self._done = done_bytes
        self._counts: dict[str, dict[str, int]] = {}
        self._bytes: dict[str, int] = {}
        self._finished: set[str] = set()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._poll: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None

    def update(self, split_id: str, counts: dict[str, int]) -> None:
        """Set a split's counts so far; late news of a finished split is ignored."""
        with self._lock:
            if split_id in self._finished:
                return
            self._counts[split_id] = counts
            self._bytes[split_id] = counts["input_bytes"]

    def finish_split(self, split_id: str, counts: dict[str, int], size: int) -> None:
        """Set a split's final counts."""
        with self._lock:
            self._finished.add(split_id)
            self._counts[split_id] = counts
            self._bytes[split_id] = size

    def poll_with(self, poll: Callable[[], None]) -> None:
        """Call `poll` before each refresh, to fetch counts from elsewhere."""
        self._poll = poll

    def figures(self) -> dict[str, Any]:
        """Counts of this pass, the share of the work that is done, and the seconds left.

        `eta_s` is None before the first news.
        """
        with self._lock:
            total = {
                name: sum(counts[name] for counts in self._counts.values())
                for name in ("documents", "quarantined", self._unit, f"kept_{self._unit}")
            }
            worked = sum(self._bytes.values())
            finished = len(self._finished)
        elapsed = time.monotonic() - self._began
        left = max(0, self._planned - self._done - worked)
        return {
            "splits_done": finished,
            **total,
            "bytes": worked,
            "share": round(min(1.0, (self._done + worked) / self._planned), 6),
            f"{self._unit}_per_s": round(total[self._unit] / max(elapsed, 1e-9), 1),
            "eta_s": round(left * elapsed / worked, 1) if worked else None,
        }

    def describe(self) -> tuple[float, str]:
        """Share of the work done, and one line about it."""
        unit, found = self._unit, self.figures()
        eta = "starting" if found["eta_s"] is None else f"{format_duration(found['eta_s'])} left"
        # Nothing is kept yet in the first pass of a corpus rate.
        kept = found[f"kept_{unit}"]
        rate = f"rate {kept / found[unit]:.3f}, " if kept else ""
        quarantined = f", {found['quarantined']:,} quarantined" if found["quarantined"] else ""
        return found["share"], (
            f"{found['documents']:,} documents{quarantined}, {found[unit]:,} {unit}, "
            f"{found[f'{unit}_per_s']:,.0f} {unit}/s, {rate}{eta}"
        )

    def __enter__(self) -> "ProgressReport":
        is_shown = sys.stderr.isatty() and logger.isEnabledFor(logging.INFO)
        show = self._show_bar if is_shown else self._show_lines
        self._thread = threading.Thread(target=show, name="moos-progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _show_bar(self) -> None:
        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=1.0)
            while not self._stop.wait(REFRESH_EVERY_S):
                self._poll()
                share, line = self.describe()
                bar.update(task, completed=share, description=line)
            share, line = self.describe()
            bar.update(task, completed=share, description=line)

    def _show_lines(self) -> None:
        while not self._stop.wait(LOG_EVERY_S):
            self._poll()
            share, line = self.describe()
            logger.info("%3.0f %%  %s", 100 * share, line)


def format_duration(seconds: float) -> str:
    """Seconds as a clock shows them: `1:01`, `25:01:01`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
