"""From raw pieces to groups of records: what can be read, and what cannot, with the reason."""

from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from moos.errors import DataError
from moos.json_columns import JsonValue, parse_record
from moos.partitions import Partition, agrees, parse_partition
from moos.pieces import RawPiece
from moos.record_ids import field_id, row_id
from moos.records import BadRecord, RecordGroup, row_to_ipc
from moos.schema import RESERVED_COLUMNS
from moos.source_files import BOM, MAX_LINE_BYTES
from moos.text_columns import take_rows, text_bytes
from moos.tokens import check_text


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
        id_ = field_id(fields, self.id_column)
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
            id_ = row_id(one, self.id_column)
            group.bad.append(BadRecord(first_row + row, reason, row_to_ipc(one), "arrow", id_))
        kept = take_rows(batch, good)
        return replace(group, batch=kept)


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
