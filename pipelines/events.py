"""What happens in a run, as JSON lines that other programs can follow.

A *run* is one start of a job on an output; its id is that of its lease. Two places hold events:

* `_run/events.jsonl`: the milestones, marked (*) below, of every run on the output
* `_run/events/<began>-<run>-<part>.jsonl`: all events of the latest runs. Names sort by time

An object store cannot append, so the part that grows is written anew, whole, at most every 5 s and
at once for a milestone; a part that holds 256 KiB is left alone, and the next one begins. So the
cost of the log is bounded by time, and does not grow with the square of the splits. A killed run
loses its last seconds of events, never a done record. Trouble with the store is logged and tried
again: no run fails for its log.

Each line is an object with `time` (UTC, ISO 8601), `event` and `run`, and, depending on `event`:

* `lease_taken`: `host`, `process`
* `planned`: `job`, `unit` (what documents are counted in: tokens or words), `files`, `splits`,
  `splits_done`, `splits_to_do`, `bytes`, `bytes_to_do`
* `started` (*), on a new output, or `resumed` (*): the same, with `totals` of the done splits
  (counts by name), and their `quarantined_by_reason`
* `pass_began`: `pass_name`, `splits` to do in it, `final` (its splits are done afterwards)
* `replica_started`, `replica_restarted`: `replica` (host:process), `seconds` that loading took
* `split_suspect`: `split`, `replica`; a process ended over it before, so it is worked in a child
* `split_failed`: `split`, `replica`, `error`
* `split_done`: `split`, `path`, `start`, `stop`, `pass_name`, `final`, `replica`, `seconds`,
  `counts` by name
* `quarantined`: `split`, `path`, `records`, `by_reason`
* `progress`: `pass_name`; of this pass `splits_done`, `documents`, `quarantined`, `bytes`,
  counts and rate of the unit; `share` of all planned bytes; `eta_s` or null
* `waiting`: `seconds` without progress, `gives_up_after_s`, `waits_for` (lines for people); not
  while planning, when there is no log yet
* `stalled` (*): the same; the run gave up
* `finished` (*): the summary that the job prints, `exit_code` in it
* `failed` (*), `interrupted` (*): `error`, `exit_code`

`moos train` notes `started` with `name`, that of what it trains; `progress` with `step`,
`num_steps`, `loss`, `tokens_per_second`, `eta_s`; and the ends.

Paths are those of the input, relative to its root. Secrets are masked (`moos.redaction`).
"""

import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from moos.redaction import redact
from moos.storage import TEMPORARY, Storage
from pipelines.split_timings import SplitTimings

logger = logging.getLogger(__name__)

HISTORY = "_run/events.jsonl"
DIRECTORY = "_run/events"

MILESTONES = ("started", "resumed", "stalled", "finished", "failed", "interrupted")
AT_ONCE = (*MILESTONES, "waiting")

FLUSH_EVERY_S = 5.0
PART_BYTES = 256 << 10

CLOSE_S = 20.0
"""Longest time that the end of a run waits for its last events to be written."""

RUNS_KEPT = 50
"""Runs whose logs stay; of older ones only the milestones do."""

Event = dict[str, Any]


class EventLog:
    """The log of one run; `note` may be called from any thread, and never waits for the store."""

    def __init__(self, output: Storage, run: str) -> None:
        """Name a log; reads and writes nothing.

        Args:
            output: The run's output.
            run: Its id.
        """
        self.run = run
        self.timings = SplitTimings()
        self._output = output
        self._began = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._part = 0
        self._lines: list[bytes] = []
        self._milestones: list[bytes] = []
        self._written = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._keeps_history = True
        self._thread: threading.Thread | None = None

    def leave_history(self) -> None:
        """Write no further milestone to the history: it is another run's to write now."""
        self._keeps_history = False

    def note(self, event: str, **details: Any) -> None:
        """Note that something happened."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"time": now, "event": event, "run": self.run, **_redact(details)}
        line = json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            self._lines.append(line)
            self.timings.add(entry)
            if event in MILESTONES and self._keeps_history:
                self._milestones.append(line)
        if event in AT_ONCE:
            self._wake.set()

    def __enter__(self) -> "EventLog":
        self._thread = threading.Thread(target=self._keep, name="moos-events", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)
            if self._thread.is_alive():
                logger.warning("%s: the last events of this run are not written", self._name())

    def _keep(self) -> None:
        self._try("old events were not removed", self._remove_old)
        while not self._closing:
            self._wake.wait(FLUSH_EVERY_S)
            self._wake.clear()
            self._try("events were not written", self._flush)
        self._try("the last events were not written", self._flush)

    def _try(self, what: str, call: Any) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001  stores raise what they like; no run fails for it
            logger.warning("%s: %s: %s", self._output.url, what, redact(str(error)))

    def _flush(self) -> None:
        """Write what is new; what could not be written stays for the next time."""
        with self._lock:
            lines, milestones = list(self._lines), list(self._milestones)
        if len(lines) > self._written:
            data = b"".join(lines)
            self._output.put(self._name(), data)
            self._written = len(lines)
            if len(data) >= PART_BYTES:
                self._part += 1
                self._written = 0
                with self._lock:
                    del self._lines[: len(lines)]
        if milestones:
            self._append_history(milestones)
            with self._lock:
                del self._milestones[: len(milestones)]

    def _append_history(self, lines: Sequence[bytes]) -> None:
        try:
            history = self._output.get(HISTORY)
        except FileNotFoundError:
            history = b""
        if history and not history.endswith(b"\n"):
            history += b"\n"
        self._output.put(HISTORY, history + b"".join(lines))

    def _name(self) -> str:
        return f"{DIRECTORY}/{self._began}-{self.run}-{self._part:05d}.jsonl"

    def _remove_old(self) -> None:
        """Remove the logs of all but the latest runs, and what a killed one left half written."""
        names = self._output.list(DIRECTORY)
        runs = sorted({name.rpartition("-")[0] for name in names if not name.endswith(TEMPORARY)})
        old = set(runs[: -RUNS_KEPT + 1])
        for name in names:
            if name.endswith(TEMPORARY) or name.rpartition("-")[0] in old:
                self._output.remove(f"{DIRECTORY}/{name}")


def _redact(value: Any) -> Any:
    """A JSON value without the secrets that can be told in its strings."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _redact(item) for key, item in value.items()}
    return [_redact(item) for item in value] if isinstance(value, list | tuple) else value


def read_timings(output: Storage, log: EventLog) -> SplitTimings:
    """How long splits took in the runs whose events are there, the one of `log` the latest."""
    timings = SplitTimings()
    for name in sorted(output.list(DIRECTORY)):
        if name.endswith(".jsonl") and log.run not in name:
            for event in parse_events(output.get(f"{DIRECTORY}/{name}")):
                timings.add(event)
    timings.update(log.timings)
    return timings


def read_history(output: Storage) -> list[Event]:
    """The milestones of every run on an output, oldest first; none where there was no run."""
    try:
        return list(parse_events(output.get(HISTORY)))
    except FileNotFoundError:
        return []


def read_run(output: Storage, run: str | None = None) -> list[Event]:
    """All events of a run, oldest first: of the latest that left any, where none is named."""
    names = sorted(name for name in output.list(DIRECTORY) if name.endswith(".jsonl"))
    if run is None and names:
        run = _run_of(names[-1])
    wanted = [name for name in names if _run_of(name) == run]
    return [event for name in wanted for event in parse_events(output.get(f"{DIRECTORY}/{name}"))]


def _run_of(name: str) -> str:
    return name.split("-")[1] if name.count("-") == 2 else ""


def parse_events(data: bytes) -> Iterator[Event]:
    """The events of a file; a line that is none, left by something else, is passed over."""
    for line in data.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            yield event
