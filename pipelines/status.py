"""How far a run is, from its output alone, while the job runs elsewhere or after it has ended.

What is done is told by the manifest where the run is complete, by its log (`pipelines.events`)
while it works, and by its done records where it ended early: a killed run's log lacks its last
seconds. Whether somebody works is told by the lease: its heartbeat is recent by our clock, or it
changes while we watch, as clocks of machines differ.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from moos.errors import ConfigError
from moos.storage import Storage
from pipelines.counts import add_counts
from pipelines.events import Event, read_history, read_run
from pipelines.lease import LeaseRecord, is_over, read_lease
from pipelines.outputs import read_manifest
from pipelines.reasons import add_kinds
from pipelines.run_state import SIGNATURE, RunState, read_plan

RECENT_S = 300.0
"""Seconds that the rate is measured over."""

WORKING = ("running", "waiting")
BEGINNINGS = ("started", "resumed")
ENDS = {"finished": "complete", "stalled": "stalled", "failed": "failed"}
TRAINED = "checkpoint/moos.json"

EXIT_CODES = {"complete": 0, "running": 4, "waiting": 5}
"""By state; 1 for every other: nobody works on it, and it is not complete."""


class HolderWatch:
    """Looks at an output's lease, and tells whether its holder lives."""

    def __init__(self, output: Storage) -> None:
        """Name the output; reads nothing."""
        self._output = output
        self._seen: tuple[str, int] | None = None
        self._seen_at = 0.0

    def look(self) -> tuple[LeaseRecord | None, bool]:
        """The lease, and whether its holder is alive; may wait for a sign of life.

        A heartbeat that is recent by our clock counts at once; without one, the lease is watched
        for as long as it takes to expire.
        """
        while True:
            found = read_lease(self._output)
            if found is None or is_over(found):
                return found, False
            now, seen = time.monotonic(), (found.owner, found.beat)
            if self._seen is not None and self._seen != seen:
                self._seen, self._seen_at = seen, now
                return found, True
            if self._seen is None:
                self._seen, self._seen_at = seen, now
            age_s = (datetime.now(UTC) - datetime.fromisoformat(found.time)).total_seconds()
            if 0 <= age_s < found.expires_s:
                return found, True
            if now - self._seen_at >= found.expires_s:
                return found, False
            time.sleep(min(0.5, found.heartbeat_s / 5))


def read_status(output: Storage, watch: HolderWatch) -> dict[str, Any]:
    """How far the latest run on an output is, ready for JSON.

    `state` is `running`; `waiting` (it works, but nothing goes on); `complete`; or it ended early:
    `stalled`, `failed`, or `interrupted`. `exit_code` goes with it: 0 complete, 3 complete but too
    much quarantined, 1 ended early (run again), 4 running, 5 waiting.

    Raises:
        ConfigError: There is no run.
    """
    lease, alive = watch.look()
    history = read_history(output)
    log = read_run(output, None if lease is None else lease.owner) or history
    manifest = _read_complete(output)
    if lease is None and not history and manifest is None and not output.exists(SIGNATURE):
        trained = output.exists(TRAINED)
        if not trained:
            raise ConfigError(
                f"{output.url!r} holds no moos run: neither _run/ nor a manifest.json; give the "
                "output.path of a run"
            )
        return {"output": output.url, "job": "train", "state": "complete", "exit_code": 0}
    begun = _last(log, BEGINNINGS) or _last(history, BEGINNINGS) or {}
    ended = _last(log, tuple(ENDS))
    state = _judge(alive, log, ended, done=manifest is not None)
    exit_code = EXIT_CODES.get(state, 1)
    if state == "complete":
        finished = _last(history, ("finished",)) or {}
        exit_code = int(finished.get("exit_code", 0))
    job = begun.get("job", "compress")
    return {
        "output": output.url,
        "job": job,
        "state": state,
        "exit_code": exit_code,
        "run": None if lease is None else lease.owner,
        **(_figures_of_training(log) if job == "train" else {}),
        **(_figures(output, manifest, log, begun, state) if job != "train" else {}),
        "last_event": log[-1] if log else None,
        "holder": _describe_holder(lease) if lease is not None and alive else None,
    }


def _judge(alive: bool, log: Sequence[Event], ended: Event | None, *, done: bool) -> str:
    if done and not (alive and ended is None):
        return "complete"
    if alive and ended is None:
        news = _last(log, ("waiting", "progress", "split_done", "replica_started", "pass_began"))
        return "waiting" if news is not None and news["event"] == "waiting" else "running"
    found = ENDS.get("" if ended is None else ended["event"], "interrupted")
    # A training run has no manifest; any other that finished and has none has changed since.
    job = (_last(log, BEGINNINGS) or {}).get("job")
    return "interrupted" if found == "complete" and job != "train" else found


def _figures(
    output: Storage,
    manifest: Mapping[str, Any] | None,
    log: Sequence[Event],
    begun: Event,
    state: str,
) -> dict[str, Any]:
    unit = begun.get("unit", "tokens")
    if manifest is not None and state == "complete":
        splits = done = len(manifest["splits"])
        totals = manifest["totals"]
        by_reason = manifest.get("quarantined_by_reason", {})
    elif state in WORKING:
        finals = [event for event in log if event["event"] == "split_done" and event["final"]]
        splits = begun.get("splits", 0)
        done = begun.get("splits_done", 0) + len(finals)
        totals = add_counts([begun.get("totals", {}), *(event["counts"] for event in finals)])
        found = [event["by_reason"] for event in log if event["event"] == "quarantined"]
        by_reason = add_kinds([begun.get("quarantined_by_reason", {}), *found])
    else:
        splits, records = _read_done(output)
        done = len(records)
        totals = add_counts(record["counts"] for record in records)
        by_reason = add_kinds(record.get("quarantined_by_reason", {}) for record in records)
    kept, all_of = totals.get(f"kept_{unit}", 0), totals.get(unit, 0)
    return {
        "splits": splits,
        "splits_done": done,
        "splits_to_do": splits - done,
        "documents": totals.get("documents", 0),
        unit: all_of,
        f"kept_{unit}": kept,
        "rate": round(kept / all_of, 6) if all_of else None,
        "quarantined": totals.get("quarantined", 0),
        "quarantined_by_reason": by_reason,
        **(measure_pace(log, begun, unit) if state in WORKING else {}),
    }


def measure_pace(log: Sequence[Event], begun: Event, unit: str) -> dict[str, Any]:
    """The pass that is at work, what it does a second of late, and the seconds it has left.

    Args:
        log: The run's events.
        begun: That which says what was planned.
        unit: What documents are counted in.
    """
    start = max((i for i, event in enumerate(log) if event["event"] == "pass_began"), default=None)
    if start is None:
        return {"pass_name": None, f"{unit}_per_s": None, "eta_s": None}
    in_pass = log[start:]
    points = [(_seconds(in_pass[0]), 0, 0)]
    news = [event for event in in_pass if event["event"] == "progress"]
    points += [(_seconds(event), event[unit], event["bytes"]) for event in news]
    units = size = 0
    for event in in_pass:
        if event["event"] == "split_done":
            units += event["counts"][unit]
            size += event["counts"]["input_bytes"]
            if not news:
                points.append((_seconds(event), units, size))
    last = points[-1]
    first = max((point for point in points if point[0] <= last[0] - RECENT_S), default=points[0])
    took = last[0] - first[0]
    pace = (last[2] - first[2]) / took if took > 0 else 0.0
    left = max(0, begun.get("bytes_to_do", 0) - last[2])
    return {
        "pass_name": in_pass[0]["pass_name"],
        f"{unit}_per_s": round((last[1] - first[1]) / took, 1) if took > 0 else None,
        "eta_s": round(left / pace, 1) if pace > 0 else None,
    }


def _figures_of_training(log: Sequence[Event]) -> dict[str, Any]:
    told = _last(log, ("progress",)) or {}
    return {name: told.get(name) for name in ("step", "num_steps", "loss", "eta_s")}


def _read_complete(output: Storage) -> dict[str, Any] | None:
    try:
        return read_manifest(output)
    except ConfigError:
        return None


def _read_done(output: Storage) -> tuple[int, list[dict[str, Any]]]:
    """Splits planned, and the valid done records."""
    try:
        plan = read_plan(output)
        signature = json.loads(output.get(SIGNATURE))
    except FileNotFoundError:
        return 0, []
    return len(plan), list(RunState(output, signature).read_done(plan).values())


def _describe_holder(lease: LeaseRecord) -> dict[str, Any]:
    found = asdict(lease)
    names = ("host", "began", "time", "beat", "heartbeat_s", "expires_s")
    return {"process": lease.process.pid, **{name: found[name] for name in names}}


def _last(events: Sequence[Event], names: Sequence[str]) -> Event | None:
    return next((event for event in reversed(events) if event["event"] in names), None)


def _seconds(event: Event) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()
