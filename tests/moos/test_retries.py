"""Which failures of a store are tried again, how often, and what is said about it."""

import asyncio
import errno
import importlib
import io
import logging
import pickle
import random
import ssl
import subprocess
import sys
from pathlib import Path

import aiohttp
import botocore.exceptions
import botocore.parsers
import pytest
import s3fs
from aiohttp.http_exceptions import ContentLengthError
from fsspec.exceptions import FSTimeoutError
from s3fs.errors import translate_boto_error

from moos import retries as module
from moos.errors import ConfigError, MoosError
from moos.retries import (
    ShortBodyError,
    StorageError,
    is_transient,
    open_filesystem,
    retry,
    status_of,
)

ROOT = Path(__file__).parents[2]


def answer(status, code):
    """What s3fs raises for an answer of S3."""
    response = {
        "Error": {"Code": code, "Message": "m"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return translate_boto_error(botocore.exceptions.ClientError(response, "GetObject"))


def caused(error, cause):
    error.__cause__ = cause
    return error


def http_error(status):
    return aiohttp.ClientResponseError(None, (), status=status, message="m")


@pytest.mark.parametrize(
    "error",
    [
        answer(500, "InternalError"),
        answer(503, "SlowDown"),
        answer(503, "ServiceUnavailable"),
        answer(502, "502"),
        answer(504, "GatewayTimeout"),
        answer(429, "TooManyRequests"),
        answer(400, "RequestTimeout"),
        answer(400, "IncompleteBody"),
        answer(400, "BadDigest"),
        answer(400, "ThrottlingException"),
        answer(200, "InternalError"),
        answer(409, "OperationAborted"),
        answer(404, "NoSuchUpload"),
        caused(FSTimeoutError(), TimeoutError("m")),
        OSError(errno.EBUSY, "SlowDown"),
        OSError(errno.EIO, "m"),
        OSError("no errno"),
        ConnectionResetError(errno.ECONNRESET, "m"),
        ConnectionRefusedError(),
        BrokenPipeError(),
        TimeoutError(),
        ssl.SSLEOFError(),
        ShortBodyError("got 5 bytes of 10"),
        caused(aiohttp.ClientPayloadError("m"), ContentLengthError("m")),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientOSError(errno.ECONNRESET, "m"),
        http_error(503),
        http_error(429),
        caused(FileNotFoundError("http://x"), http_error(500)),
        caused(FileNotFoundError("http://x"), aiohttp.ServerDisconnectedError()),
        botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"),
        botocore.exceptions.ConnectionClosedError(endpoint_url="http://x"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="http://x"),
        botocore.exceptions.ConnectTimeoutError(endpoint_url="http://x"),
        botocore.exceptions.ResponseStreamingError(error="m"),
        botocore.exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        botocore.parsers.ResponseParserError("m"),
    ],
    ids=repr,
)
def test_a_failure_that_may_pass(error):
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        answer(404, "NoSuchKey"),
        answer(404, "NoSuchBucket"),
        answer(403, "AccessDenied"),
        answer(403, "InvalidAccessKeyId"),
        answer(403, "SignatureDoesNotMatch"),
        answer(403, "RequestTimeTooSkewed"),
        answer(400, "InvalidRequest"),
        answer(400, "400"),
        answer(416, "InvalidRange"),
        answer(501, "NotImplemented"),
        http_error(404),
        http_error(403),
        caused(FileNotFoundError("http://x"), http_error(404)),
        caused(FileNotFoundError("/x"), NotADirectoryError("/x")),
        FileNotFoundError(),
        PermissionError(),
        FileExistsError(),
        IsADirectoryError(),
        NotADirectoryError(),
        OSError(errno.ENOSPC, "m"),
        OSError(errno.EDQUOT, "m"),
        OSError(errno.EROFS, "m"),
        OSError(errno.EINVAL, "m"),
        ssl.SSLCertVerificationError("m"),
        io.UnsupportedOperation(),
        StorageError("a failed 6 times"),
        botocore.exceptions.NoCredentialsError(),
        botocore.exceptions.PartialCredentialsError(provider="p", cred_var="v"),
        botocore.exceptions.ParamValidationError(report="m"),
        aiohttp.InvalidURL("x"),
        MoosError("m"),
        ConfigError("m"),
        ValueError(),
        TypeError(),
        AttributeError(),
        RuntimeError(),
        MemoryError(),
        EOFError(),
        KeyboardInterrupt(),
        SystemExit(1),
        asyncio.CancelledError(),
    ],
    ids=repr,
)
def test_a_failure_that_stays(error):
    assert not is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        botocore.exceptions.NoCredentialsError(),
        botocore.exceptions.ParamValidationError(report="m"),
    ],
    ids=repr,
)
def test_a_clients_own_error_is_told_as_the_stores(error):
    def fail():
        raise error

    match = rf"(?s)^read b/k failed .*{type(error).__name__}: .* see to "
    with pytest.raises(StorageError, match=match):
        retry(fail, what="read b/k", retries=0)


@pytest.mark.parametrize("name", sorted(module._PASSING_CLASSES))
def test_the_classes_known_by_name_are_there(name):
    where, _, kind = name.rpartition(".")
    pytest.importorskip(where.partition(".")[0])
    try:
        found = importlib.import_module(where)
    except ModuleNotFoundError:  # `google` is a namespace that others fill too
        pytest.skip(f"{where} is not installed")
    assert issubclass(getattr(found, kind), Exception)


def test_the_status_of_an_answer():
    assert status_of(answer(416, "InvalidRange")) == 416
    assert status_of(http_error(503)) == 503
    assert status_of(OSError(errno.EBUSY, "m")) is None
    # The status 400 of aiohttp's own parser is no answer of the store.
    assert status_of(caused(aiohttp.ClientPayloadError("m"), ContentLengthError("m"))) is None


@pytest.fixture
def waits(monkeypatch):
    """The waits asked for, none of them waited."""
    waits = []
    monkeypatch.setattr(module, "_sleep", waits.append)
    return waits


class Flaky:
    """A call that raises some errors, one a try, and then returns."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.num_calls = 0

    def __call__(self):
        self.num_calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("num_failures", range(4))
def test_a_call_is_made_until_it_succeeds(num_failures):
    call = Flaky(*[answer(503, "SlowDown")] * num_failures)
    assert retry(call, what="read b/k", retries=3) == "done"
    assert call.num_calls == num_failures + 1


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_the_last_failure_says_what_was_tried(waits, retries):
    call = Flaky(*[answer(503, "SlowDown")] * 99)
    with pytest.raises(StorageError, match="read b/k failed") as caught:
        retry(call, what="read b/k", retries=retries)
    assert call.num_calls == retries + 1
    assert len(waits) == retries
    text = str(caught.value)
    assert ("once" if retries == 0 else f"{retries + 1} times") in text
    assert "OSError: [Errno 16] m" in text
    assert "raise storage retries (input.retries / output.retries) or see to the store" in text
    assert isinstance(caught.value.__cause__, OSError)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (StorageError, text)


@pytest.mark.parametrize("error", [FileNotFoundError("x"), KeyboardInterrupt(), ValueError("x")])
def test_a_failure_that_stays_is_raised_at_once_as_it_is(waits, error):
    call = Flaky(error)
    with pytest.raises(type(error)) as caught:
        retry(call, what="read b/k", retries=5)
    assert caught.value is error
    assert (call.num_calls, waits) == (1, [])


def test_a_call_inside_another_does_not_multiply(waits):
    call = Flaky(*[TimeoutError()] * 99)
    with pytest.raises(StorageError, match="read b/k failed 3 times"):
        retry(lambda: retry(call, what="read b/k", retries=2), what="outer", retries=5)
    assert (call.num_calls, len(waits)) == (3, 2)


def test_the_waits_grow_to_a_limit_and_differ(waits):
    for _ in range(200):
        with pytest.raises(StorageError):
            retry(Flaky(*[TimeoutError()] * 99), what="x", retries=9)
    by_try = list(zip(*[waits[i : i + 9] for i in range(0, len(waits), 9)], strict=True))
    limits = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
    for drawn, limit in zip(by_try, limits, strict=True):
        assert 0 <= min(drawn) < 0.1 * limit
        assert 0.9 * limit < max(drawn) <= limit


@pytest.mark.usefixtures("waits")
def test_drawing_waits_shifts_nobodys_random_numbers():
    before = random.getstate()
    retry(Flaky(TimeoutError(), TimeoutError()), what="x", retries=2)
    assert random.getstate() == before


def test_each_further_try_is_one_warning(waits, caplog):
    with caplog.at_level(logging.INFO):
        retry(Flaky(TimeoutError("slow"), ConnectionResetError()), what="read b/k", retries=5)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert [record.getMessage() for record in caplog.records] == [
        f"read b/k failed with TimeoutError: slow; try 2 of 6 in {waits[0]:.1f} s",
        f"read b/k failed with ConnectionResetError: ; try 3 of 6 in {waits[1]:.1f} s",
    ]


@pytest.mark.usefixtures("waits")
def test_an_error_without_a_message_is_told_by_its_cause(caplog):
    retry(Flaky(caused(FSTimeoutError(), TimeoutError("idle"))), what="x", retries=1)
    assert "failed with TimeoutError: idle" in caplog.text


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize(
    "url",
    [
        "https://somebody:hunter2@host/k",
        "https://host/k?X-Amz-Signature=hunter2&x=1",
        "'https://host/k?sig=hunter2'",
        "http://a:hunter2@host/k?sig=hunter2",
        "/k?token=hunter2",
    ],
)
def test_no_secret_is_told(url, caplog):
    errors = [aiohttp.ClientConnectionError(f"cannot reach {url} now")] * 2
    with pytest.raises(StorageError) as caught:
        retry(Flaky(*errors), what=f"read {url}", retries=1)
    assert "hunter2" not in caplog.text + str(caught.value)
    assert "cannot reach" in caplog.text
    assert "now" in caplog.text


def test_an_s3_filesystem_leaves_trying_again_to_us():
    shared = s3fs.S3FileSystem(anon=True)
    ours, path = open_filesystem("s3://bucket/place", {"anon": True})
    assert (ours.retries, path) == (1, "bucket/place")
    assert shared.retries == s3fs.S3FileSystem.retries == 5
    assert ours is not shared


def test_the_optional_packages_are_not_imported():
    script = (
        "import sys, moos.storage, moos.ranged_file; moos.retries.is_transient(OSError()); "
        "print(*sorted({'s3fs', 'botocore', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == ""
