"""Input splits: the unit of work and of resume.

A split is a byte range of a JSONL file (of its decompressed bytes where it is compressed) or a
range of rows of a Parquet file. Its id is a function of the file's relative path and its place on a
fixed grid, so the same input always gives the same splits, and a grown input the same ones and
more.
"""

import hashlib
import itertools
import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from moos.errors import ConfigError
from moos.listing import SourceFile

Kind = Literal["jsonl", "parquet"]
Compression = Literal["gz", "zst"]

_KINDS: dict[str, Kind] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".zst": "zst"}
WHOLE_FILE = -1
"""`stop` of a split that reaches to the end of its file."""


@dataclass(frozen=True, slots=True)
class InputSplit:
    """One unit of work.

    Attributes:
        id: Name of the split, safe in file names.
        path: The file's path on the input's filesystem.
        relative: The file's path below the input's root.
        kind: How records are stored.
        compression: How the file is compressed as a whole, or None.
        start: First byte of the range (of the decompressed content), or first row.
        stop: One past the last byte or row; `WHOLE_FILE` for a whole file.
        size: Bytes of the split, as an estimate of its work.
        file_size: Bytes of the file when it was planned.
        etag: The file's etag when it was planned.
    """

    id: str
    path: str
    relative: str
    kind: Kind
    compression: Compression | None
    start: int
    stop: int
    size: int
    file_size: int
    etag: str

    def to_json(self) -> str:
        """One line that `from_json` reads back."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> "InputSplit":
        """Read what `to_json` wrote."""
        return cls(**json.loads(line))


def file_kind(name: str) -> tuple[Kind, Compression | None] | None:
    """How a file's name says it is stored; None for a name that moos does not read."""
    stem, extension = posixpath.splitext(name.lower())
    compression = _COMPRESSIONS.get(extension)
    if compression is not None:
        extension = posixpath.splitext(stem)[1]
    kind = _KINDS.get(extension)
    return None if kind is None else (kind, compression)


def split_file(
    source: SourceFile,
    split_bytes: int,
    *,
    parquet: pq.FileMetaData | None = None,
    text_column: str = "text",
    content_bytes: int | None = None,
) -> Iterator[InputSplit]:
    """Cut a file into splits on a fixed grid; an empty file gives none.

    Args:
        source: The file.
        split_bytes: Bytes per split: of the content for JSONL, of uncompressed text for Parquet.
        parquet: The file's metadata where it is Parquet and could be read, else None: such a file
            becomes one split, whose worker reports the damage.
        text_column: The column whose bytes count for Parquet.
        content_bytes: Decompressed bytes of compressed JSONL where they could be measured, else
            None: such a file becomes one split, whose worker reports the damage.
    """
    found = file_kind(source.relative)
    if found is None:
        raise ConfigError(f"input file {source.path} has no extension that moos reads")
    kind, compression = found
    if kind == "parquet" and parquet is not None and compression is None:
        yield from _split_rows(source, split_bytes, parquet, text_column)
        return
    if kind == "jsonl" and compression is None:
        content_bytes = source.size
    if kind == "parquet" or content_bytes is None:
        yield _make(source, kind, compression, 0, (0, WHOLE_FILE), source.size)
        return
    for index, start in enumerate(range(0, content_bytes, split_bytes)):
        stop = min(start + split_bytes, content_bytes)
        yield _make(source, kind, compression, index, (start, stop), stop - start)


def _split_rows(
    source: SourceFile, split_bytes: int, parquet: pq.FileMetaData, text_column: str
) -> Iterator[InputSplit]:
    """Whole row groups while they are small, equal ranges of rows of one that is large."""
    start, stop, held, index = 0, 0, 0, 0
    for number in range(parquet.num_row_groups):
        group = parquet.row_group(number)
        size = text_bytes_of(group, text_column)
        if size >= 2 * split_bytes and group.num_rows > 1:
            if stop > start:
                yield _make(source, "parquet", None, index, (start, stop), held)
                index += 1
            parts = min(group.num_rows, -(-size // split_bytes))
            for part in range(parts):
                first = stop + part * group.num_rows // parts
                end = stop + (part + 1) * group.num_rows // parts
                yield _make(source, "parquet", None, index, (first, end), size // parts)
                index += 1
            stop += group.num_rows
            start, held = stop, 0
            continue
        stop, held = stop + group.num_rows, held + size
        if held >= split_bytes or number == parquet.num_row_groups - 1:
            yield _make(source, "parquet", None, index, (start, stop), held)
            start, held, index = stop, 0, index + 1
    if stop > start:
        yield _make(source, "parquet", None, index, (start, stop), held)


def text_bytes_of(group: pq.RowGroupMetaData, text_column: str) -> int:
    """Uncompressed bytes of a row group's text column, or of all it holds where that is unknown."""
    sizes = [
        group.column(i).total_uncompressed_size
        for i in range(group.num_columns)
        if group.column(i).path_in_schema == text_column
    ]
    return int(sum(sizes)) or int(group.total_byte_size)


def _make(
    source: SourceFile,
    kind: Kind,
    compression: Compression | None,
    index: int,
    bounds: tuple[int, int],
    size: int,
) -> InputSplit:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", posixpath.basename(source.relative)).strip("-")[:40]
    digest = hashlib.sha256(source.relative.encode("utf-8", "surrogateescape")).hexdigest()[:10]
    return InputSplit(
        id=f"{stem}-{digest}-{index:05d}",
        path=source.path,
        relative=source.relative,
        kind=kind,
        compression=compression,
        start=bounds[0],
        stop=bounds[1],
        size=size,
        file_size=source.size,
        etag=source.etag,
    )


PLAN_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),
        ("relative", pa.string()),
        ("kind", pa.string()),
        ("compression", pa.string()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("size", pa.int64()),
        ("file_size", pa.int64()),
        ("etag", pa.string()),
    ]
)


def splits_to_table(splits: list[InputSplit]) -> pa.Table:
    """The plan as a table, one row per split in order."""
    return pa.Table.from_pylist([asdict(split) for split in splits], schema=PLAN_SCHEMA)


def splits_from_table(table: pa.Table) -> list[InputSplit]:
    """Read what `splits_to_table` wrote."""
    return [InputSplit(**row) for row in table.to_pylist()]


def group_by_file(splits: Iterable[InputSplit]) -> list[list[InputSplit]]:
    """Runs of consecutive splits of one file."""
    return [list(run) for _, run in itertools.groupby(splits, key=lambda split: split.path)]
