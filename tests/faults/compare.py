"""What an output holds, read without the product's own code, against what it must hold."""

import base64
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from tests.faults.inputs import Corpus

Objects = Mapping[str, bytes]
"""Content by name below the output: `data/...`, `quarantine/...`, `manifest.json`."""

COMPARED = ("data/", "quarantine/", "manifest.json")


@dataclass(frozen=True, slots=True)
class Counts:
    """Records found in an output against those of its input.

    Attributes:
        found: Records in the output.
        lost: Records of the input that are nowhere.
        doubled: Records that are there more than once, and ones that the input never had.
        altered: Records with another text, or in `quarantine/` in place of `data/` or the reverse.
    """

    found: int
    lost: int
    doubled: int
    altered: int

    @property
    def are_right(self) -> bool:
        return not (self.lost or self.doubled or self.altered)


def count_records(objects: Objects, corpus: Corpus) -> Counts:
    """Count every record in every file, named by the manifest or not."""
    kept: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    altered = 0
    for name, content in objects.items():
        if name.startswith("data/"):
            for row in _rows(name, content):
                kept[row["id"]] += 1
                altered += row["text"] != corpus.good.get(row["id"], row["text"])
        elif name.startswith("quarantine/"):
            refused.update(_refused(line) for line in content.split(b"\n") if line)
    found = kept + Counter({key.removeprefix("id:"): n for key, n in refused.items()})
    expected = corpus.good.keys() | {key.removeprefix("id:") for key in corpus.bad}
    doubled = sum(n - 1 for n in found.values()) + len(found.keys() - expected)
    misplaced = (refused.keys() - corpus.bad) | (kept.keys() - corpus.good.keys())
    return Counts(
        found=found.total(),
        lost=len(expected - found.keys()),
        doubled=doubled,
        altered=altered + len(misplaced),
    )


def _rows(name: str, content: bytes) -> list[dict]:
    if name.endswith(".parquet"):
        return pq.read_table(pa.BufferReader(content)).to_pylist()
    lines = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read().split(b"\n")
    return [json.loads(line) for line in lines if line]


def _refused(line: bytes) -> str:
    """Name of a quarantined record: its id where it has one, else its raw bytes."""
    record = json.loads(line)
    raw = base64.b64decode(record["raw"])
    if record["raw_format"] == "arrow":
        return f"id:{pa.ipc.open_stream(raw).read_all()['id'][0].as_py()}"
    try:
        return f"id:{json.loads(raw)['id']}"
    except (ValueError, TypeError, KeyError):
        return f"raw:{raw.decode(errors='replace')}"


def select_compared(objects: Objects) -> dict[str, bytes]:
    """The objects that must not depend on what happened to the run."""
    return {name: content for name, content in objects.items() if name.startswith(COMPARED)}


def expect_elsewhere(objects: Objects, path: str, elsewhere: str) -> dict[str, bytes]:
    """What a run leaves that finds the same input elsewhere: the manifest names the input."""
    moved = dict(objects)
    before, after = json.dumps(path).encode(), json.dumps(elsewhere).encode()
    moved["manifest.json"] = moved["manifest.json"].replace(before, after)
    return moved


def differing(objects: Objects, expected: Objects) -> list[str]:
    """Names of the objects that are not the same on both sides, with what is wrong."""
    found = []
    for name in sorted(objects.keys() | expected.keys()):
        if name not in expected:
            found.append(f"{name} is too much")
        elif name not in objects:
            found.append(f"{name} is missing")
        elif objects[name] != expected[name]:
            found.append(f"{name} differs")
    return found


def rows_by_id(objects: Objects) -> dict[str, tuple]:
    """What a reader of the corpus gets of each document; for runs that differ in their input."""
    return {
        row["id"]: (row["text"], row["compressed_text"], row["kept_spans"])
        for name, content in objects.items()
        if name.startswith("data/")
        for row in _rows(name, content)
    }
