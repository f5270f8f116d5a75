"""Peak memory of the process that compresses, as the corpus grows tenfold and as one file does.

python -m tests.scale.memory --directory DIR [--gigabytes 2]

Writes three inputs below DIR: a corpus of files, ten times as many such files, and one large JSONL
file; compresses each with `executor=local` in a process of its own, and prints that process's
peak of resident memory. Records are those of a crawl: a text of 400 bytes, and the page it was
taken from in another field. A one-layer encoder with random weights stands in for the model, so
that gigabytes take minutes: what grows with the input is not the model.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path

from tests.conftest import WORDS, write_checkpoint

ROOT = Path(__file__).parents[2]
FILE_BYTES = 20 << 20
TEXT_CHARS = 400
PAGE_CHARS = 19_000


def write_records(path: Path, num_bytes: int, seed: int) -> None:
    """A JSONL file of about so many bytes."""
    generator = random.Random(seed)
    page = "<p>" + " ".join(generator.choices(WORDS, k=PAGE_CHARS // 4))[:PAGE_CHARS] + "</p>"
    written = 0
    with path.open("w") as stream:
        while written < num_bytes:
            text = " ".join(generator.choices(WORDS, k=TEXT_CHARS // 6))
            cut = generator.randrange(PAGE_CHARS)
            record = {"id": written, "text": text, "page": page[cut:] + page[:cut]}
            written += stream.write(json.dumps(record) + "\n")


def peak_of_job(source: Path, output: Path, checkpoint: Path) -> tuple[int, dict[str, object]]:
    """MiB at the peak, and the job's summary."""
    command = [
        sys.executable, "-m", "jobs.compress", f"input.path={source}", f"output.path={output}",
        f"checkpoint={checkpoint}", "executor=local",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    summary = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"the job ended with {process.returncode}"
    return usage.ru_maxrss >> 10, summary


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, required=True, help="an empty place with room")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the one large file")
    options = parser.parse_args()
    place = options.directory
    checkpoint = place / "checkpoint"
    write_checkpoint("bert", checkpoint)
    inputs = {"corpus": 4, "corpus10": 40, "large": 1}
    say("input               bytes  documents  seconds  peak MiB  against the first")
    first = None
    for name, num_files in inputs.items():
        source = place / name
        source.mkdir()
        size = int(options.gigabytes * (1 << 30)) if name == "large" else FILE_BYTES
        for number in range(num_files):
            write_records(source / f"{number:03d}.jsonl", size, number)
        total = sum(path.stat().st_size for path in source.iterdir())
        peak, summary = peak_of_job(source, place / f"{name}-out", checkpoint)
        first = first or peak
        say(
            f"{name:<10} {total:>14,} {summary['documents']:>10,} {summary['seconds']:>8}"
            f" {peak:>9,} {peak / first - 1:>+18.1%}"
        )


if __name__ == "__main__":
    main()
