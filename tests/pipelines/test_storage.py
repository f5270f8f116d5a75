"""Writes happen whole or not at all, on any filesystem; secrets stay out."""

import logging
import os
import socket
import threading
from functools import partial
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from moos import retries
from moos.config import load_config
from moos.errors import ConfigError
from moos.listing import describe_file, list_sources
from moos.retries import StorageError
from moos.storage import Storage, is_below
from pipelines.config import CompressConfig


@pytest.fixture(params=["disk", "memory"])
def storage(request, tmp_path):
    if request.param == "disk":
        return Storage(str(tmp_path / "place"))
    fsspec.filesystem("memory").store.clear()
    return Storage("memory://place")


def test_what_is_put_can_be_got_listed_and_removed(storage):
    assert storage.list("a") == []
    assert not storage.exists("a/x")
    storage.put("a/y", b"2")
    storage.put("a/x", b"1")
    storage.put("a/b/z", b"3")
    storage.put("a/x", b"changed")
    assert storage.list("a") == ["x", "y"]
    assert (storage.get("a/x"), storage.get("a/b/z")) == (b"changed", b"3")
    assert storage.exists("a/x")
    storage.remove("a/x")
    storage.remove("a/x")  # gone already
    assert storage.list("a") == ["y"]
    with pytest.raises(FileNotFoundError):
        storage.get("a/x")


def test_a_failing_write_leaves_what_was_there(tmp_path, monkeypatch):
    storage = Storage(str(tmp_path))
    storage.put("a/x", b"old")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        storage.put("a/x", b"new")
    assert storage.get("a/x") == b"old"
    assert storage.list("a") == ["x"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    storage = Storage(str(tmp_path))

    def interrupt(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        storage.put("x", b"new")
    assert storage.list("") == []


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ConfigError, match="nosuch://place cannot be opened"):
        Storage("nosuch://place")


def test_a_changed_file_is_described_differently(tmp_path):
    path = tmp_path / "x"
    storage = Storage(str(tmp_path))
    path.write_bytes(b"1")
    before = describe_file(storage, str(path))
    assert describe_file(storage, str(path)) == before
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))
    assert describe_file(storage, str(path)) != before
    path.unlink()
    with pytest.raises(FileNotFoundError):
        describe_file(storage, str(path))


def test_a_file_is_described_as_it_was_listed(storage):
    storage.put("a/x.jsonl", b"12345")
    (source,) = list_sources([f"{storage.url}/a"], {})
    assert (source.relative, source.size) == ("x.jsonl", 5)
    assert describe_file(storage, source.path) == (source.size, source.etag)


class FlakyFileSystem(MemoryFileSystem):
    """Objects in memory, behind requests that fail on demand."""

    protocol = "flaky"
    cachable = False
    store: ClassVar[dict] = {}
    requests: ClassVar[list] = []
    faults: ClassVar[dict] = {}
    """What goes wrong, by method and path: errors to raise, and changes to what is returned."""

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("flaky://"))

    def _request(self, method, path, *args, **kwargs):
        self.requests.append((method, path))
        fault = (self.faults.get((method, path)) or [None]).pop(0)
        if isinstance(fault, BaseException):
            raise fault
        result = getattr(super(), method)(path, *args, **kwargs)
        return fault(result) if fault else result

    def info(self, path, **kwargs):
        return self._request("info", path, **kwargs)

    def ls(self, path, detail=True, **kwargs):
        return self._request("ls", path, detail, **kwargs)

    def find(self, path, **kwargs):
        return self._request("find", path, **kwargs)

    def cat_file(self, path, start=None, end=None, **kwargs):
        return self._request("cat_file", path, start, end, **kwargs)

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        return self._request("pipe_file", path, value, mode, **kwargs)

    def rm_file(self, path):
        return self._request("_rm", path)


class WalkingFileSystem(FlakyFileSystem):
    """The same without a listing of all keys at once, as most filesystems are."""

    protocol = "walking"
    find = fsspec.AbstractFileSystem.find

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("walking://"))


fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
fsspec.register_implementation("walking", WalkingFileSystem, clobber=True)


@pytest.fixture
def flaky(monkeypatch):
    """A class of filesystem with three files, and nobody waits before trying again."""
    monkeypatch.setattr(retries, "_sleep", lambda wait: None)
    FlakyFileSystem.store.clear()
    FlakyFileSystem.faults.clear()
    for name in ("a.jsonl", "b/c.jsonl", "b/d/e.jsonl"):
        MemoryFileSystem.pipe_file(FlakyFileSystem(), f"/place/{name}", b"12345")
    FlakyFileSystem.requests.clear()
    return FlakyFileSystem


SERVER_ERROR = OSError(121, "Internal Server Error")
CALLS = {
    "pipe_file": lambda storage: storage.put("a.jsonl", b"new"),
    "cat_file": lambda storage: storage.get("a.jsonl"),
    "info": lambda storage: storage.exists("a.jsonl"),
    "_rm": lambda storage: storage.remove("a.jsonl"),
    "ls": lambda storage: storage.list(""),
}


@pytest.mark.parametrize("method", CALLS)
def test_every_call_to_a_store_is_tried_again(flaky, method):
    path = "/place/" if method == "ls" else "/place/a.jsonl"
    flaky.faults[method, path] = [SERVER_ERROR, TimeoutError()]
    expected = {"cat_file": b"12345", "info": True, "ls": ["a.jsonl"]}
    assert CALLS[method](Storage("flaky://place")) == expected.get(method)
    assert flaky.requests.count((method, path)) == 3


@pytest.mark.parametrize("method", CALLS)
def test_a_store_that_stays_down_is_an_error_and_no_answer(flaky, method):
    path = "/place/" if method == "ls" else "/place/a.jsonl"
    flaky.faults[method, path] = [SERVER_ERROR] * 99
    with pytest.raises(StorageError, match=f"{path} failed 3 times, last with OSError"):
        CALLS[method](Storage("flaky://place", retries=2))
    assert flaky.requests.count((method, path)) == 3


@pytest.mark.parametrize("method", CALLS)
def test_a_refusal_is_not_tried_again(flaky, method):
    path = "/place/" if method == "ls" else "/place/a.jsonl"
    flaky.faults[method, path] = [PermissionError("no")] * 99
    with pytest.raises(PermissionError):
        CALLS[method](Storage("flaky://place"))
    assert flaky.requests.count((method, path)) == 1


def test_what_is_not_there_is_no_failure(flaky):
    storage = Storage("flaky://place")
    assert not storage.exists("nothing")
    assert storage.list("nothing") == []
    storage.remove("nothing")
    for name in ("nothing", "b"):  # an object store has no such object as a directory
        with pytest.raises(FileNotFoundError):
            storage.get(name)
    storage.put("empty", b"")
    assert storage.get("empty") == b""


def test_half_an_object_is_read_again(flaky):
    flaky.faults["cat_file", "/place/a.jsonl"] = [lambda data: data[:2], lambda data: b""]
    assert Storage("flaky://place").get("a.jsonl") == b"12345"
    flaky.faults["cat_file", "/place/a.jsonl"] = [lambda data: data[:2]] * 9
    with pytest.raises(StorageError, match="ShortBodyError: got 2 bytes of an object of 5"):
        Storage("flaky://place").get("a.jsonl")


def test_a_disk_is_never_tried_again(tmp_path, monkeypatch):
    storage = Storage(str(tmp_path))
    calls = []

    def fail(path, **kwargs):
        calls.append(path)
        raise OSError(5, "Input/output error")

    for method in ("cat_file", "info", "ls", "rm_file"):
        monkeypatch.setattr(storage.filesystem, method, fail)
    for call in (storage.get, storage.exists, storage.list, storage.remove):
        with pytest.raises(OSError, match="Input/output error"):
            call("x")
    assert len(calls) == 4


FOUND = ["a.jsonl", "b/c.jsonl", "b/d/e.jsonl"]
LISTINGS = [
    ("flaky", "", "find", "/place", FOUND),
    ("walking", "", "ls", "/place", FOUND),
    ("walking", "", "ls", "/place/b/d", FOUND),
    ("flaky", "/*.jsonl", "ls", "/place", FOUND[:1]),
    ("flaky", "/*/*.jsonl", "ls", "/place/b", FOUND[1:2]),
    ("walking", "/*/*/*", "ls", "/place/b/d", FOUND[2:]),
    ("flaky", "/**/*.jsonl", "find", "/place", FOUND),
    ("walking", "/**", "ls", "/place/b/d", FOUND),
    ("flaky", "/a.jsonl", "info", "/place/a.jsonl", FOUND[:1]),
]


@pytest.mark.parametrize(("scheme", "pattern", "method", "path", "found"), LISTINGS)
def test_a_listing_that_fails_leaves_nothing_out(flaky, scheme, pattern, method, path, found):
    flaky.faults[method, path] = [SERVER_ERROR] * 2
    sources = list_sources([f"{scheme}://place{pattern}"], {})
    assert [source.relative for source in sources] == found
    assert {source.size for source in sources} == {5}
    flaky.faults[method, path] = [SERVER_ERROR] * 99
    with pytest.raises(StorageError, match=f"{path} failed 2 times"):
        list_sources([f"{scheme}://place{pattern}"], {}, retries=1)


@pytest.mark.parametrize("scheme", ["flaky", "walking"])
def test_a_look_at_the_root_that_fails_is_no_missing_input(flaky, scheme):
    flaky.faults["info", "/place"] = [SERVER_ERROR] * 99
    with pytest.raises(StorageError, match="look up /place failed 6 times"):
        list_sources([f"{scheme}://place"], {})


def test_a_directory_that_vanishes_meanwhile_is_empty(flaky):
    flaky.faults["ls", "/place/b/d"] = [FileNotFoundError()]
    assert [s.relative for s in list_sources(["walking://place"], {})] == FOUND[:2]


def test_a_glob_does_not_list_deeper_than_it_reaches(flaky):
    list_sources(["walking://place/*.jsonl"], {})
    assert [path for method, path in flaky.requests if method == "ls"] == ["/place"]


class ScriptedServer:
    """An S3 that answers what it is told; requests are `(method, path and query)`."""

    def __init__(self, script):
        self.script = script
        self.requests = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.options = {
            "anon": True,
            "endpoint_url": f"http://127.0.0.1:{self.socket.getsockname()[1]}",
            "config_kwargs": {"retries": {"max_attempts": 0}},
        }
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
                method, path = request.decode().split(" ", 2)[:2]
                self.requests.append((method, path))
                head, blank, body = self.script(method, path).partition(b"\r\n\r\n")
                connection.sendall(head + blank + (b"" if method == "HEAD" else body))


@pytest.fixture
def s3(monkeypatch):
    """`s3(script)`: a server that answers with `script(method, path)`."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(retries, "_sleep", lambda wait: None)
    servers = []

    def start(script):
        servers.append(ScriptedServer(script))
        return servers[-1]

    yield start
    for server in servers:
        server.socket.close()


def http(status, body=b"", *, length=None):
    length = b"Content-Length: %d\r\n" % (len(body) if length is None else length)
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/xml\r\nConnection: close\r\n" % status
    return head + length + b"\r\n" + body


def failure(status, code):
    return http(status, b"<Error><Code>%s</Code><Message>m</Message></Error>" % code)


def listing(*keys, prefixes=()):
    contents = "".join(
        f'<Contents><Key>{key}</Key><Size>5</Size><ETag>"e"</ETag>'
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for key in keys
    )
    common = "".join(f"<CommonPrefixes><Prefix>{p}</Prefix></CommonPrefixes>" for p in prefixes)
    return http(
        200,
        f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}{common}"
        "</ListBucketResult>".encode(),
    )


def test_a_body_of_s3_that_ends_early_is_read_again(s3):
    def script(method, path):
        if method == "HEAD":
            return http(200, length=5)
        bodies = sum(method == "GET" for method, _ in server.requests)
        if bodies == 1:
            return http(200, b"12", length=5)
        if bodies == 2:  # no length: s3fs takes it for the whole
            return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n12"
        return http(206, b"12345")

    server = s3(script)
    assert Storage("s3://bucket/place", server.options).get("x") == b"12345"
    assert [method for method, _ in server.requests] == ["HEAD", "GET"] * 3


@pytest.mark.parametrize(("status", "code"), [(500, b"InternalError"), (503, b"Unavailable")])
def test_an_s3_that_is_down_is_an_error_and_no_answer(s3, status, code):
    server = s3(lambda method, path: failure(status, code))
    storage = Storage("s3://bucket/place", server.options, retries=2)
    for call, path in [
        (lambda: storage.get("x"), "bucket/place/x"),
        (lambda: storage.exists("x"), "bucket/place/x"),
        (lambda: storage.list(""), "bucket/place/"),
        (lambda: storage.put("x", b"1"), "bucket/place/x"),
        (lambda: storage.remove("x"), "bucket/place/x"),
        (lambda: describe_file(storage, "bucket/place/x"), "bucket/place/x"),
        (lambda: list_sources(["s3://bucket/place"], server.options, retries=2), "bucket/place"),
        (lambda: list_sources(["s3://bucket"], server.options, retries=2), "bucket"),
    ]:
        server.requests.clear()
        with pytest.raises(StorageError, match=f"{path} failed 3 times, last with OSError"):
            call()
        assert len(server.requests) == 3  # s3fs by itself would make up to 25 of each


def test_s3_listings_leave_out_no_directory(s3):
    def script(method, path):
        if method == "HEAD":
            return http(404)
        if "prefix=place%2Fa%2F" in path:
            return listing("place/a/x.jsonl")
        if "prefix=place%2Fb%2F" in path:
            return failure(503, b"SlowDown")
        return listing(prefixes=["place/a/", "place/b/"] if "prefix=place%2F&" in path else [])

    server = s3(script)
    pattern = "s3://bucket/place/*/x.jsonl"
    storage = Storage("s3://bucket/place", server.options)
    assert storage.filesystem.glob(pattern) == ["bucket/place/a/x.jsonl"]  # fsspec's own
    with pytest.raises(StorageError, match="list bucket/place/b failed 2 times"):
        list_sources([pattern], server.options, retries=1)
    assert storage.list("") == []
    assert storage.list("", directories=True) == ["a", "b"]


def test_a_missing_object_of_s3_is_told_from_a_refusal(s3):
    empty = s3(lambda method, path: http(404) if method == "HEAD" else listing())
    storage = Storage("s3://bucket/place", empty.options)
    assert not storage.exists("x")
    assert storage.list("x") == []
    with pytest.raises(FileNotFoundError):
        storage.get("x")
    refusing = Storage("s3://b/c", s3(lambda method, path: failure(403, b"AccessDenied")).options)
    for call in (refusing.exists, refusing.list, refusing.get):
        with pytest.raises(PermissionError):
            call("x")


def test_an_upload_in_parts_that_fails_half_way_is_not_seen(monkeypatch):
    import moto.server

    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(retries, "_sleep", lambda wait: None)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        # One part after the other: s3fs leaves those under way alone, and moto is not thread-safe.
        options = {"endpoint_url": endpoint, "max_concurrency": 1}
        storage = Storage("s3://bucket/place", options, retries=1)
        filesystem = storage.filesystem
        filesystem.call_s3("create_bucket", Bucket="bucket")
        whole = type(filesystem)._call_s3
        failures = []

        async def call_s3(self, method, *args, **kwargs):
            if method == "upload_part" and kwargs["PartNumber"] == 2 and failures:
                raise failures.pop()
            return await whole(self, method, *args, **kwargs)

        monkeypatch.setattr(type(filesystem), "_call_s3", call_s3)
        pipe = filesystem.pipe_file
        monkeypatch.setattr(filesystem, "pipe_file", partial(pipe, chunksize=5 << 20))
        data = bytes(range(256)) * (41 << 10)
        failures[:] = [SERVER_ERROR] * 2
        with pytest.raises(StorageError, match="write bucket/place/x failed 2 times"):
            storage.put("x", data)
        assert not storage.exists("x")
        assert storage.list("") == []
        assert "Uploads" not in filesystem.call_s3("list_multipart_uploads", Bucket="bucket")
        failures[:] = [SERVER_ERROR]
        storage.put("x", data)
        assert storage.get("x") == data
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("path", "parent", "below"),
    [
        ("/a/b", "/a", True),
        ("/a", "/a/", True),
        ("/ab", "/a", False),
        ("/a", "/a/b", False),
        ("/a", "/", True),
    ],
)
def test_is_below(path, parent, below):
    assert is_below(path, parent) == below


SECRET = "hunter2"


@pytest.mark.parametrize("section", ["input", "output"])
@pytest.mark.parametrize(
    "options",
    [
        "{secret: X}",
        "{key: X}",
        "{Password: X}",
        "{client_kwargs: {aws_secret_access_key: X}}",
        "{aws_session_token: X}",
        "{sas_token: X}",
        "{account_key: X}",
        "{a: [{password: X}]}",
        "{private_key: X}",
        "{headers: {Authorization: X}}",
    ],
)
def test_a_secret_is_refused_without_being_repeated(section, options):
    overrides = (
        "input.path=in",
        "output.path=out",
        f"{section}.storage_options={options.replace('X', SECRET)}",
    )
    with pytest.raises(ConfigError, match="looks like a secret") as caught:
        load_config(CompressConfig, None, overrides)
    assert SECRET not in str(caught.value)
    assert f"{section}.storage_options" in str(caught.value)


@pytest.mark.parametrize(
    "options", ["{endpoint_url: 'http://x'}", "{anon: true}", "{client_kwargs: {region_name: eu}}"]
)
def test_other_options_are_taken(options):
    overrides = ("input.path=in", "output.path=out", f"input.storage_options={options}")
    assert load_config(CompressConfig, None, overrides).input.storage_options


def test_a_wrong_option_names_the_place():
    with pytest.raises(ConfigError, match="memory://x cannot be opened"):
        Storage("memory://x", {"asynchronous_nonsense": object(), "loop": 1, "": 1, "self": 2})
