"""Reading a source file as it was planned: exactly its bytes, or an error, never a silent end.

fsspec's own remote files keep their bytes in caches that pass on a short body as the end of the
file. Here every request is measured, and tried again as `moos.retries` says.
"""

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, BinaryIO, cast

from moos.errors import MoosError
from moos.listing import describe_file
from moos.retries import ShortBodyError, StorageError, status_of
from moos.storage import Storage

RUN_BYTES = 4 << 20
"""A request of a sequential reader: 40 ms at the 100 MB/s of one connection, behind 20 ms until a
store begins. With one ahead, whoever takes 60 ms for as much never waits."""
BLOCK_BYTES = 1 << 20
"""A request of a reader that jumps: about as long to fetch as to wait for."""
NUM_BLOCKS = 16
"""Blocks kept: so many places of a file can be read in turn, such as the columns of a Parquet row
group. Chunks larger than a block, as of a text column, are fetched whole and need none."""
LARGE_BYTES = 32 << 20
"""Longest request: what a broken connection costs at most."""
_RANGE_NOT_SATISFIABLE = 416


class SourceChangedError(MoosError):
    """An input file is not what it was when the run was planned."""


def open_source(storage: Storage, path: str, size: int, *, stop: int | None = None) -> BinaryIO:
    """Open a source file for reading; unbuffered, seekable, to be closed.

    Reading gives the file's first `size` bytes, or raises `SourceChangedError` where there are not
    so many any more. A remote file that is gone raises `FileNotFoundError` at the first read.

    Args:
        storage: A place on the file's filesystem.
        path: Path on the filesystem, as in `SourceFile`.
        size: Bytes of the file when it was planned.
        stop: Where the caller will most likely stop reading: nothing behind it is read ahead. 0 for
            a caller that jumps.
    """
    if storage.is_local:
        return cast(BinaryIO, _LocalFile(path, size))
    return cast(BinaryIO, RangedFile(storage, path, size, stop=stop))


class _PlannedFile(io.RawIOBase):
    """A seekable file of a known size, on top of reads at a place."""

    def __init__(self, path: str, size: int) -> None:
        super().__init__()
        self._path = path
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be sought in."""
        return True

    def tell(self) -> int:
        """The position."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, also past the end, without reading; the new position."""
        self._check_open()
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        if whence not in bases or bases[whence] + offset < 0:
            raise ValueError(f"cannot seek to {offset} with whence={whence} in {self._path}")
        self._position = bases[whence] + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """The next `size` bytes, or all that are left; fewer only at the end of the file."""
        self._check_open()
        left = max(0, self._size - self._position)
        count = left if size is None or size < 0 else min(size, left)
        data = self._read_at(self._position, count) if count else b""
        self._position += count
        return data

    def readall(self) -> bytes:
        """All that is left."""
        return self.read()

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; bytes read, fewer than it holds only at the end of the file."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _read_at(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes, at least 1, that lie inside the planned size."""
        raise NotImplementedError

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"{self._path} is closed")


class _LocalFile(_PlannedFile):
    """A file on a disk."""

    def __init__(self, path: str, size: int) -> None:
        super().__init__(path, size)
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (closed by close)

    def close(self) -> None:
        """Close it."""
        super().close()
        if hasattr(self, "_file"):  # not where it could not be opened
            self._file.close()

    def _read_at(self, offset: int, count: int) -> bytes:
        parts = []
        while count:
            part = os.pread(self._file.fileno(), count, offset)
            if not part:
                raise _changed(self._path, self._size, offset)
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class RangedFile(_PlannedFile):
    """A file on a remote store, read by byte ranges.

    A read that goes on where the last request ended is sequential: it fetches `RUN_BYTES`, and a
    thread fetches the next as many while these are used. Any other read fetches the one or two
    blocks of a grid of `BLOCK_BYTES` that it lies in; the last `NUM_BLOCKS` are kept. Of a read
    above `BLOCK_BYTES`, what is not there yet is fetched exactly and not kept.

    Memory: at most 24 MiB are kept (16 blocks, a run, a run ahead). While it arrives a body is held
    twice by s3fs, and a read is put together from parts, so a large one takes twice its size.

    One thread may read while another closes: the reader gets its bytes or a `ValueError`.
    """

    def __init__(self, storage: Storage, path: str, size: int, *, stop: int | None = None) -> None:
        super().__init__(path, size)
        self._storage = storage
        self._stop = size if stop is None else min(stop, size)
        self._run = (0, b"")
        self._ahead: _ReadAhead | None = None
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next = -1  # where the last request ended, unless it was a large one

    def close(self) -> None:
        """Forget the bytes; a request under way is not waited for, and not tried again."""
        super().close()
        self._run = (0, b"")
        self._ahead = None
        self._blocks = OrderedDict()

    def _read_at(self, offset: int, count: int) -> bytes:
        parts = []
        while count:
            part = self._take_held(offset, count) or self._take_new(offset, count)
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take_held(self, offset: int, count: int) -> bytes:
        """Bytes at a place, as many as are there already, or none."""
        start, data = self._run
        if start <= offset < start + len(data):
            return data[offset - start : offset - start + count]
        start, blocks = offset // BLOCK_BYTES * BLOCK_BYTES, self._blocks
        data = blocks.pop(start, b"")
        if data:
            blocks[start] = data  # the last used is the last to go
        return data[offset - start : offset - start + count]

    def _take_new(self, offset: int, count: int) -> bytes:
        """Bytes at a place that is not held, after one request."""
        ahead = self._ahead
        if ahead is not None and ahead.start <= offset < ahead.stop:
            self._ahead = None
            self._enter_run(ahead.start, ahead.wait())
        elif count > BLOCK_BYTES:
            self._next = -1
            # What is left then is no small rest, for which a block would be fetched.
            length = count if count <= LARGE_BYTES + BLOCK_BYTES else LARGE_BYTES
            return self._fetch(offset, offset + length)
        elif offset == self._next and offset < self._stop:
            self._enter_run(offset, self._fetch(offset, min(offset + RUN_BYTES, self._stop)))
        else:
            self._fetch_blocks(offset, count)
        return self._take_held(offset, count)

    def _enter_run(self, start: int, data: bytes) -> None:
        """Make this the current run, and read the next one ahead."""
        self._run = (start, data)
        self._next = start + len(data)
        # One that was left behind by a jump may be under way still: one at a time bounds memory.
        is_busy = self._ahead is not None and not self._ahead.is_done()
        if self._next < self._stop and not is_busy and not self.closed:
            stop = min(self._next + RUN_BYTES, self._stop)
            self._ahead = _ReadAhead(self._next, stop, partial(self._fetch, self._next, stop))

    def _fetch_blocks(self, offset: int, count: int) -> None:
        """Fetch and keep the block of a place, with the one behind it if the read ends there."""
        blocks = self._blocks
        start = offset // BLOCK_BYTES * BLOCK_BYTES
        last = (offset + count - 1) // BLOCK_BYTES * BLOCK_BYTES
        self._next = last if last in blocks else min(last + BLOCK_BYTES, self._size)
        data = self._fetch(start, self._next)
        for place in range(0, len(data), BLOCK_BYTES):
            blocks[start + place] = data[place : place + BLOCK_BYTES]
        while len(blocks) > NUM_BLOCKS:
            blocks.popitem(last=False)

    def _fetch(self, start: int, stop: int) -> bytes:
        what = f"read bytes {start} to {stop} of {self._path}"
        return self._storage.attempt(what, partial(self._request, start, stop))

    def _request(self, start: int, stop: int) -> bytes:
        self._check_open()  # so that a request that is read ahead is not tried again for nobody
        try:
            data = bytes(self._storage.filesystem.cat_file(self._path, start=start, end=stop))
        except Exception as error:
            if status_of(error) == _RANGE_NOT_SATISFIABLE:
                self._check_size()
            raise
        if len(data) < stop - start:
            self._check_size()
            raise ShortBodyError(f"got {len(data)} bytes of {stop - start}")
        if len(data) > stop - start:
            raise StorageError(
                f"{self._path}: asked for {stop - start} bytes, got {len(data)}; the store seems "
                "to ignore ranges: copy the input to one that does not"
            )
        return data

    def _check_size(self) -> None:
        now, _ = describe_file(self._storage, self._path)
        if now != self._size:
            raise _changed(self._path, self._size, now)


class _ReadAhead:
    """A range that is fetched by a thread of its own.

    The thread is no reason to wait when the process ends, which an executor's would be.
    """

    def __init__(self, start: int, stop: int, fetch: Callable[[], bytes]) -> None:
        self.start = start
        self.stop = stop
        self._future: Future[bytes] = Future()
        threading.Thread(target=self._work, args=(fetch,), daemon=True).start()

    def wait(self) -> bytes:
        """The bytes, or the error that came instead."""
        return self._future.result()

    def is_done(self) -> bool:
        """True when nothing is under way any more."""
        return self._future.done()

    def _work(self, fetch: Callable[[], bytes]) -> None:
        try:
            self._future.set_result(fetch())
        except BaseException as error:  # noqa: BLE001  (wait raises it)
            self._future.set_exception(error)


def _changed(path: str, planned: int, now: int) -> SourceChangedError:
    return SourceChangedError(
        f"{path} has {now} bytes but had {planned} when the run was planned; run again when "
        "nothing writes to it any more"
    )
