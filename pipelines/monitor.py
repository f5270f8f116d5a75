"""What the driver hears while a pass is worked, and whom it tells."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from moos.splits import InputSplit
from pipelines.events import EventLog
from pipelines.job_spec import JobSpec
from pipelines.metrics import PassMetrics
from pipelines.progress import ProgressReport
from pipelines.split_watch import SplitWatch

PROGRESS_EVERY_S = 30.0
"""Seconds between events that tell how far a run is."""


class PassMonitor:
    """Follows one pass; a `Report` for the processes that work it. Safe to call from any thread."""

    def __init__(
        self,
        spec: JobSpec,
        splits: Sequence[InputSplit],
        progress: ProgressReport,
        events: EventLog,
        watch: SplitWatch,
        metrics: PassMetrics | None = None,
    ) -> None:
        """Follow a pass.

        Args:
            spec: What is made of the splits.
            splits: Those to work.
            progress: Shows how far it is.
            events: The run's log.
            watch: Tells a guard what goes on.
            metrics: Figures for Prometheus, where they are kept.
        """
        self._pass_name = spec.pass_name
        self._is_final = spec.is_final
        self._splits = {split.id: split for split in splits}
        self._progress = progress
        self._events = events
        self._watch = watch
        self._metrics = metrics
        self._fetch: Callable[[], None] = lambda: None
        self._noted_at = time.monotonic()
        progress.poll_with(self._poll)
        events.note(
            "pass_began", pass_name=self._pass_name, splits=len(splits), final=self._is_final
        )

    def fetch_with(self, fetch: Callable[[], None]) -> None:
        """Call `fetch` now and then, to get news from elsewhere."""
        self._fetch = fetch

    def __call__(self, split_id: str, counts: dict[str, int]) -> None:
        """Take a split's counts so far."""
        self._watch.count(split_id, counts)
        self._progress.update(split_id, counts)

    def note(self, kind: str, **details: Any) -> None:
        """Take a notice (see `pipelines.notices`)."""
        self._watch.note(kind, details)
        if kind == "replica_started":
            restarted = details.pop("restarted")
            self._events.note("replica_restarted" if restarted else "replica_started", **details)
            if restarted and self._metrics is not None:
                self._metrics.restart_replica()
        elif kind in ("split_suspect", "split_failed"):
            self._events.note(kind, **details)

    def finish(self, record: dict[str, Any]) -> dict[str, Any]:
        """Take a split's record as its worker gave it; the record alone, as it was written."""
        replica, seconds = record.pop("replica"), record.pop("seconds")
        split, counts = self._splits[record["split"]], record["counts"]
        place = {"split": split.id, "path": split.relative}
        self._watch.finish(split.id)
        self._progress.finish_split(split.id, counts, split.size)
        if self._metrics is not None:
            self._metrics.finish_split(record, seconds)
        if counts["quarantined"] and self._is_final:
            by_reason = record["quarantined_by_reason"]
            self._events.note(
                "quarantined", **place, records=counts["quarantined"], by_reason=by_reason
            )
        self._events.note(
            "split_done",
            **place,
            start=split.start,
            stop=split.stop,
            pass_name=self._pass_name,
            final=self._is_final,
            replica=replica,
            seconds=round(seconds, 3),
            counts=counts,
        )
        return record

    def _poll(self) -> None:
        self._fetch()
        now = time.monotonic()
        if now - self._noted_at >= PROGRESS_EVERY_S:
            self._noted_at = now
            self._events.note("progress", pass_name=self._pass_name, **self._progress.figures())
