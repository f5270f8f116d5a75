"""Ids that several documents of a run have: hashed by split, counted over the run at its finish.

A hash has 128 bits, so that equal hashes are equal ids. Those of a split are an object that its
done record names; so ids are counted over all splits, whichever run worked them, without reading a
document again.
"""

import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moos.schema import EXTRA_JSON
from moos.storage import Storage
from pipelines.outputs import id_of, iterate_rows

PARTITION_ENTRIES = 2 << 20
"""Ids compared in memory at once: about 100 bytes each while they are sorted."""

FETCHED_AT_ONCE = 64
MAX_EXAMPLES = 5
MAX_ID_CHARS = 200

_STORED = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<u4")])
_PLACED = np.dtype([*_STORED.descr, ("split", "<u4")])


class IdHashes:
    """The ids of a split's documents, as they become rows."""

    def __init__(self) -> None:
        self.num_null = 0
        self._num_rows = 0
        self._entries: list[bytes] = []

    def add(self, keys: Sequence[bytes | None]) -> None:
        """Take what `RecordGroup.id_keys` says of the next rows."""
        for row, key in enumerate(keys, self._num_rows):
            if key is None:
                self.num_null += 1
            else:
                digest = hashlib.blake2b(key, digest_size=16).digest()
                self._entries.append(digest + row.to_bytes(4, "little"))
        self._num_rows += len(keys)

    def pack(self) -> bytes:
        """The split's object: 20 bytes for each id; empty where no document has one."""
        return b"".join(self._entries)


def count_ids(
    output: Storage, records: Sequence[Mapping[str, Any]], id_column: str
) -> dict[str, Any]:
    """What the manifest says of the ids of a run's documents.

    Memory is bounded: above `PARTITION_ENTRIES` ids, the hashes go through files on this machine,
    24 bytes for each.

    Args:
        output: The run's output.
        records: The done records of all splits, in order.
        id_column: The id column.

    Returns:
        `documents_without_id`; `repeated_ids`: ids that several documents have;
        `documents_with_repeated_ids`; and `examples`, the ids with most documents, each with its
        JSON form, its number of documents, and the input file of the first of them.
    """
    total = sum(r["ids"]["bytes"] // _STORED.itemsize for r in records if r.get("ids"))
    repeated = documents = 0
    examples: list[tuple[int, int, int]] = []
    for part in _partition(output, records, max(1, -(-total // PARTITION_ENTRIES))):
        counts, first = _find_repeated(part)
        repeated += len(counts)
        documents += int(counts.sum())
        most = np.lexsort((first["row"], first["split"], -counts))[:MAX_EXAMPLES]
        columns = (counts[most], first["split"][most], first["row"][most])
        examples += zip(*(column.tolist() for column in columns), strict=True)
    examples = sorted(examples, key=lambda example: (-example[0], *example[1:]))[:MAX_EXAMPLES]
    return {
        "documents_without_id": sum(record["counts"]["null_ids"] for record in records),
        "repeated_ids": repeated,
        "documents_with_repeated_ids": documents,
        "examples": [
            {
                "id": _read_id(output, records[split], row, id_column),
                "documents": count,
                "first": records[split]["source"]["path"],
            }
            for count, split, row in examples
        ],
    }


def _partition(
    output: Storage, records: Sequence[Mapping[str, Any]], num_parts: int
) -> Iterator[NDArray[np.void]]:
    """The hashes of all splits, each with its place, in parts that no id crosses."""
    if num_parts == 1:
        yield np.concatenate([np.empty(0, _PLACED), *_read_hashes(output, records)])
        return
    with tempfile.TemporaryDirectory(prefix="moos-ids-") as directory:
        for hashes in _read_hashes(output, records):
            parts = hashes["high"] % np.uint64(num_parts)
            for part in np.unique(parts).tolist():
                with Path(directory, str(part)).open("ab") as stream:
                    stream.write(hashes[parts == part].tobytes())
        for path in sorted(Path(directory).iterdir()):
            yield np.fromfile(path, _PLACED)


def _read_hashes(
    output: Storage, records: Sequence[Mapping[str, Any]]
) -> Iterator[NDArray[np.void]]:
    named = [(at, record["ids"]["name"]) for at, record in enumerate(records) if record.get("ids")]
    with ThreadPoolExecutor(16) as threads:
        for start in range(0, len(named), FETCHED_AT_ONCE):
            wave = named[start : start + FETCHED_AT_ONCE]
            contents = threads.map(output.get, [name for _, name in wave])
            for (split, _), data in zip(wave, contents, strict=True):
                stored = np.frombuffer(data, _STORED)
                placed = np.empty(len(stored), _PLACED)
                for name in ("high", "low", "row"):
                    placed[name] = stored[name]
                placed["split"] = split
                yield placed


def _find_repeated(hashes: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.void]]:
    """Of each id that is there more than once: how often, and its first entry, both shape (R,)."""
    order = np.lexsort((hashes["row"], hashes["split"], hashes["low"], hashes["high"]))
    ordered = hashes[order]
    is_first = np.ones(len(ordered), dtype=np.bool_)
    is_first[1:] = (ordered["high"][1:] != ordered["high"][:-1]) | (
        ordered["low"][1:] != ordered["low"][:-1]
    )
    firsts = np.flatnonzero(is_first)
    counts = np.diff(firsts, append=len(ordered))
    repeated = counts > 1
    return counts[repeated], ordered[firsts[repeated]]


def _read_id(output: Storage, record: Mapping[str, Any], row: int, id_column: str) -> str:
    """The JSON form of the id of a row, its beginning where it is long."""
    name = record["data"]["name"]
    rows = iterate_rows(name, output.get(name), [id_column, EXTRA_JSON])
    found = next(itertools.islice(rows, row, None))
    return json.dumps(id_of(found, id_column), default=str)[:MAX_ID_CHARS]
