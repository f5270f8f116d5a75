"""Compares an output with its input: every record exactly once, every column unchanged."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from moos.listing import describe_file
from moos.partitions import partition_columns
from moos.pieces import RunReader
from moos.record_parser import RecordParser
from moos.schema import reserved_columns
from moos.splits import InputSplit
from moos.storage import Storage
from pipelines.commit import append_keys, json_lines
from pipelines.findings import Findings
from pipelines.outputs import read_settings
from pipelines.run_state import SCHEMA


class SourceChecker:
    """Compares a split's rows with the records of its source, where that is still as planned."""

    def __init__(
        self, output: Storage, signature: Mapping[str, Any], *, text_only: bool = False
    ) -> None:
        """Prepare a reader like the run's.

        Args:
            output: The output.
            signature: The run's signature.
            text_only: Rows hold the source's text alone, in column `text`.
        """
        settings = read_settings(output)["input"]
        paths = signature["input.path"]
        self._source = Storage(paths[0], settings["storage_options"])
        self._schema = pa.ipc.read_schema(pa.BufferReader(output.get(SCHEMA)))
        self._parser = RecordParser(
            signature["input.text_column"],
            signature["input.id_column"],
            signature["input.max_document_chars"],
            frozenset()
            if text_only
            else reserved_columns(chunks="output.chunks.tokens" in signature),
            partition_columns(self._schema),
        )
        if text_only:
            self._schema = pa.schema([self._schema.field(self._parser.text_column)])
        self._names = ["text"] if text_only else self._schema.names

    def check(
        self,
        split: InputSplit,
        stored: list[pa.RecordBatch | list[bytes]],
        quarantined: list[int],
        findings: Findings,
    ) -> None:
        """Every record of the split in its rows or in quarantine, once, in order, unchanged."""
        try:
            if describe_file(self._source, split.path) != (split.file_size, split.etag):
                findings.splits_without_source += 1
                return
        except (FileNotFoundError, PermissionError):
            findings.splits_without_source += 1
            return
        findings.splits_checked_against_source += 1
        apart = set(quarantined)
        rows = _Rows(stored, self._names)
        seen: set[int] = set()
        pieces = RunReader(self._source, [split], self._parser.text_column).read(split)
        for group in map(self._parser.parse, pieces):
            seen.update(bad.position for bad in group.bad)
            kept = [row for row, at in enumerate(group.positions) if at not in apart]
            seen.update(at for at in group.positions if at in apart)
            problem = rows.compare(
                json_lines(group, kept) if rows.is_json else [],
                [] if rows.is_json else group.columns(kept, self._schema),
                len(kept),
            )
            if problem:
                findings.breach(split.id, problem)
                return
        if rows.num_left:
            findings.breach(split.id, f"{rows.num_left} rows more than its source has records")
        if seen != apart:
            odd = sorted(seen ^ apart)[0]
            findings.breach(
                split.id, f"record at {odd} is lost, or quarantined without being there"
            )


class _Rows:
    """The rows of a data file, taken from the front."""

    def __init__(self, stored: list[pa.RecordBatch | list[bytes]], names: list[str]) -> None:
        self._names = names
        batches = [form for form in stored if isinstance(form, pa.RecordBatch)]
        self._table = pa.Table.from_batches(batches).select(names) if batches else None
        self._lines = [line for form in stored if isinstance(form, list) for line in form]
        self._at = 0

    @property
    def is_json(self) -> bool:
        """True where rows are stored as JSON lines."""
        return self._table is None

    @property
    def num_left(self) -> int:
        total = self._table.num_rows if self._table is not None else len(self._lines)
        return int(total) - self._at

    def compare(self, lines: list[bytes], columns: list[pa.Array], count: int) -> str | None:
        """What differs between the next `count` rows and their source, or None."""
        start, self._at = self._at, self._at + count
        if self.num_left < 0:
            return f"{-self.num_left} records of its source are lost"
        if self._table is not None:
            for name, column in zip(self._names, columns, strict=True):
                if not _same(self._table.column(name).slice(start, count), column):
                    return (
                        f"column {name!r} differs from its source in rows {start} to {self._at - 1}"
                    )
            return None
        for offset, line in enumerate(lines):
            written = self._lines[start + offset]
            own = append_keys(line, {"compressed_text": 0}).removesuffix(b"0}\n")
            if not written.startswith(own):
                return f"row {start + offset} does not begin with its source's own JSON"
        return None


def _same(written: pa.ChunkedArray, source: pa.Array) -> bool:
    """Equal values, NaN equal to NaN."""
    source = pa.chunked_array([source]).cast(written.type)
    if written.equals(source):
        return True
    return repr(written.to_pylist()) == repr(source.to_pylist())
