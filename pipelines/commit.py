"""From results to objects: what a split's rows look like when written."""

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from moos.document import CompressedDocument
from moos.records import RecordGroup
from moos.schema import EXTRA_JSON, Annotations, annotation_columns, annotation_rows, output_schema
from moos.storage import Storage
from moos.text_columns import take_rows

ROW_GROUP_CHARS = 16 << 20
"""Characters of text per row group of a Parquet output."""


class ParquetRows:
    """Rows as one Parquet file in memory, of one schema whatever the documents were."""

    extension = "parquet"

    def __init__(
        self, input_schema: pa.Schema, annotations: Annotations, *, chunks: bool = False
    ) -> None:
        self._input_schema = input_schema
        self._annotations: Annotations = annotations
        self._chunks = chunks
        self._schema = output_schema(
            pa.schema([field for field in input_schema if field.name != EXTRA_JSON]),
            annotations,
            chunks=chunks,
        )
        if EXTRA_JSON in input_schema.names:
            self._schema = pa.schema([*input_schema, *list(self._schema)[len(input_schema) - 1 :]])
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._held: list[pa.Table] = []
        self._held_chars = 0

    def encode(
        self, group: RecordGroup, rows: list[int], documents: Sequence[CompressedDocument]
    ) -> pa.Table:
        """Rows of a group with their documents, for `append`."""
        columns = group.columns(rows, self._input_schema)
        columns.extend(annotation_columns(documents, self._annotations, chunks=self._chunks))
        return pa.Table.from_arrays(columns, schema=self._schema)

    def append(self, encoded: pa.Table, num_chars: int) -> None:
        """Append encoded rows, whose texts have `num_chars` characters."""
        self._held.append(encoded)
        self._held_chars += num_chars
        if self._held_chars >= ROW_GROUP_CHARS:
            self._flush()

    def decode(self, data: bytes) -> pa.Table:
        """The encoded rows of a whole file."""
        return pq.read_table(pa.BufferReader(data), schema=self._schema)

    def cut(self, encoded: pa.Table, start: int, count: int) -> pa.Table:
        """Some of the encoded rows."""
        return encoded.slice(start, count)

    def _flush(self) -> None:
        if self._held:
            for table in _join(pa.concat_tables(self._held)):
                self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._held, self._held_chars = [], 0

    def finish(self) -> bytes:
        """The whole file."""
        self._flush()
        self._writer.close()
        return bytes(self._sink.getvalue().to_pybytes())


def _join(table: pa.Table) -> list[pa.Table]:
    """The rows for one row group, or in their pieces where they hold too many different values.

    Each row group of an input has its own dictionaries, with indices just wide enough for these.
    """
    try:
        return [table.unify_dictionaries().combine_chunks()]
    except pa.ArrowInvalid:
        return [pa.Table.from_batches([batch]) for batch in table.to_batches()]


class JsonlRows:
    """Rows as zstd-compressed JSON lines; JSON input keeps every character of its own."""

    extension = "jsonl.zst"

    def __init__(
        self, input_schema: pa.Schema, annotations: Annotations, *, chunks: bool = False
    ) -> None:
        self._annotations: Annotations = annotations
        self._chunks = chunks
        self._sink = pa.BufferOutputStream()
        self._stream = pa.CompressedOutputStream(self._sink, "zstd")

    def encode(
        self, group: RecordGroup, rows: list[int], documents: Sequence[CompressedDocument]
    ) -> list[bytes]:
        """Rows of a group with their documents, for `append`."""
        added = annotation_rows(documents, self._annotations, chunks=self._chunks)
        return [
            append_keys(line, annotation)
            for line, annotation in zip(json_lines(group, rows), added, strict=True)
        ]

    def append(self, encoded: Sequence[bytes], num_chars: int) -> None:
        """Append encoded rows."""
        self._stream.write(b"".join(encoded))

    def decode(self, data: bytes) -> list[bytes]:
        """The encoded rows of a whole file."""
        stream = pa.CompressedInputStream(pa.BufferReader(data), "zstd")
        return io.BufferedReader(stream).readlines()

    def cut(self, encoded: list[bytes], start: int, count: int) -> list[bytes]:
        """Some of the encoded rows."""
        return encoded[start : start + count]

    def finish(self) -> bytes:
        """The whole file."""
        self._stream.close()
        return bytes(self._sink.getvalue().to_pybytes())


def json_lines(group: RecordGroup, rows: list[int]) -> list[bytes]:
    """Rows of a group as JSON objects: in their own characters where they were JSON."""
    if group.batch is not None:
        return [
            json.dumps(
                # The row's own keys first, and its own value where the path says the same.
                {**row, **group.partition, **row},
                ensure_ascii=False,
                default=_plain_value,
            ).encode()
            for row in take_rows(group.batch, rows).to_pylist()
        ]
    if not group.partition:
        return [group.lines[row] for row in rows]
    lines = []
    for row in rows:
        added = {k: v for k, v in group.partition.items() if k not in group.fields[row]}
        line = group.lines[row]
        lines.append(append_keys(line, added).rstrip(b"\n") if added else line)
    return lines


def append_keys(line: bytes, keys: Mapping[str, Any]) -> bytes:
    """One line: a JSON object with keys, one at least, behind its own, which stay as they were."""
    body = line.rstrip()[:-1].rstrip()
    comma = b"" if body == b"{" else b", "
    return body + comma + json.dumps(keys, ensure_ascii=False).encode()[1:] + b"\n"


def _plain_value(value: Any) -> Any:
    """Arrow values that JSON lacks: dates in ISO form, decimals as text, bytes in base64."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Decimal | timedelta | UUID):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


def put_object(
    output: Storage, directory: str, split_id: str, extension: str, data: bytes
) -> dict[str, Any]:
    """Write an object under a name that holds its content's hash, and describe it.

    A retry that computes other bytes writes another object: nothing that a done record names is
    ever overwritten by different content.
    """
    digest = hashlib.sha256(data).hexdigest()
    name = f"{directory}/{split_id}-{digest[:8]}.{extension}"
    output.put(name, data)
    return {"name": name, "sha256": digest, "bytes": len(data)}
