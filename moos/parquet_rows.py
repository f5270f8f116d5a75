"""Rows of a Parquet file, cut into parts that hold about so much text, and decode to no more.

A few kilobytes of Parquet may stand for gigabytes: a dictionary holds a long value once, however
many rows have it. Rows are therefore decoded so few at a time that even the longest value in each
would fit `DECODED_BYTES`. What remains unbounded is one row, and one page (2 GiB by its format).
"""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moos.parquet_files import open_parquet
from moos.source_files import WatchedFile, unpack
from moos.splits import WHOLE_FILE, InputSplit, text_bytes_of

DECODED_BYTES = 1 << 25
"""Bytes that rows decode to at once, or one row if larger. Joining them takes up to six times this:
what was read before, what is read, and both in one."""

MAX_BATCH_ROWS = 8192

_DICTIONARIES = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}
_DICTIONARY_PAGE = 2


def read_rows(
    watched: WatchedFile, splits: Sequence[InputSplit], text_column: str, part_bytes: int
) -> Iterator[tuple[InputSplit, int, int, pa.RecordBatch | None]]:
    """The rows of some splits of one file, in order, in parts.

    Args:
        watched: The file.
        splits: Splits of it that hold a row at least, in order.
        text_column: The column whose size decides how many rows make a part.
        part_bytes: Bytes of text in a part, or one row where that is larger.

    Yields:
        The split, the part's first row in the file, its share of the split's size, its rows. None
        for rows comes behind the last part of each split, before anything further is read.

    Raises:
        pa.ArrowException, OSError, EOFError, zlib.error: The file is damaged, or cannot be read.
    """
    stream: Any = watched
    if splits[0].compression is not None:
        stream = unpack(watched, splits[0].compression)
    file = open_parquet(stream)
    num_rows = file.metadata.num_rows
    bounds = [(s, s.start, num_rows if s.stop == WHOLE_FILE else s.stop) for s in splits]
    row = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        stop = row + group.num_rows
        wanted = [part for part in bounds if part[1] < stop and part[2] > row]
        if wanted:
            row_bytes = max(1, text_bytes_of(group, text_column) // max(1, group.num_rows))
            rows = max(1, min(part_bytes // row_bytes, MAX_BATCH_ROWS))
            batches = _read_batches(file, stream, number, rows)
            for split, first, batch in _slice_batches(batches, row, wanted):
                for at, part in () if batch is None else _cut_batch(batch, text_column, part_bytes):
                    yield split, first + at, part.num_rows * row_bytes, part
                if batch is None:
                    yield split, first, 0, None
        row = stop


def _read_batches(
    file: pq.ParquetFile, stream: io.RawIOBase, number: int, rows: int
) -> Iterator[pa.RecordBatch]:
    """A row group in batches of `rows` rows, or of fewer that decode to `DECODED_BYTES`."""
    step = max(1, min(rows, DECODED_BYTES // _longest_row(file, stream, number)))
    held: list[pa.RecordBatch] = []
    num_held = num_bytes = 0
    for batch in file.iter_batches(step, row_groups=[number]):
        held.append(batch)
        num_held += batch.num_rows
        num_bytes += _decoded_bytes(batch)
        if num_held < rows and num_bytes < DECODED_BYTES:
            continue
        whole = pa.concat_batches(held) if len(held) > 1 else batch
        yield whole.slice(0, rows)
        held = [whole.slice(rows)] if num_held > rows else []
        num_held, num_bytes = max(0, num_held - rows), 0
    if held:
        yield pa.concat_batches(held) if len(held) > 1 else held[0]


def _longest_row(file: pq.ParquetFile, stream: io.RawIOBase, number: int) -> int:
    """Bytes that a row of a row group decodes to at most, lists being of their average length."""
    group = file.metadata.row_group(number)
    total = 1
    for index in range(group.num_columns):
        column = group.column(index)
        length = file.schema.column(index).length
        if column.physical_type == "BYTE_ARRAY":
            length = _longest_value(stream, column)
        total += max(length, 8) * max(1, column.num_values // max(1, group.num_rows))
    return total


def _longest_value(stream: io.RawIOBase, column: pq.ColumnChunkMetaData) -> int:
    """Most bytes that a value takes of no bytes of its own; 0 where each is stored in full."""
    encodings = set(column.encodings)
    if "DELTA_BYTE_ARRAY" in encodings:  # a value may begin like the one before it
        return max(0, int(column.total_uncompressed_size))
    if not column.has_dictionary_page and not encodings & _DICTIONARIES:
        return 0
    start = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
        start = column.dictionary_page_offset
    stream.seek(start)
    size = _dictionary_page_size(stream.read(16) or b"")
    return max(0, int(column.total_uncompressed_size)) if size is None else size


def _dictionary_page_size(header: bytes) -> int | None:
    """Decompressed bytes of a dictionary page, from how it begins; None where it is another page.

    A page header is a Thrift struct in compact form: its first fields are the kind of page and the
    decompressed size, each a byte 0x15 and a zigzag number in groups of seven bits.
    """
    fields: list[int] = []
    at = 0
    while len(fields) < 2:
        if header[at : at + 1] != b"\x15":
            return None
        at, value, shift = at + 1, 0, 0
        while header[at : at + 1] >= b"\x80":
            value |= (header[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
        if at >= len(header):
            return None
        value |= header[at] << shift
        at += 1
        fields.append(value >> 1)
    return fields[1] if fields[0] == _DICTIONARY_PAGE else None


def _slice_batches(
    batches: Iterator[pa.RecordBatch],
    first_row: int,
    wanted: Sequence[tuple[InputSplit, int, int]],
) -> Iterator[tuple[InputSplit, int, pa.RecordBatch | None]]:
    """A row group's batches, cut at the splits' bounds, each with its first row in the file.

    Behind the last rows of a split comes None.
    """
    at = first_row
    for batch in batches:
        end = at + batch.num_rows
        for split, start, stop in wanted:
            low, high = max(start, at), min(stop, end)
            if low < high:
                yield split, low, batch.slice(low - at, high - low)
                if high == stop:
                    yield split, stop, None
        at = end
        if at >= wanted[-1][2]:
            return


def _cut_batch(
    batch: pa.RecordBatch, text_column: str, part_bytes: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Parts of a batch that hold about `part_bytes` of text each: rows differ in size.

    Columns that stay dictionaries while they are read are kept to `DECODED_BYTES` in a part.
    """
    sizes = _value_bytes(batch.column(text_column))
    others = [column for column in batch.columns if pa.types.is_dictionary(column.type)]
    if others:
        bulk = np.sum([_value_bytes(column) for column in others], axis=0)
        sizes = np.maximum(sizes, bulk * part_bytes // DECODED_BYTES)
    ends = np.cumsum(sizes)
    start = 0
    while start < batch.num_rows:
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + part_bytes)) + 1
        stop = min(stop, batch.num_rows)
        yield start, batch.slice(start, stop - start)
        start = stop


def _decoded_bytes(batch: pa.RecordBatch) -> int:
    """Bytes of a batch in memory, without dictionaries: those are bounded by `_cut_batch`."""
    return sum(
        column.get_total_buffer_size()
        for column in batch.columns
        if not pa.types.is_dictionary(column.type)
    )


def _value_bytes(column: pa.Array) -> NDArray[np.int64]:
    """Bytes of each value once it is decoded; 0 for null, and for what is no text and no bytes."""
    if pa.types.is_dictionary(column.type):
        lengths = _value_bytes(column.dictionary)
        codes = pc.fill_null(column.indices.cast(pa.int64()), len(lengths))
        values: NDArray[np.int64] = np.append(lengths, 0)[codes.to_numpy(zero_copy_only=False)]
        return values
    if pa.types.is_string_view(column.type):
        texts = column.cast(pa.binary_view())
        return np.array([len(text.as_py() or b"") for text in texts], dtype=np.int64)
    try:
        sizes = pc.fill_null(pc.binary_length(column), 0)
    except pa.ArrowNotImplementedError:
        return np.zeros(len(column), dtype=np.int64)
    return np.asarray(sizes.to_numpy(zero_copy_only=False), dtype=np.int64)
