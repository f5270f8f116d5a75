"""Peak memory of the process that compresses, as the corpus grows tenfold and as one file does.

python -m tests.scale.memory --directory DIR [--gigabytes 2] [--tiny 1000000]

Writes inputs below DIR: a corpus of files, ten times as many such files, one large JSONL file, and
so many tiny documents, after a tenth of them; compresses each with `executor=local` in a process of
its own, and prints that process's peak of resident memory. Records are those of a crawl: a text of
400 bytes, and the page it was taken from in another field; tiny ones are of 1 to 12 words. A
two-layer encoder with random weights stands in for the model, so that gigabytes take minutes: what
grows with the input is not the model. The last column compares with the first of its kind.
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


def write_tiny(path: Path, num_documents: int) -> None:
    """A JSONL file of so many documents of a few words."""
    generator = random.Random(0)
    with path.open("w") as stream:
        for number in range(num_documents):
            words = generator.choices(WORDS, k=generator.randrange(1, 13))
            stream.write(json.dumps({"id": number, "text": " ".join(words)}) + "\n")


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
    parser.add_argument("--tiny", type=int, default=1_000_000, help="tiny documents at most")
    options = parser.parse_args()
    place = options.directory
    checkpoint = place / "checkpoint"
    write_checkpoint("bert", checkpoint)
    (place / "first").mkdir()
    write_tiny(place / "first" / "000.jsonl", 10)
    peak_of_job(place / "first", place / "first-out", checkpoint)  # makes the int8 model
    say("input               bytes  documents  seconds  peak MiB  against the first")
    first: dict[bool, int] = {}
    for name in ("corpus", "corpus10", "large", "tiny", "tiny10"):
        source = place / name
        source.mkdir()
        if name.startswith("tiny"):
            share = 1 if name == "tiny10" else 10
            write_tiny(source / "000.jsonl", options.tiny // share)
        elif name == "large":
            write_records(source / "000.jsonl", int(options.gigabytes * (1 << 30)), 0)
        else:
            for number in range(40 if name == "corpus10" else 4):
                write_records(source / f"{number:03d}.jsonl", FILE_BYTES, number)
        total = sum(path.stat().st_size for path in source.iterdir())
        peak, summary = peak_of_job(source, place / f"{name}-out", checkpoint)
        before = first.setdefault(name.startswith("tiny"), peak)
        say(
            f"{name:<10} {total:>14,} {summary['documents']:>10,} {summary['seconds']:>8}"
            f" {peak:>9,} {peak / before - 1:>+18.1%}"
        )


if __name__ == "__main__":
    main()
