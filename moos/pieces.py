"""From an input split to raw pieces: bytes of lines, or rows of a table, not looked into yet.

A piece is what is parsed, scored and written together. Pieces are a function of the split alone,
whether its file is read for it or for a run of splits, so micro-batches and output are too.
"""

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import pyarrow as pa

from moos.parquet_rows import read_rows
from moos.ranged_file import open_source
from moos.source_files import Line, WatchedFile, iterate_lines, name_damage
from moos.splits import WHOLE_FILE, InputSplit
from moos.storage import Storage

PIECE_BYTES = 1 << 18
"""Bytes of input in a piece, or one record where that is larger."""


@dataclass(frozen=True, slots=True)
class RawPiece:
    """Consecutive records of a split as they are stored.

    Attributes:
        position: Byte offset of the first line (in the decompressed content), or first row.
        num_bytes: Bytes of the split in this piece, as a measure of progress.
        lines: Lines with their ends, for JSONL.
        batch: Rows, for Parquet.
        is_cut: The piece is one line, too long to be read whole; `lines` is its beginning.
        relative: The file's path below the input's root: columns may stand in it.
    """

    position: int
    num_bytes: int
    lines: bytes = b""
    batch: pa.RecordBatch | None = None
    is_cut: bool = False
    relative: str = ""


def read_pieces(
    source: Storage,
    splits: Sequence[InputSplit],
    text_column: str,
    on_progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[InputSplit, RawPiece | None]]:
    """The pieces of some splits of one file, in order, reading the file once.

    Behind the last piece of each split comes None, before anything further is read: what is wrong
    behind a split is no concern of its own.

    Args:
        source: Where the file is.
        splits: Splits of one file that hold a byte or a row at least, in order.
        text_column: The column whose size decides how many rows make a piece.
        on_progress: Called whenever the file has answered.

    Raises:
        DamagedFileError: The file is truncated or broken.
        OSError: The storage failed, for as long as it was tried.
    """
    first = splits[0]
    ahead = None if first.compression is not None else splits[-1].stop
    if first.kind == "parquet" or ahead == WHOLE_FILE:
        ahead = 0
    with open_source(source, first.path, first.file_size, stop=ahead) as opened:
        watched = WatchedFile(opened, on_progress)
        with name_damage(watched, first.relative):
            read = (
                _read_lines(watched, splits)
                if first.kind == "jsonl"
                else _read_rows(watched, splits, text_column)
            )
            for split, piece in read:
                yield split, piece and replace(piece, relative=first.relative)


def _read_lines(
    watched: WatchedFile, splits: Sequence[InputSplit]
) -> Iterator[tuple[InputSplit, RawPiece | None]]:
    held: list[Line] = []
    size = 0
    for split, line in iterate_lines(watched, splits):
        is_cut = line is not None and len(line.content) < line.num_bytes
        if held and (line is None or is_cut or size >= PIECE_BYTES):
            content = b"".join(held_line.content for held_line in held)
            yield split, RawPiece(held[0].position, size, content)
            held, size = [], 0
        if line is None:
            yield split, None
        elif is_cut:
            yield split, RawPiece(line.position, line.num_bytes, line.content, is_cut=True)
        else:
            held.append(line)
            size += line.num_bytes


def _read_rows(
    watched: WatchedFile, splits: Sequence[InputSplit], text_column: str
) -> Iterator[tuple[InputSplit, RawPiece | None]]:
    for split, first, size, batch in read_rows(watched, splits, text_column, PIECE_BYTES):
        yield split, None if batch is None else RawPiece(first, size, batch=batch)


class RunReader:
    """Reads the splits of one file one after the other, going through the file once.

    What the splits before it held is not read again; after an error, reading begins anew with the
    split that is asked for.
    """

    def __init__(
        self,
        source: Storage,
        splits: Sequence[InputSplit],
        text_column: str,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._on_progress = on_progress
        # A Parquet file without rows is a split without any.
        self._splits = [split for split in splits if split.start != split.stop]
        self._places = {split.id: place for place, split in enumerate(self._splits)}
        self._text_column = text_column
        self._stream: Iterator[tuple[InputSplit, RawPiece | None]] | None = None

    def read(self, split: InputSplit) -> Iterator[RawPiece]:
        """The pieces of a split; splits must be asked for in order."""
        place = self._places.get(split.id)
        if place is None:
            return
        if self._stream is None:
            self._stream = read_pieces(
                self._source, self._splits[place:], self._text_column, self._on_progress
            )
        stream = self._stream
        try:
            for owner, piece in stream:
                if owner.id != split.id:
                    continue  # of one that nobody asked for, or did not read to its end
                if piece is None:
                    return
                yield piece
        except GeneratorExit:
            raise
        except BaseException:
            self._stream = None
            raise


def pack_pieces(pieces: Sequence[RawPiece]) -> bytes:
    """Pieces for another process of the same job."""
    return pickle.dumps(
        [
            (
                piece.position,
                piece.num_bytes,
                piece.lines,
                None if piece.batch is None else record_to_ipc(piece.batch),
                piece.is_cut,
                piece.relative,
            )
            for piece in pieces
        ]
    )


def unpack_pieces(packed: bytes) -> list[RawPiece]:
    """What `pack_pieces` packed, in a process of the same job; never for bytes from elsewhere."""
    return [
        RawPiece(position, size, lines, None if rows is None else _from_ipc(rows), is_cut, relative)
        for position, size, lines, rows, is_cut, relative in pickle.loads(packed)
    ]


def record_to_ipc(batch: pa.RecordBatch) -> bytes:
    """Rows as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return cast(bytes, sink.getvalue().to_pybytes())


def _from_ipc(data: bytes) -> pa.RecordBatch:
    return pa.ipc.open_stream(pa.BufferReader(data)).read_next_batch()
