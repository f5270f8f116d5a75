"""From raw pieces to groups of records: what can be read, and what cannot, with the reason."""

from dataclasses import dataclass, field, replace
from typing import Any, cast

import pyarrow as pa

from moos.errors import DataError
from moos.json_columns import JsonValue, build_columns, parse_record
from moos.partitions import Partition, agrees, json_values, parse_partition
from moos.pieces import RawPiece, record_to_ipc
from moos.schema import RESERVED_COLUMNS
from moos.source_files import BOM, MAX_LINE_BYTES
from moos.tokens import check_text


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
            id_ = _field_id(self.fields[row], id_column)
            return BadRecord(position, reason, self.lines[row], "line", id_)
        one = self.batch.slice(row, 1)
        return BadRecord(position, reason, row_to_ipc(one), "arrow", _row_id(one, id_column))

    def values(self, name: str) -> list[Any]:
        """One field of each row; None where a row lacks it."""
        if self.batch is None:
            found = (self.all_fields(row).get(name) for row in range(len(self.fields)))
            return [None if value is None else value.value for value in found]
        if name not in self.batch.schema.names:
            return [self.partition.get(name)] * len(self.texts)
        return cast("list[Any]", self.batch.column(name).to_pylist())

    def id_keys(self, rows: list[int], name: str) -> list[bytes | None]:
        """Bytes that are equal where the ids of two rows are; None where a row has no id.

        The string "1" differs from the number 1, which is the same in JSON and in Parquet.
        """
        if self.batch is None:
            return [_field_key(self.all_fields(row).get(name)) for row in rows]
        if name not in self.batch.schema.names:
            value = self.partition.get(name)
            key = f'"{value}' if isinstance(value, str) else str(value)
            return [None if value is None else key.encode("utf-8")] * len(rows)
        return _column_keys(take_rows(self.batch, rows).column(name))

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


@dataclass(frozen=True, slots=True)
class RecordParser:
    """Parses pieces; the settings that decide what a good record is.

    Attributes:
        text_column: Column or key that holds the text.
        id_column: Column or key that names a document, or None.
        max_document_chars: Longest text that is compressed.
        reserved: Keys that no JSON record may have: columns of ours are named so.
        partition_columns: Columns that stand in the files' paths.
    """

    text_column: str
    id_column: str | None
    max_document_chars: int
    reserved: frozenset[str] = frozenset(RESERVED_COLUMNS)
    partition_columns: tuple[str, ...] = ()

    def parse(self, piece: RawPiece) -> RecordGroup:
        """The records of a piece, in order."""
        group = _empty_group(piece.num_bytes, self._partition(piece))
        if piece.batch is not None:
            return self._parse_batch(piece.batch, piece.position, group)
        if piece.is_cut:
            reason = (
                f"line of {piece.num_bytes} bytes is longer than {MAX_LINE_BYTES}; only its first "
                f"{len(piece.lines)} bytes are kept here"
            )
            group.bad.append(BadRecord(piece.position, reason, piece.lines, "line_start"))
            return group
        position = piece.position
        for line in piece.lines.split(b"\n"):
            content = line.removesuffix(b"\r")
            if position == 0:
                content = content.removeprefix(BOM)
            if content.strip(b" \t\r"):
                self._add_line(group, position, content)
            position += len(line) + 1
        return group

    def _partition(self, piece: RawPiece) -> dict[str, str | None]:
        if not self.partition_columns:
            return {}
        found = parse_partition(piece.relative)
        return {name: found[name] for name in self.partition_columns}

    def _add_line(self, group: RecordGroup, position: int, content: bytes) -> None:
        fields: dict[str, JsonValue] = {}
        try:
            fields = parse_record(content.decode("utf-8"))
            text = self._check_fields(fields)
            for name in fields.keys() & group.partition.keys():
                _check_partition(name, fields[name].value, group.partition[name])
        except UnicodeDecodeError as error:
            reason = (
                f"line is not valid UTF-8: {error.reason} at byte {error.start}{_hint(content)}"
            )
        except (ValueError, RecursionError) as error:
            reason = f"line is not a JSON object: {error}{_hint(content)}"
        except DataError as error:
            reason = str(error)
        else:
            group.texts.append(text)
            group.positions.append(position)
            group.lines.append(content.strip(b" \t\r"))
            group.fields.append(fields)
            return
        id_ = _field_id(fields, self.id_column)
        group.bad.append(BadRecord(position, reason, content, "line", id_))

    def _check_fields(self, fields: dict[str, JsonValue]) -> str:
        taken = sorted(fields.keys() & self.reserved)
        if taken:
            raise DataError(f"key {taken[0]!r} is named like a column that moos adds")
        if self.text_column not in fields:
            raise DataError(f"no key {self.text_column!r} (input.text_column)")
        return self._check_text(fields[self.text_column].value)

    def _check_text(self, text: Any) -> str:
        if text is None:
            raise DataError(f"{self.text_column!r} is null")
        if not isinstance(text, str):
            raise DataError(f"{self.text_column!r} is {type(text).__name__}, not a string")
        if len(text) > self.max_document_chars:
            raise DataError(
                f"text of {len(text)} characters is longer than "
                f"input.max_document_chars={self.max_document_chars}"
            )
        check_text(text)
        return text

    def _parse_batch(
        self, batch: pa.RecordBatch, first_row: int, group: RecordGroup
    ) -> RecordGroup:
        good = []
        doubled = set(batch.schema.names) & group.partition.keys()
        decodes = _decodes(batch)
        for row, content in enumerate(text_bytes(batch.column(self.text_column))):
            try:
                text = self._check_text(None if content is None else content.decode("utf-8"))
                if not decodes:
                    _check_row(batch.slice(row, 1))
                for name in doubled:
                    value = _read_value(name, batch.column(name)[row])
                    _check_partition(name, value, group.partition[name])
            except UnicodeDecodeError as error:
                reason = f"text is not valid UTF-8: {error.reason} at byte {error.start}"
            except DataError as error:
                reason = str(error)
            else:
                good.append(row)
                group.texts.append(text)
                group.positions.append(first_row + row)
                continue
            one = batch.slice(row, 1)
            id_ = _row_id(one, self.id_column)
            group.bad.append(BadRecord(first_row + row, reason, row_to_ipc(one), "arrow", id_))
        kept = take_rows(batch, good)
        return replace(group, batch=kept)


def take_rows(batch: pa.RecordBatch, rows: list[int]) -> pa.RecordBatch:
    """Some rows of a batch, in ascending order; of any type, where Arrow's `take` lacks some."""
    if len(rows) == batch.num_rows:
        return batch
    try:
        return batch.take(pa.array(rows, pa.int64()))
    except pa.ArrowNotImplementedError:  # string_view, at any depth
        table = pa.Table.from_batches([batch.slice(row, 1) for row in rows], batch.schema)
        return next(iter(table.combine_chunks().to_batches()), batch.slice(0, 0))


def is_text_type(kind: pa.DataType) -> bool:
    """True for the Arrow types that can be a text column."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def text_bytes(column: pa.Array) -> list[bytes | None]:
    """The UTF-8 bytes of a text column, undecoded: Parquet does not promise that they are valid."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.binary_view())
        return cast("list[bytes | None]", column.to_pylist())
    return cast("list[bytes | None]", column.cast(pa.large_binary()).to_pylist())


def _hint(line: bytes) -> str:
    """What a line that cannot be read looks like."""
    return " (it holds NUL bytes, as UTF-16 and binary data do)" if b"\0" in line else ""


def _decodes(batch: pa.RecordBatch) -> bool:
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _check_row(one: pa.RecordBatch) -> None:
    for name, column in zip(one.schema.names, one.columns, strict=True):
        try:
            column.to_pylist()
        except UnicodeDecodeError as error:
            reason = f"{error.reason} at byte {error.start}"
            raise DataError(f"column {name!r} is not valid UTF-8: {reason}") from error
        except (OverflowError, ValueError):
            continue  # A date that Python lacks is sound in Arrow.


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


def _read_value(name: str, scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as error:  # not UTF-8; a date before the year 1
        raise DataError(
            f"{name!r} cannot be compared with the file's directory: {error}"
        ) from error


def _check_partition(name: str, value: Any, partition: str | None) -> None:
    if not agrees(value, partition):
        raise DataError(
            f"{name!r} is {value!r}, but the file's directory says {partition!r} "
            "(input.partitioning)"
        )


def _empty_group(num_bytes: int, partition: Partition) -> RecordGroup:
    return RecordGroup([], [], [], [], None, [], num_bytes, partition)


def _field_id(fields: dict[str, JsonValue], id_column: str | None) -> str | None:
    found = None if id_column is None else fields.get(id_column)
    if found is None or found.value is None:
        return None
    return found.value if isinstance(found.value, str) else found.raw


def _field_key(found: JsonValue | None) -> bytes | None:
    if found is None or found.value is None:
        return None
    if isinstance(found.value, str):
        return b'"' + found.value.encode("utf-8", "surrogatepass")
    return found.raw.encode("utf-8")


def _column_keys(column: pa.Array) -> list[bytes | None]:
    if is_text_type(column.type):
        return [None if value is None else b'"' + value for value in text_bytes(column)]
    try:
        return text_bytes(column.cast(pa.string()))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # nested types; bytes that are no text
        return [repr(value).encode("utf-8") if value.is_valid else None for value in column]


def _row_id(row: pa.RecordBatch, id_column: str | None) -> str | None:
    if id_column is None or id_column not in row.schema.names:
        return None
    try:
        value = row.column(id_column)[0].as_py()
    except (OverflowError, ValueError):  # no UTF-8, or a date that Python lacks
        return None
    return None if value is None else str(value)
