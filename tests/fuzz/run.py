"""Fuzz targets one after the other, each for a set time, and write a row for each into a table.

python -m tests.fuzz.run --seconds 720 --seed 1 --table tests/fuzz/RESULTS.md [TARGET ...]

What breaks a promise is kept under `tests/fuzz/cases/TARGET/`, and the run goes on for the rest of
its time, up to `MAX_FINDINGS`. The exit code is 1 where there was a finding.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.fuzz.targets import TARGETS, Target

ROOT = Path(__file__).parent.parent.parent
CASES = Path(__file__).parent / "cases"
MAX_FINDINGS = 5
MAX_BYTES = 2048
"""Longest case: what breaks a promise breaks it small, and small ones run fast."""
CASE_TIMEOUT_S = 30
MEMORY_MIB = 4096

HEADER = """# Fuzzing

Written by `python -m tests.fuzz.run` (`make fuzz`), one row per target and run: the target is
driven by libFuzzer through atheris, with coverage of `moos`, `pipelines`, `jobs` and PyYAML, from
seed cases and a dictionary. A finding is a broken promise, or an exception that is none of the
promised ones; each is kept in `cases/` and replayed by `test_cases.py`. `+` behind a commit means
changes not committed.

| date | commit | target | seed | seconds | executions | covered | findings |
|---|---|---|---|---|---|---|---|
"""


def fuzz(name: str, *, seconds: float, seed: int) -> tuple[int, int, list[Path]]:
    """Fuzz one target.

    Returns:
        Executions, edges covered, and the cases that broke a promise.
    """
    end = time.monotonic() + seconds
    executions, covered = 0, 0
    findings: list[Path] = []
    with tempfile.TemporaryDirectory(prefix="moos-fuzz-") as directory:
        place = Path(directory)
        _write_beginnings(TARGETS[name], place)
        while (left := end - time.monotonic()) > 1 and len(findings) < MAX_FINDINGS:
            command = [
                *(sys.executable, "-m", "tests.fuzz.one", name, str(place / "corpus")),
                *(f"-dict={place / 'words.dict'}", f"-artifact_prefix={place / 'found'}/"),
                *(f"-max_total_time={left:.0f}", f"-seed={seed + len(findings)}"),
                *(f"-max_len={MAX_BYTES}", f"-timeout={CASE_TIMEOUT_S}"),
                *(f"-rss_limit_mb={MEMORY_MIB}", "-print_final_stats=1", "-verbosity=1"),
            ]
            done = _run(command)
            # A process that a finding ends gives no statistics, but every line begins with a count.
            counts = re.findall(r"^#(\d+)\s", done.stderr, re.MULTILINE)
            executions += max(map(int, counts), default=0)
            covered = max([covered, *map(int, re.findall(r"\bcov: (\d+)", done.stderr))])
            if done.returncode == 0:
                continue
            kept = [_keep(name, path) for path in sorted((place / "found").iterdir())]
            if not kept:
                raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stderr[-4000:]}")
            findings += kept
            sys.stderr.write(done.stderr[-6000:])
            for path in (place / "found").iterdir():
                path.unlink()
    return executions, covered, findings


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )


def _write_beginnings(target: Target, place: Path) -> None:
    (place / "corpus").mkdir()
    (place / "found").mkdir()
    for number, seed in enumerate(target.seeds):
        (place / "corpus" / f"seed-{number}").write_bytes(seed)
    lines = ('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in target.dictionary)
    (place / "words.dict").write_text("".join(f"{line}\n" for line in lines))


def _keep(name: str, path: Path) -> Path:
    data = path.read_bytes()
    kept = CASES / name / hashlib.sha256(data).hexdigest()[:12]
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    return kept


def _commit() -> str:
    def ask(*arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    changed = ask("status", "--porcelain", "--", "moos", "pipelines", "jobs", "tests/fuzz/*.py")
    return ask("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.fuzz.run")
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=720.0, help="of each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", type=Path, help="Markdown file to append rows to")
    options = parser.parse_args(argv)
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    num_findings = 0
    for name in options.targets:
        began, commit = time.monotonic(), _commit()
        executions, covered, findings = fuzz(name, seconds=options.seconds, seed=options.seed)
        num_findings += len(findings)
        shown = ", ".join(f"`{path.name}`" for path in findings) or "none"
        row = (
            f"| {datetime.now(UTC):%Y-%m-%d} | {commit} | {name} | {options.seed} | "
            f"{time.monotonic() - began:.0f} | {executions:,} | {covered:,} | {shown} |"
        )
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
        if options.table is not None:
            known = options.table.read_text(encoding="utf-8") if options.table.exists() else HEADER
            options.table.write_text(f"{known}{row}\n", encoding="utf-8")
    return 1 if num_findings else 0


if __name__ == "__main__":
    sys.exit(main())
