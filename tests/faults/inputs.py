"""The corpora of the fault harness: small, in many splits, with the records they must give."""

import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.faults.injections import POISON_KINDS, Shape

DOCUMENTS = 200
"""Of a soak; about 20 splits, so that there is time to strike between two."""

SPLITTING = ("input.split_bytes=2KiB", "max_quarantined=1", "input.id_column=id")
"""Small splits, a run may quarantine, and quarantined records say which they are."""

GZIP_FILES = 16
SENTENCES = (
    "The committee met on Tuesday and decided that no further action was needed.",
    "Prices rose by 3.5 percent before the next report, which is not what anyone expected.",
    "The model keeps the words that matter most for the reader.\nThe rest is left out.",
    "See https://example.org/report?id=7 for all figures; call foo_bar() twice.",
    "Überall \u2028 gibt es Zeichen 的一是不了, die niemand\u0085 erwartet 👩🏽\u200d🚀.",
)
POISON_TEXTS = {kind: f"\u2620{kind.removeprefix('poison_')}" for kind in POISON_KINDS} | {
    "poison_hang_gil": "\u2620hang-gil"
}


@dataclass(frozen=True, slots=True)
class Corpus:
    """An input and what must become of it.

    Attributes:
        path: The directory of its files.
        good: Text by id of every record that belongs in `data/`.
        bad: What belongs in `quarantine/`, as `count_records` names it.
    """

    path: Path
    good: dict[str, str]
    bad: frozenset[str]


def make_corpus(
    directory: Path,
    shape: Shape,
    *,
    documents: int = DOCUMENTS,
    poison: str = "",
    poisonous: int = 0,
    edition: int = 0,
) -> Corpus:
    """Write a corpus; the same arguments give the same bytes.

    Args:
        directory: Where to write it; made here.
        shape: How it is stored.
        documents: Records, one of them with a null text; a JSONL line that is no JSON is added.
        poison: Kind of poison, or none.
        poisonous: Poisonous documents.
        edition: Another one of the same documents with other texts; 1 has files of equal sizes,
            but for compressed ones.
    """
    rng = random.Random(f"corpus/{documents}/{poison}/{poisonous}")
    mark, end = (".", ":", ":")[edition], ("", "", " It was added later.")[edition]
    texts = [f"{i}{mark} {' '.join(rng.choices(SENTENCES, k=2))}{end}" for i in range(documents)]
    records = [{"id": f"d{i}", "number": i, "text": text} for i, text in enumerate(texts)]
    records[7]["text"] = ""
    null = documents // 3
    records[null]["text"] = None
    candidates = [i for i in range(20, documents) if i != null]
    poisoned = rng.sample(candidates, poisonous)
    for i in poisoned:
        records[i]["text"] += f" {POISON_TEXTS[poison]}"
    good = {record["id"]: record["text"] for record in records}
    bad = {f"id:d{i}" for i in [null, *poisoned]}
    for name in bad:
        del good[name.removeprefix("id:")]
    directory.mkdir(parents=True)
    if shape == "parquet":
        pq.write_table(pa.Table.from_pylist(records), directory / "docs.parquet", row_group_size=10)
        return Corpus(directory, good, frozenset(bad))
    lines = [json.dumps(record, ensure_ascii=False).encode() for record in records]
    lines.insert(documents // 2, b"nope")
    if shape == "jsonl":
        (directory / "docs.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    else:
        size = -(-len(lines) // GZIP_FILES)
        for number, start in enumerate(range(0, len(lines), size)):
            part = b"".join(line + b"\n" for line in lines[start : start + size])
            path = directory / f"docs-{number:02}.jsonl.gz"
            path.write_bytes(gzip.compress(part, mtime=0))
    return Corpus(directory, good, frozenset({*bad, "raw:nope"}))
