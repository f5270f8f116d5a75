"""Tell how far a run is, from its output alone, while the job runs elsewhere or after it has ended.

moos status out
moos status s3://bucket/out --json
moos status out --watch 10

Works for what `moos compress`, `moos label` and `moos train` write. Exit codes: 0 complete; 1 ended
early and nobody works on it (interrupted, failed, stalled): run the same command again; 2 there is
no run at OUTPUT, or usage; 3 complete, but more quarantined than `max_quarantined` allows, or a
damaged file; 4 running; 5 running, but nothing has gone on for a while. With --watch: of the end.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.command import CommandParser, output_parser, read_storage_options, run_reported


def run(path: str, options: dict[str, Any], *, watch_s: float | None, as_json: bool) -> int:
    """Print the status, once or until nobody works any more; the exit code."""
    from moos.storage import Storage
    from pipelines.status import WORKING, HolderWatch, read_status

    output = Storage(path, options)
    watch = HolderWatch(output)
    while True:
        status = read_status(output, watch)
        print(json.dumps(status) if as_json else format_status(status), flush=True)
        if watch_s is None or status["state"] not in WORKING:
            return int(status["exit_code"])
        time.sleep(watch_s)


def format_status(status: Mapping[str, Any]) -> str:
    """A status as lines for people."""
    from pipelines.progress import format_duration

    lines = [f"{status['output']}: {status['state']} (moos {status['job']})"]

    def add(name: str, text: str) -> None:
        lines.append(f"  {name:<12} {text}")

    if "splits" in status:
        unit = "words" if "words" in status else "tokens"
        add("splits", f"{status['splits_done']:,} of {status['splits']:,} done")
        add("documents", f"{status['documents']:,}")
        kept = "" if status["rate"] is None else f", {status['rate']:.3f} of them kept"
        add(unit, f"{status[unit]:,}{kept}")
        by_reason = status["quarantined_by_reason"]
        reasons = ", ".join(f"{kind} {count:,}" for kind, count in by_reason.items())
        add("quarantined", f"{status['quarantined']:,}" + (f" ({reasons})" if reasons else ""))
        if status.get(f"{unit}_per_s") is not None:
            add("pace", f"{status[f'{unit}_per_s']:,.0f} {unit}/s in pass {status['pass_name']!r}")
    if status.get("num_steps") is not None:
        add("step", f"{status['step']:,} of {status['num_steps']:,}, loss {status['loss']:.4f}")
    if status.get("eta_s") is not None:
        add("left", format_duration(status["eta_s"]))
    if holder := status.get("holder"):
        add("at work", f"process {holder['process']} on {holder['host']}, began {holder['began']}")
    if event := status.get("last_event"):
        told = event.get("error") or "; ".join(event.get("waits_for", ()))
        add("last event", f"{event['time']} {event['event']}" + (f": {told}" if told else ""))
    return "\n".join(lines)


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = output_parser("moos status", __doc__)
    parser.add_argument("--json", action="store_true", help="one JSON line instead of text")
    parser.add_argument(
        "--watch", type=float, metavar="SECONDS", help="again every so many seconds, to the end"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    parser = build_parser()
    options = parser.read(argv)
    if options.watch is not None and not options.watch > 0:
        parser.error(f"--watch takes seconds above 0, not {options.watch:g}")
    storage_options = read_storage_options(parser, options.storage_options)
    # What is shown is the summary; nothing is printed behind it.
    codes: list[int] = []

    def job() -> Mapping[str, Any]:
        codes.append(
            run(options.output, storage_options, watch_s=options.watch, as_json=options.json)
        )
        return {}

    return run_reported(job) or codes[0]


if __name__ == "__main__":
    sys.exit(main())
