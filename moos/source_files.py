"""Opening the file of a split: decompression, lines, and telling a bad file from a bad disk."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import pyarrow as pa

from moos.errors import DataError
from moos.splits import WHOLE_FILE, Compression, InputSplit

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
def name_damage(watched: WatchedFile, split: InputSplit) -> Iterator[None]:
    """Turn decoding errors into `DamagedFileError`, and leave the storage's own errors alone."""
    try:
        yield
    except (EOFError, zlib.error, OSError, pa.ArrowException) as error:
        if watched.failed or isinstance(error, pa.ArrowMemoryError):
            raise
        raise DamagedFileError(f"{split.relative} is damaged: {error}") from error


def decompress(watched: WatchedFile, compression: Compression | None) -> BinaryIO:
    """The file's content as a buffered stream."""
    if compression == "gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=cast(BinaryIO, watched), mode="rb"))
    if compression == "zst":
        stream = pa.CompressedInputStream(pa.PythonFile(watched, mode="r"), "zstd")
        return cast(BinaryIO, io.BufferedReader(stream, 1 << 20))
    return cast(BinaryIO, io.BufferedReader(watched, 1 << 20))


def iterate_lines(watched: WatchedFile, split: InputSplit) -> Iterator[tuple[int, bytes]]:
    """Lines whose first byte lies in the split, with the offset of that byte.

    Lines end at a line feed only: U+2028 and the like are characters of a JSON string.
    """
    stream = decompress(watched, split.compression)
    position = 0
    if split.start > 0:
        stream.seek(split.start - 1)
        position = split.start - 1 + len(stream.readline())
    while split.stop == WHOLE_FILE or position < split.stop:
        line = stream.readline()
        if not line:
            return
        yield position, line
        position += len(line)
