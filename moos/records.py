"""The records of a piece: rows that can be compressed, and what cannot, with the reason."""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from moos.json_columns import JsonValue, build_columns
from moos.partitions import Partition, json_values
from moos.pieces import record_to_ipc
from moos.record_ids import column_keys, field_id, field_key, row_id, value_key
from moos.text_columns import python_values, take_rows


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be compressed.

    Attributes:
        position: Byte offset of its line (in the decompressed file), or its row in the file.
        reason: What is wrong with it.
        raw: The record as it was: the line, or the row as an Arrow IPC stream.
        raw_format: `line`, `arrow`, `line_start` for the beginning of a line too long to keep;
            without raw bytes `file` for a whole file, `left_out` where a split has too many.
        id: Value of the id column, where one is set and could be read.
    """

    position: int
    reason: str
    raw: bytes
    raw_format: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class RecordGroup:
    """The records of a piece: the readable ones as rows, the others apart.

    Attributes:
        texts: Text of each row.
        positions: Position of each row, as in `BadRecord`.
        lines: Raw JSON of each row, for JSONL input; empty for Parquet.
        fields: Parsed fields of each row, for JSONL input; empty for Parquet.
        batch: The rows as they were, for Parquet input.
        bad: The records that cannot be compressed.
        num_bytes: Bytes of the split read for this group, as a measure of progress.
        partition: Columns that stand in the file's path, with their one value; of a row that holds
            such a column itself they say the same.
    """

    texts: list[str]
    positions: list[int]
    lines: list[bytes]
    fields: list[dict[str, JsonValue]]
    batch: pa.RecordBatch | None
    bad: list[BadRecord]
    num_bytes: int
    partition: Partition = field(default_factory=dict)

    def reject(self, row: int, reason: str, id_column: str | None) -> BadRecord:
        """The bad record of a row that turned out not to be compressible."""
        position = self.positions[row]
        if self.batch is None:
            id_ = field_id(self.fields[row], id_column)
            return BadRecord(position, reason, self.lines[row], "line", id_)
        one = self.batch.slice(row, 1)
        return BadRecord(position, reason, row_to_ipc(one), "arrow", row_id(one, id_column))

    def values(self, name: str) -> list[Any]:
        """One field of each row, as `python_values` has it; None where a row lacks it."""
        if self.batch is None:
            found = (self.all_fields(row).get(name) for row in range(len(self.fields)))
            return [None if value is None else value.value for value in found]
        if name not in self.batch.schema.names:
            return [self.partition.get(name)] * len(self.texts)
        return python_values(self.batch.column(name))

    def id_keys(self, rows: list[int], name: str) -> list[bytes | None]:
        """Bytes that are equal where the ids of two rows are; None where a row has no id.

        The string "1" differs from the number 1, which is the same in JSON and in Parquet.
        """
        if self.batch is None:
            return [field_key(self.all_fields(row).get(name)) for row in rows]
        if name not in self.batch.schema.names:
            return [value_key(self.partition.get(name))] * len(rows)
        return column_keys(take_rows(self.batch, rows).column(name))

    def all_fields(self, row: int) -> dict[str, JsonValue]:
        """The fields of a JSON record, behind them those that stand in its file's path only."""
        own = self.fields[row]
        if not self.partition:
            return own
        return {**own, **json_values({k: v for k, v in self.partition.items() if k not in own})}

    def columns(self, rows: list[int], schema: pa.Schema) -> list[pa.Array]:
        """The input's columns of some rows, in the order of `schema`."""
        if self.batch is None:
            return build_columns([self.all_fields(row) for row in rows], schema)
        taken = take_rows(self.batch, rows)
        return [
            taken.column(column.name)
            if column.name in taken.schema.names
            else _constant(self.partition.get(column.name), column.type, len(rows))
            for column in schema
        ]


def row_to_ipc(row: pa.RecordBatch) -> bytes:
    """A batch of one row as an Arrow IPC stream, its dictionaries without other rows' values."""
    columns = [
        _own_dictionary(column) if pa.types.is_dictionary(column.type) else column
        for column in row.columns
    ]
    return record_to_ipc(pa.RecordBatch.from_arrays(columns, schema=row.schema))


def _own_dictionary(column: pa.DictionaryArray) -> pa.DictionaryArray:
    kind, values = column.type, column.dictionary_decode().drop_null()
    codes = pa.array([0 if len(values) else None], kind.index_type)
    return pa.DictionaryArray.from_arrays(codes, values, ordered=kind.ordered)


def _constant(value: str | None, kind: pa.DataType, count: int) -> pa.Array:
    """A column of one value; of nulls it may be of any type, where Arrow's `repeat` lacks some."""
    return pa.nulls(count, kind) if value is None else pa.repeat(pa.scalar(value).cast(kind), count)
