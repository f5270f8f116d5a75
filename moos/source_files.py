"""Opening the file of a split: decompression, lines, and telling a bad file from a bad disk."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
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

MAX_UNPACKED_BYTES = 1 << 30
"""Most content of a Parquet file that is compressed as a whole, and so has to be held in memory: a
file of a megabyte may well unpack to one of gigabytes. Lines are streamed, and need no limit."""

BOM = b"\xef\xbb\xbf"
"""Byte order mark that some tools put before the first line."""

_OTHER_FORMATS = (
    (b"\x1f\x8b", "gzip", ".jsonl.gz"),
    (b"\x28\xb5\x2f\xfd", "zstd", ".jsonl.zst"),
    (b"PAR1", "Parquet", ".parquet"),
)
"""How a file begins that is named for lines and holds something else; its name; a better ending."""


class DamagedFileError(DataError):
    """A file breaks its own format; none of its records can be trusted to be complete."""


class WatchedFile(io.RawIOBase):
    """A file that remembers whether reading it failed, to tell a bad disk from a bad file.

    Attributes:
        failed: A call raised.
    """

    def __init__(self, file: BinaryIO, on_progress: Callable[[], None] = lambda: None) -> None:
        """Wrap a file.

        Args:
            file: The file.
            on_progress: Called whenever the file has answered: to get to the end of a large
                compressed one takes many minutes.
        """
        self._file = file
        self._on_progress = on_progress
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
            answer = call()
        except BaseException:
            self.failed = True
            raise
        self._on_progress()
        return answer


@contextmanager
def name_damage(watched: WatchedFile, relative: str) -> Iterator[None]:
    """Turn decoding errors into `DamagedFileError`, and leave the storage's own errors alone."""
    try:
        yield
    except (EOFError, zlib.error, OSError, pa.ArrowException) as error:
        if watched.failed or isinstance(error, pa.ArrowMemoryError):
            raise
        raise DamagedFileError(f"{relative} is damaged: {error}") from error


def decompress(
    watched: WatchedFile, compression: Compression | None
) -> gzip.GzipFile | io.BufferedReader:
    """The file's content as a buffered stream.

    Raises:
        EOFError: A file that should be compressed has no bytes: it was never written to its end.
    """
    if compression is not None and watched.seek(0, io.SEEK_END) == 0:
        raise EOFError("it has no bytes, not even a header")
    watched.seek(0)
    if compression == "gz":
        return gzip.GzipFile(fileobj=cast(BinaryIO, watched), mode="rb")
    if compression == "zst":
        stream = pa.CompressedInputStream(pa.PythonFile(watched, mode="r"), "zstd")
        return io.BufferedReader(stream, 1 << 20)
    return io.BufferedReader(watched, 1 << 20)


def unpack(watched: WatchedFile, compression: Compression) -> io.BytesIO:
    """The content of a compressed file, whole.

    Raises:
        pa.ArrowInvalid: It holds more than `MAX_UNPACKED_BYTES`.
        EOFError, OSError, zlib.error: The file is damaged, or could not be read.
    """
    stream = decompress(watched, compression)
    content = stream.read(MAX_UNPACKED_BYTES + 1)
    if len(content) > MAX_UNPACKED_BYTES:
        raise pa.ArrowInvalid(
            f"its {watched.seek(0, io.SEEK_END)} bytes unpack to more than {MAX_UNPACKED_BYTES}, "
            "and would be held in memory whole; a Parquet file compresses its columns itself, so "
            f"give it unpacked, without .{compression}"
        )
    return io.BytesIO(content)


def skip_bytes(
    stream: gzip.GzipFile | io.BufferedReader, count: int, compression: Compression | None
) -> None:
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

    Raises:
        EOFError, OSError, zlib.error: The file is damaged, holds something else than lines, or
            could not be read.
    """
    compression = splits[0].compression
    stream = decompress(watched, compression)
    head = None if compression is None else stream.peek(4)
    is_told = False
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
            if not is_told and _is_no_object(line.content):
                _check_format(_read_head(stream) if head is None else head)
                is_told = True
            yield split, line
            position += line.num_bytes
        yield split, None


def _is_no_object(line: bytes) -> bool:
    return line[:64].lstrip(BOM + b" \t\r\n")[:1] not in (b"{", b"")


def _read_head(stream: gzip.GzipFile | io.BufferedReader) -> bytes:
    """How a plain file begins; the position stays."""
    position = stream.tell()
    stream.seek(0)
    head = stream.read(4)
    stream.seek(position)
    return head


def _check_format(head: bytes) -> None:
    """Refuse a file of another format: its lines would be any bytes between two line feeds."""
    for mark, name, ending in _OTHER_FORMATS:
        if head.startswith(mark):
            raise OSError(
                f"it holds {name} data, not JSON lines, whatever its name says; rename it to end "
                f"in {ending}"
            )


def _read_line(stream: gzip.GzipFile | io.BufferedReader, position: int) -> Line:
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
