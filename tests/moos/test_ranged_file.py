"""A source file gives exactly its planned bytes, or an error, from any store."""

import gzip
import io
import os
import random
import socket
import threading
import time
from typing import ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from moos import ranged_file as module
from moos import retries
from moos.errors import MoosError
from moos.ranged_file import RangedFile, SourceChangedError, open_source
from moos.retries import StorageError
from moos.source_files import WatchedFile, decompress
from moos.storage import Storage

CONTENT = random.Random(7).randbytes(1 << 16)
PATH = "/ranged/file"


class HaltingFileSystem(MemoryFileSystem):
    """Objects in memory, behind requests that are counted and can be made to fail."""

    protocol = "halting"
    cachable = False
    store: ClassVar[dict] = {}

    def __init__(self, **options):
        super().__init__(**options)
        self.ranges = []
        self.faults = []
        """For the next requests, one each: an error to raise, or a change to the body."""
        self.gate = None
        """Where set, what holds up the threads that read ahead."""
        self.lock = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("halting://"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        self.ranges.append((start, end))
        if self.gate is not None and threading.current_thread().daemon:
            assert self.gate.wait(10)
        with self.lock:
            fault = self.faults.pop(0) if self.faults else bytes
        if isinstance(fault, BaseException):
            raise fault
        return fault(super().cat_file(path, start, end))


fsspec.register_implementation("halting", HaltingFileSystem, clobber=True)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Nobody waits before trying again."""
    waits = []
    monkeypatch.setattr(retries, "_sleep", waits.append)
    return waits


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Sizes of 4096 bytes and so on, in the proportions of the real ones."""
    monkeypatch.setattr(module, "RUN_BYTES", 4096)
    monkeypatch.setattr(module, "BLOCK_BYTES", 1024)
    monkeypatch.setattr(module, "LARGE_BYTES", 32768)


@pytest.fixture
def storage():
    """A place that holds `CONTENT` at `PATH`."""
    storage = Storage("halting://ranged")
    HaltingFileSystem.store.clear()
    storage.filesystem.pipe_file(PATH, CONTENT)
    return storage


@pytest.fixture(params=["disk", "remote"])
def opened(request, storage, tmp_path):
    """A file with `CONTENT`, on a disk and on a store."""
    if request.param == "remote":
        with open_source(storage, PATH, len(CONTENT)) as file:
            yield file
        return
    (tmp_path / "file").write_bytes(CONTENT)
    with open_source(Storage(str(tmp_path)), str(tmp_path / "file"), len(CONTENT)) as file:
        yield file


def test_it_is_a_raw_file_of_the_planned_size(opened):
    assert opened.readable()
    assert opened.seekable()
    assert not opened.writable()
    assert opened.tell() == 0
    assert opened.seek(-5, io.SEEK_END) == len(CONTENT) - 5
    assert opened.read(99) == CONTENT[-5:]
    assert opened.read(1) == opened.read() == b""
    assert opened.seek(10) == 10
    assert opened.seek(5, io.SEEK_CUR) == opened.tell() == 15
    buffer = bytearray(20)
    assert opened.readinto(buffer) == 20
    assert buffer == CONTENT[15:35]
    assert opened.readinto(bytearray()) == 0
    assert opened.readall() == CONTENT[35:]
    assert opened.seek(len(CONTENT) + 5) == len(CONTENT) + 5
    assert opened.read(1) == b""
    for offset, whence in [(-1, 0), (-len(CONTENT) - 1, 2), (0, 3)]:
        with pytest.raises(ValueError, match="cannot seek"):
            opened.seek(offset, whence)


def test_a_closed_file_gives_nothing(opened):
    opened.read(1)
    opened.close()
    opened.close()
    assert opened.closed
    for call in (opened.read, opened.tell, lambda: opened.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            call()


@given(data=st.data())
def test_any_seeks_and_reads_give_the_bytes(data):
    size = data.draw(st.integers(0, len(CONTENT)))
    content = CONTENT[:size]
    storage = Storage("halting://ranged")
    storage.filesystem.pipe_file(PATH, content)
    stop = data.draw(st.none() | st.integers(0, size + 10))
    expected = io.BytesIO(content)
    with open_source(storage, PATH, size, stop=stop) as file:
        for _ in range(data.draw(st.integers(1, 25))):
            if data.draw(st.booleans()):
                offset = data.draw(st.integers(0, size + 10))
                assert file.seek(offset) == expected.seek(offset)
            count = data.draw(st.integers(-1, 3000) | st.integers(0, 70000))
            assert file.read(count) == expected.read(count)
            assert file.tell() == expected.tell()
    assert all(0 <= start < end <= size for start, end in storage.filesystem.ranges)


def test_a_sequential_reader_fetches_runs_and_reads_one_ahead(storage):
    size = 20480
    file = open_source(storage, PATH, size)
    file.read(100)
    assert storage.filesystem.ranges == [(0, 1024)]
    for _ in range(10):
        file.read(100)
    file._ahead.wait()
    assert storage.filesystem.ranges == [(0, 1024), (1024, 5120), (5120, 9216)]
    for _ in range(4):
        file.read(1024)
    file._ahead.wait()
    assert storage.filesystem.ranges[3:] == [(9216, 13312)]
    assert file.read() == CONTENT[file._size - (size - 5196) : size]
    starts = sorted(start for start, _ in storage.filesystem.ranges)
    assert len(starts) == len(set(starts))
    assert sum(end - start for start, end in storage.filesystem.ranges) == size


def test_reading_ahead_happens_while_the_reader_works(storage):
    storage.filesystem.gate = threading.Event()
    file = open_source(storage, PATH, len(CONTENT))
    for n in range(5):  # the run behind these is held up, and nobody waits
        assert file.read(1024) == CONTENT[n * 1024 :][:1024]
    assert not file._ahead.is_done()
    storage.filesystem.gate.set()
    assert file.read(10) == CONTENT[5120:5130]


def test_nothing_is_read_ahead_behind_the_stop(storage):
    file = open_source(storage, PATH, len(CONTENT), stop=6000)
    for _ in range(12):
        file.read(512)
    ranges = storage.filesystem.ranges
    assert ranges == [(0, 1024), (1024, 5120), (5120, 6000), (5120, 6144)]


def test_a_caller_that_jumps_gets_no_runs(storage):
    file = open_source(storage, PATH, len(CONTENT), stop=0)
    for _ in range(8):
        file.read(512)
    assert storage.filesystem.ranges == [(n * 1024, n * 1024 + 1024) for n in range(4)]


def test_a_large_read_is_fetched_exactly_and_once(storage):
    file = open_source(storage, PATH, len(CONTENT))
    file.seek(3000)
    assert file.read(9000) == CONTENT[3000:12000]
    assert storage.filesystem.ranges == [(3000, 12000)]
    file.read(100)  # does not pass for sequential: it may be the next column
    assert storage.filesystem.ranges[1:] == [(11264, 12288)]


def test_a_huge_read_is_fetched_in_parts(storage):
    file = open_source(storage, PATH, len(CONTENT))
    assert file.read() == CONTENT
    assert storage.filesystem.ranges == [(0, 32768), (32768, 65536)]
    file.seek(100)
    assert file.read(32768 + 200) == CONTENT[100 : 100 + 32768 + 200]
    assert storage.filesystem.ranges[2:] == [(100, 33068)]


def test_places_read_in_turn_are_fetched_once(storage):
    file = open_source(storage, PATH, len(CONTENT))
    places = [n * 3072 for n in range(module.NUM_BLOCKS)]
    for step in range(0, 1024, 64):
        for place in places:
            file.seek(place + step)
            assert file.read(64) == CONTENT[place + step : place + step + 64]
    assert sorted(storage.filesystem.ranges) == [(place, place + 1024) for place in places]


def test_what_is_kept_is_bounded(storage):
    file = open_source(storage, PATH, len(CONTENT))
    for place in random.Random(1).choices(range(len(CONTENT)), k=300):
        file.seek(place)
        file.read(1500)
    for _ in range(10):
        file.read(1024)
    file._ahead.wait()
    held = sum(map(len, file._blocks.values())) + len(file._run[1]) + len(file._ahead.wait())
    assert held <= 16 * 1024 + 2 * 4096


def test_a_read_across_two_blocks_is_one_request(storage):
    file = open_source(storage, PATH, len(CONTENT))
    file.seek(5000)
    file.read(700)
    assert storage.filesystem.ranges == [(4096, 6144)]
    file.seek(3800)
    file.read(700)  # the second block is there
    assert storage.filesystem.ranges[1:] == [(3072, 4096)]


FAULTS = [
    pytest.param(OSError(121, "Internal Server Error"), id="500"),
    pytest.param(ConnectionResetError(104, "Connection reset by peer"), id="reset"),
    pytest.param(TimeoutError(), id="timeout"),
    pytest.param(lambda body: body[:-1], id="short"),
    pytest.param(lambda body: b"", id="empty"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_that_passes_costs_a_wait_and_nothing_else(storage, fault, waits):
    file = open_source(storage, PATH, len(CONTENT))
    content = b""
    for _ in range(16):  # blocks, runs, and what is read ahead
        storage.filesystem.faults = [fault, fault]
        content += file.read(1024)
    storage.filesystem.faults = [fault, fault]
    assert content + file.read() == CONTENT
    assert waits


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("before", [0, 1024, 5120], ids=["block", "run", "ahead"])
def test_a_failure_that_stays_is_an_error_and_not_the_end(storage, fault, before):
    file = WatchedFile(open_source(storage, PATH, len(CONTENT)))
    storage.filesystem.gate = threading.Event()  # nothing is read ahead before there are faults
    for _ in range(before // 256):
        file.read(256)
    storage.filesystem.faults = [fault] * 99
    storage.filesystem.gate.set()
    with pytest.raises(StorageError, match=r"read bytes \d+ to \d+ of /ranged/file failed 6 times"):
        file.read(256)
    assert file.failed
    storage.filesystem.faults = []
    assert file.read(256) == CONTENT[before : before + 256]  # a later try goes on there


def test_retries_are_the_storages():
    storage = Storage("halting://ranged", retries=1)
    storage.filesystem.pipe_file(PATH, CONTENT)
    storage.filesystem.faults = [TimeoutError()] * 99
    with pytest.raises(StorageError, match="failed 2 times"):
        open_source(storage, PATH, len(CONTENT)).read(1)
    assert len(storage.filesystem.ranges) == 2


def test_a_remote_file_that_shrank_is_told_apart_from_a_bad_store(storage):
    file = open_source(storage, PATH, len(CONTENT))
    file.read(10)
    storage.filesystem.pipe_file(PATH, CONTENT[:-1])
    with pytest.raises(SourceChangedError, match="has 65535 bytes but had 65536 when the run was"):
        file.read()
    # A block, and two parts; the short one only once.
    assert storage.filesystem.ranges == [(0, 1024), (1024, 33792), (33792, 65536)]


def test_a_range_that_is_not_there_any_more_is_a_change(storage):
    error = OSError(22, "m")
    error.__cause__ = Exception()
    error.__cause__.response = {"ResponseMetadata": {"HTTPStatusCode": 416}}
    file = open_source(storage, PATH, len(CONTENT) + 5)
    storage.filesystem.faults = [error]
    with pytest.raises(SourceChangedError, match="has 65536 bytes but had 65541"):
        file.read()


def test_a_remote_file_that_is_gone(storage):
    file = open_source(storage, PATH, len(CONTENT))
    storage.filesystem.rm_file(PATH)
    with pytest.raises(FileNotFoundError):
        file.read(1)


def test_a_store_that_ignores_ranges_is_refused(storage):
    storage.filesystem.faults = [lambda body: CONTENT] * 9
    with pytest.raises(StorageError, match="ignore ranges"):
        open_source(storage, PATH, len(CONTENT)).read(1)
    assert len(storage.filesystem.ranges) == 1


def test_a_local_file_that_shrank(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    file = WatchedFile(open_source(Storage(str(tmp_path)), str(path), len(CONTENT)))
    assert file.read(100) == CONTENT[:100]
    os.truncate(path, 5000)
    assert file.read(100) == CONTENT[100:200]
    with pytest.raises(SourceChangedError, match="has 5000 bytes but had 65536 when the run was"):
        file.read()
    assert file.failed
    assert issubclass(SourceChangedError, MoosError)


def test_a_file_that_grew_ends_where_it_was_planned_to(storage, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    local = open_source(Storage(str(tmp_path)), str(tmp_path / "file"), 1000)
    for file in (local, open_source(storage, PATH, 1000)):
        with file:
            assert file.read() == CONTENT[:1000]
            assert file.seek(0, io.SEEK_END) == 1000


def test_a_local_file_that_is_gone(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_source(Storage(str(tmp_path)), str(tmp_path / "nothing"), 5)


def test_closing_does_not_wait_for_what_is_read_ahead(storage):
    storage.filesystem.gate = threading.Event()
    file = open_source(storage, PATH, len(CONTENT))
    file.read(1024)
    file.read(1024)
    ahead = file._ahead
    storage.filesystem.faults = [TimeoutError()] * 99
    begun = time.monotonic()
    file.close()
    assert time.monotonic() - begun < 1
    assert not ahead.is_done()
    storage.filesystem.gate.set()
    with pytest.raises(ValueError, match="closed"):
        ahead.wait()
    assert len(storage.filesystem.ranges) == 3  # the failed one was not tried again


def test_a_reader_whose_file_is_closed_elsewhere_gets_bytes_or_an_error(storage):
    file = open_source(storage, PATH, len(CONTENT))
    seen = []

    def read():
        try:
            while data := file.read(100):
                seen.append(data)
                file.seek(0 if file.tell() > 60000 else file.tell())
        except ValueError as error:
            seen.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    while len(seen) < 50:
        time.sleep(0.001)
    file.close()
    reader.join(10)
    assert "closed" in str(seen[-1])
    assert all(CONTENT.find(data) >= 0 for data in seen[:50])


@pytest.mark.parametrize("compression", ["gz", "zst", None])
@pytest.mark.parametrize("fault", FAULTS)
def test_it_serves_decompression(storage, compression, fault):
    lines = b"".join(b'{"text": "line %d of many"}\n' % n for n in range(5000))
    packed = {
        "gz": lambda: gzip.compress(lines),
        "zst": lambda: pa.compress(lines, codec="zstd", asbytes=True),
        None: lambda: lines,
    }[compression]()
    storage.filesystem.pipe_file(PATH, packed)
    with open_source(storage, PATH, len(packed)) as file:
        storage.filesystem.faults = [fault, bytes, fault]
        assert decompress(WatchedFile(file), compression).read() == lines


def test_a_damaged_gzip_is_no_failure_of_the_store(storage):
    packed = gzip.compress(CONTENT)[:-100]
    storage.filesystem.pipe_file(PATH, packed)
    watched = WatchedFile(open_source(storage, PATH, len(packed)))
    with pytest.raises(EOFError):
        decompress(watched, "gz").read()
    assert not watched.failed


@pytest.fixture
def parquet(storage, monkeypatch):
    """A Parquet file of 12 row groups at `PATH`: its table and its size."""
    monkeypatch.setattr(module, "BLOCK_BYTES", 1 << 16)  # pyarrow reads as much for the footer
    monkeypatch.setattr(module, "LARGE_BYTES", 1 << 20)
    words = [CONTENT[n : n + 40].hex() for n in range(12000)]
    table = pa.table({"text": words, "n": range(12000), "x": [0.5] * 12000, "more": words})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=1000, use_dictionary=False, compression="none")
    storage.filesystem.pipe_file(PATH, sink.getvalue())
    return table, len(sink.getvalue())


def test_it_serves_parquet(storage, parquet):
    table, size = parquet
    with open_source(storage, PATH, size, stop=0) as file:
        storage.filesystem.faults = [TimeoutError()]
        read = pq.ParquetFile(pa.PythonFile(WatchedFile(file), mode="r"))
        assert pa.Table.from_batches(read.iter_batches(100)).equals(table)
    assert sum(end - start for start, end in storage.filesystem.ranges) < 1.3 * size


def test_an_error_of_the_store_reaches_through_parquet_as_it_is(storage, parquet):
    watched = WatchedFile(open_source(storage, PATH, parquet[1]))
    read = pq.ParquetFile(pa.PythonFile(watched, mode="r"))
    storage.filesystem.faults = [TimeoutError()] * 99
    with pytest.raises(StorageError, match="failed 6 times"):
        list(read.iter_batches(100))
    assert watched.failed


class HalfServer:
    """An HTTP server that sends half of a range, and says in the headers as much as it is told."""

    def __init__(self, headers):
        self.headers = headers
        self.num_bodies = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:  # closed
                return
            with connection:
                request = connection.recv(65536)
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536) or b"\r\n\r\n"
                connection.sendall(self._answer(request))

    def _answer(self, request):
        if request.startswith(b"HEAD"):
            return b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"
        self.num_bodies += 1
        headers = self.headers if self.num_bodies < 3 else b"Content-Length: 1000\r\n"
        body = CONTENT[: 500 if self.num_bodies < 3 else 1000]
        return b"HTTP/1.1 206 OK\r\n" + headers + b"Connection: close\r\n\r\n" + body


@pytest.mark.parametrize(
    "headers",
    [b"Content-Length: 1000\r\n", b"Content-Length: 500\r\n", b""],
    ids=["broken off", "short but consistent", "no length"],
)
def test_half_a_body_from_s3_is_never_the_whole(headers, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = HalfServer(headers)
    options = {
        "anon": True,
        "endpoint_url": server.url,
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    with server.socket:
        file = RangedFile(Storage("s3://bucket", options), "bucket/key", 1000)
        assert file.read() == CONTENT[:1000]
    assert server.num_bodies == 3
