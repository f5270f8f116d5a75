"""Figures of a run for Prometheus, by `ray.util.metrics`: where work is done on Ray, nowhere else.

The driver counts them from the records that come back, so nothing is counted twice. Each node of
the cluster serves what its processes tell; Ray puts `ray_` before a name, and `_total` behind that
of a counter. Every one has the tags `job` (`compress`, `label`), `run` and `pass_name`.

* `moos_documents`, counter: documents of done splits
* `moos_tokens`, `moos_kept_tokens`, counters: likewise; of a label run `moos_words`,
  `moos_kept_words`
* `moos_quarantined`, counter: records set apart; tag `reason`, one of
  `pipelines.reasons.REASON_KINDS`
* `moos_split_seconds`, histogram: seconds that work on a split took
* `moos_replica_restarts`, counter: replicas that Ray started again
* `moos_splits_to_do`, gauge: splits of the pass that are not done

Counts are those of the pass at work: of a corpus rate's two passes only the last one keeps tokens.
"""

from collections.abc import Mapping
from typing import Any

TAGS = ("job", "run", "pass_name")

SPLIT_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Bounds of the histogram's buckets: 8 MiB of text take minutes on a core, seconds on a GPU."""


class PassMetrics:
    """The figures of one pass."""

    def __init__(self, *, job: str, run: str, pass_name: str, unit: str, num_splits: int) -> None:
        """Register the figures with Ray, which must be connected.

        Args:
            job: The command.
            run: The run's id.
            pass_name: What is made of the splits.
            unit: What documents are counted in.
            num_splits: Splits to work.
        """
        from ray.util.metrics import Counter, Gauge, Histogram

        tags = {"job": job, "run": run, "pass_name": pass_name}

        def counter(name: str, description: str, *more: str) -> Any:
            made = Counter(f"moos_{name}", description=description, tag_keys=(*TAGS, *more))
            made.set_default_tags(tags)
            return made

        self._counts = {
            "documents": counter("documents", "Documents of done splits."),
            unit: counter(unit, f"Their {unit}."),
            f"kept_{unit}": counter(f"kept_{unit}", f"Their {unit} that were kept."),
        }
        self._quarantined = counter("quarantined", "Records set apart.", "reason")
        self._restarts = counter("replica_restarts", "Replicas that were started again.")
        self._seconds = Histogram(
            "moos_split_seconds",
            description="Seconds that work on a split took.",
            boundaries=list(SPLIT_SECONDS),
            tag_keys=TAGS,
        )
        self._seconds.set_default_tags(tags)
        self._to_do = Gauge(
            "moos_splits_to_do", description="Splits of the pass not done.", tag_keys=TAGS
        )
        self._to_do.set_default_tags(tags)
        self._num_to_do = num_splits
        self._to_do.set(num_splits)

    def finish_split(self, record: Mapping[str, Any], seconds: float) -> None:
        """Count a split that is done.

        Args:
            record: Its record.
            seconds: How long work on it took.
        """
        for name, counter in self._counts.items():
            if value := record["counts"].get(name, 0):
                counter.inc(value)
        for reason, count in record.get("quarantined_by_reason", {}).items():
            self._quarantined.inc(count, tags={"reason": reason})
        self._seconds.observe(seconds)
        self._num_to_do -= 1
        self._to_do.set(self._num_to_do)

    def restart_replica(self) -> None:
        """Count a replica that was started again."""
        self._restarts.inc()
