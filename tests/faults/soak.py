"""Injection after injection, each in its own run of the real job; results go into a table.

python -m tests.faults.soak --count 40 --seed 1 --table tests/faults/RESULTS.md
python -m tests.faults.soak --kinds kill_driver s3_reset --count 10 --set selection.rate=0.3

Kinds take turns, seeds count up. Exit codes: 0 all held, 1 a promise was broken. A failure keeps
its directory and says how to repeat it.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.acts import run_trial
from tests.faults.injections import KINDS, POISON_KINDS, TRAIN_KINDS, choose_injection
from tests.faults.job import ROOT
from tests.faults.trial import Outcome
from tests.faults.workplace import Workplace

COLUMNS = (
    "date",
    "commit",
    "kind",
    "seed",
    "overrides",
    "setting",
    "injected",
    "exit codes",
    "runs until 0",
    "records",
    "lost/doubled/altered",
    "s",
    "verdict",
)
INTRODUCTION = """\
# Seeded injections

Written by `python -m tests.faults.soak` (`make soak`), one row per injection: the real job as a
process is struck, run again until exit 0, verified, and compared byte for byte with a run that
nobody disturbed; records are counted without the product's own reader. A kind and a seed decide
everything about an injection (`injections.py`); `+` behind a commit means changes not committed.

Rows of 200 records have local runs forked from a process that has imported the libraries
(`nursery.py`), which takes a third of the time. Of training (`train_*`), every figure of every
validation and of the checkpoint is compared, to 1e-6.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the soak and return its exit code."""
    options = _parse(argv)
    # Leave by the way that ends every process we started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    known = _read_table(options.table) if options.resume and options.table else set()
    commit = _describe_commit()
    directory = Path(tempfile.mkdtemp(prefix="moos-soak-", dir=options.directory))
    outcomes: list[Outcome] = []
    with Workplace(directory, _make_checkpoint(directory), options.set) as workplace:
        for kind, seed in _schedule(options.kinds, options.seed, options.count):
            injection = choose_injection(kind, seed)
            is_known = (kind, str(seed), " ".join(options.set)) in known
            if is_known or options.only not in (None, injection.executor):
                continue
            outcome = run_trial(injection, workplace)
            outcomes.append(outcome)
            _say(_describe(outcome))
            if outcome.broken:
                again = f"--kinds {kind} --seed {seed} --count 1"
                overrides = "".join(f" --set {override}" for override in options.set)
                _say(f"  repeat: python -m tests.faults.soak {again}{overrides}")
                _say(f"  kept:   {directory}/trials/{kind}-{seed}")
            if options.table:
                _append(options.table, _row(outcome, commit, options.set))
    failed = [outcome for outcome in outcomes if outcome.broken]
    _say(_summarise(outcomes))
    if not failed and not options.keep:
        shutil.rmtree(directory)
    return 1 if failed else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=len(KINDS), help="injections in all")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first")
    parser.add_argument(
        "--kinds",
        nargs="+",
        default=KINDS,
        choices=KINDS + POISON_KINDS + TRAIN_KINDS,
        metavar="KIND",
    )
    parser.add_argument(
        "--only", choices=("local", "ray"), help="leave out injections of the other executor"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="for every run"
    )
    parser.add_argument("--table", type=Path, help="Markdown table to append to")
    parser.add_argument(
        "--resume", action="store_true", help="leave out what the table already holds"
    )
    parser.add_argument("--keep", action="store_true", help="keep the directory in any case")
    parser.add_argument("--directory", type=Path, help="where to work; a temporary place if not")
    return parser.parse_args(argv)


def _schedule(kinds: Sequence[str], seed: int, count: int) -> Iterator[tuple[str, int]]:
    for number in range(count):
        yield kinds[number % len(kinds)], seed + number


def _make_checkpoint(directory: Path) -> Path:
    """The tests' own tiny checkpoint."""
    # The function behind the fixture `tiny_checkpoint`, which only pytest can call.
    from tests import conftest

    path = directory / "checkpoint"
    conftest.write_checkpoint("bert", path)
    return path


def _describe_commit() -> str:
    """The short hash of the commit, with a `+` where the code differs from it."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        changes = _git("status", "--porcelain", "--", "moos", "pipelines", "jobs")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}{'+' if changes else ''}"


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _cells(outcome: Outcome) -> list[str]:
    injection, counts = outcome.injection, outcome.counts
    codes = " ".join(map(str, outcome.codes)) or "-"
    errors = f"{counts.lost}/{counts.doubled}/{counts.altered}" if counts else "-"
    return [
        injection.kind,
        str(injection.seed),
        injection.settings,
        outcome.struck or f"nothing: {'no request' if injection.s3 else injection.moment}",
        codes,
        str(len(outcome.codes)) if outcome.codes and outcome.codes[-1] == 0 else "-",
        str(counts.found) if counts else "-",
        errors,
        f"{outcome.seconds:.0f}",
        outcome.verdict,
    ]


def _describe(outcome: Outcome) -> str:
    kind, seed, setting, struck, codes, _, records, errors, seconds, verdict = _cells(outcome)
    return (
        f"{kind} {seed} [{setting}] {struck}; exit {codes}; {records} records, {errors} "
        f"lost/doubled/altered; {seconds} s: {verdict}"
    )


def _row(outcome: Outcome, commit: str, overrides: Sequence[str]) -> str:
    kind, seed, *rest = _cells(outcome)
    today = datetime.now(UTC).date().isoformat()
    cells = [today, commit, kind, seed, " ".join(overrides), *rest]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _append(table: Path, row: str) -> None:
    if not table.exists():
        header = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
        table.write_text(f"{INTRODUCTION}\n{header}", encoding="utf-8")
    with table.open("a", encoding="utf-8") as stream:
        stream.write(row)


def _read_table(table: Path) -> set[tuple[str, str, str]]:
    """Kind, seed and overrides of every row."""
    if not table.exists():
        return set()
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table.read_text(encoding="utf-8").splitlines()
        if line.startswith("| 2")
    ]
    return {(row[2], row[3], row[4]) for row in rows}


def _summarise(outcomes: Sequence[Outcome]) -> str:
    tried = [outcome for outcome in outcomes if not outcome.skipped]
    failed = sum(1 for outcome in tried if outcome.broken)
    missed = sum(1 for outcome in tried if not outcome.struck)
    counted = [outcome.counts for outcome in tried if outcome.counts]
    kinds = Counter(outcome.injection.kind for outcome in tried)
    return (
        f"{len(tried)} injections of {len(kinds)} kinds in "
        f"{sum(outcome.seconds for outcome in outcomes) / 60:.0f} min: "
        f"{len(tried) - failed} gave the same bytes, {failed} failed, "
        f"{missed} were over before they were struck, {len(outcomes) - len(tried)} skipped; "
        f"{sum(c.found for c in counted)} records, {sum(c.lost for c in counted)} lost, "
        f"{sum(c.doubled for c in counted)} doubled, {sum(c.altered for c in counted)} altered"
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
