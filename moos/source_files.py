"""Opening the file of a split: decompression, lines, and telling a bad file from a bad disk."""

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import pyarrow as pa

from moos.errors import DataError
from moos.splits import WHOLE_FILE, Compression, InputSplit

MAX_LINE_BYTES = 256 << 20
"""A longer line is not read whole: 12 bytes (an escaped pair) for each of 20 million characters."""

LINE_START_BYTES = 1 << 20
"""What is kept of such a line, to tell which one it was."""

BOM = b"\xef\xbb\xbf"
"""Byte order mark that some tools put before the first line."""


class DamagedFileError(DataError):
    """A file breaks its own format; none of its records can be trusted to be complete."""


class WatchedFile(io.RawIOBase):
    """A file that remembers whether reading it failed, to tell a bad disk from a bad file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failed = False

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be sought in."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; bytes read."""
        data = self._guarded(lambda: self._file.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, or all that is left."""
        return cast(bytes, self._guarded(lambda: self._file.read(size)))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move; the new position."""
        return cast(int, self._guarded(lambda: self._file.seek(offset, whence)))

    def tell(self) -> int:
        """The position."""
        return self._file.tell()

    def _guarded(self, call: Any) -> Any:
        try:
            return call()
        except BaseException:
            self.failed = True
            raise


@contextmanager
def name_damage(watched: WatchedFile, relative: str) -> Iterator[None]:
    """Turn decoding errors into `DamagedFileError`, and leave the storage's own errors alone."""
    try:
        yield
    except (EOFError, zlib.error, OSError, pa.ArrowException) as error:
        if watched.failed or isinstance(error, pa.ArrowMemoryError):
            raise
        raise DamagedFileError(f"{relative} is damaged: {error}") from error


def decompress(watched: WatchedFile, compression: Compression | None) -> BinaryIO:
    """The file's content as a buffered stream."""
    if compression == "gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=cast(BinaryIO, watched), mode="rb"))
    if compression == "zst":
        stream = pa.CompressedInputStream(pa.PythonFile(watched, mode="r"), "zstd")
        return cast(BinaryIO, io.BufferedReader(stream, 1 << 20))
    return cast(BinaryIO, io.BufferedReader(watched, 1 << 20))


def skip_bytes(stream: BinaryIO, count: int, compression: Compression | None) -> None:
    """Move forward; in a compressed file by reading, since nothing else leads there."""
    if compression is None:
        stream.seek(count, io.SEEK_CUR)
        return
    while count > 0:
        passed = len(stream.read(min(count, 1 << 20)))
        if passed == 0:
            return
        count -= passed


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file.

    Attributes:
        position: Offset of its first byte, in the decompressed content.
        content: Its bytes with their end; of a line over `MAX_LINE_BYTES`, only the first.
        num_bytes: Bytes of the whole line.
    """

    position: int
    content: bytes
    num_bytes: int


def iterate_lines(
    watched: WatchedFile, splits: Sequence[InputSplit]
) -> Iterator[tuple[InputSplit, Line | None]]:
    """Lines whose first byte lies in one of the splits, and None behind the last of each split.

    Lines end at a line feed only: U+2028 and the like are characters of a JSON string. The file is
    read once, from the first split on, whatever the number of splits.

    Args:
        watched: The file.
        splits: Splits of this file, in order.
    """
    compression = splits[0].compression
    stream = decompress(watched, compression)
    position = 0
    for split in splits:
        if position < split.start:
            skip_bytes(stream, split.start - 1 - position, compression)
            position = split.start - 1
            position += _read_line(stream, position).num_bytes
        while split.stop == WHOLE_FILE or position < split.stop:
            line = _read_line(stream, position)
            if not line.content:
                break
            yield split, line
            position += line.num_bytes
        yield split, None


def _read_line(stream: BinaryIO, position: int) -> Line:
    """The next line, or no bytes at the end of the file."""
    content = stream.readline(MAX_LINE_BYTES)
    size = len(content)
    if size < MAX_LINE_BYTES or content.endswith(b"\n"):
        return Line(position, content, size)
    content = content[:LINE_START_BYTES]
    while True:
        rest = stream.readline(1 << 20)
        size += len(rest)
        if not rest or rest.endswith(b"\n"):
            return Line(position, content, size)


def measure_content(watched: WatchedFile, compression: Compression) -> int:
    """Bytes of a compressed file's content.

    Raises:
        EOFError, OSError, zlib.error: The file is damaged, or could not be read.
    """
    stream = decompress(watched, compression)
    size = 0
    while count := len(stream.read(1 << 20)):
        size += count
    return size
