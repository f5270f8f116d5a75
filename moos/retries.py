"""Calls to a remote store: which failures may pass, and trying again with growing waits.

Three layers try again, and their numbers multiply. botocore sends a request up to 5 times, for 5xx,
throttling and broken connections, with waits of up to 1, 2, 4 and 8 s. s3fs makes its own call
`S3FileSystem.retries` = 5 times, for throttling, timeouts and short bodies, and a read nests that
in itself once more: 5 * 5 * 5 = 125 requests where a store hangs, 15 s each. With `retry` around
it, that would be 750 requests, three hours. `open_filesystem` therefore sets s3fs to 1, so that a
call is at most `(retries + 1) * 5` requests: 30 by default, in under a minute on average where a
store answers 503, in 8 minutes where it takes every request and answers none (aiohttp doubles
those whose connection is reset). botocore does not see a body that ends early: that costs one
request a try.
"""

import errno
import logging
import random
import time
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar

import fsspec
from fsspec.utils import get_protocol

from moos.errors import MoosError
from moos.redaction import redact

logger = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_RETRIES = 5
"""Tries after the first: waits of 3 s together on average, 6 s at most, beside those inside."""
FIRST_WAIT_S = 0.2
"""Longest wait before the second try; it doubles with every further one."""
LONGEST_WAIT_S = 10.0

_sleep = time.sleep
# Its own generator: drawing waits must not shift anyone's seeded numbers.
_random = random.Random()

_PERMANENT_ERRORS = (
    MoosError,
    ValueError,  # also certificates that do not verify, and URLs that are none
    TypeError,
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
)
_PERMANENT_ERRNOS = frozenset(
    {
        *("EPERM", "EACCES", "ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY", "EINVAL"),
        *("ENAMETOOLONG", "EMSGSIZE", "EFBIG", "ENOSPC", "EDQUOT", "EROFS", "ENOSYS"),
        *("ENOTSUP", "EOPNOTSUPP", "EBADF", "ELOOP", "EREMCHG"),
    }
)
"""By name: not every system has each of them."""
_PASSING_STATUSES = frozenset({408, 425, 429})
_PASSING_CODES = frozenset(
    {
        "RequestTimeout",
        "RequestTimeoutException",
        "IncompleteBody",
        "BadDigest",
        "XAmzContentSHA256Mismatch",
        "InternalError",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "TooManyRequests",
        "TooManyRequestsException",
        "OperationAborted",
        "ConditionalRequestConflict",
        # A finished multipart upload whose answer was lost, asked to finish again.
        "NoSuchUpload",
    }
)
"""Codes of S3 that pass although their HTTP status is 4xx, or that come with status 200."""

# By name: s3fs, botocore and aiohttp are optional, and importing them costs a second.
_PASSING_CLASSES = frozenset(
    {
        "aiohttp.client_exceptions.ClientError",
        "botocore.exceptions.HTTPClientError",
        "botocore.exceptions.ConnectionError",
        "botocore.exceptions.IncompleteReadError",
        "botocore.exceptions.ChecksumError",
        "botocore.exceptions.FlexibleChecksumError",
        "botocore.exceptions.CredentialRetrievalError",
        "botocore.exceptions.MetadataRetrievalError",
        "botocore.parsers.ResponseParserError",
        "urllib3.exceptions.HTTPError",
        "http.client.IncompleteRead",
        "http.client.RemoteDisconnected",
        "gcsfs.retry.ChecksumError",
        "google.auth.exceptions.TransportError",
        "azure.core.exceptions.ServiceRequestError",
        "azure.core.exceptions.ServiceResponseError",
    }
)
_CLIENTS = frozenset({"botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure", "adlfs"})


class StorageError(OSError):
    """A store failed every try, or its client refuses; of one message, for pickling."""


class ShortBodyError(OSError):
    """A store sent fewer bytes than there are, and no error."""


def is_transient(error: BaseException) -> bool:
    """True for a failure of a remote store that trying again may cure.

    The store's own answer decides where there is one: status 5xx but 501, 408, 425, 429, or a code
    that means throttling or a damaged transfer. s3fs turns an answer into an `OSError` and keeps it
    as the cause: `EBUSY` is a 503 but also a 409, and `EINVAL` is any 400. Without an answer,
    broken connections, timeouts and short bodies pass, and so does an `OSError` that says nothing
    else. What is missing, forbidden or full stays so, and a bug stays a bug.
    """
    if not isinstance(error, Exception) or isinstance(error, StorageError):
        return False
    if _code(error) in _PASSING_CODES:
        return True
    status = status_of(error)
    if status is not None and status >= 400:
        return status in _PASSING_STATUSES or (status >= 500 and status != 501)
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        # fsspec's HTTPFileSystem.info says "not found" whatever went wrong.
        return is_transient(error.__cause__)
    if isinstance(error, _PERMANENT_ERRORS):
        return False
    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno or 0) not in _PERMANENT_ERRNOS
    classes = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    return not classes.isdisjoint(_PASSING_CLASSES)


def _is_of_a_client(error: Exception) -> bool:
    """True for an error that a store's client library made, of a class that only it knows."""
    return type(error).__module__.partition(".")[0] in _CLIENTS and not isinstance(error, OSError)


def status_of(error: BaseException) -> int | None:
    """The HTTP status of the answer that an error stands for, or None."""
    answer = _answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    # Of aiohttp, Azure, and gcsfs; one after the other, since aiohttp warns of its old `code`.
    others = (getattr(error, name, None) for name in ("status", "status_code", "code"))
    statuses = (x for x in chain([answer], others) if isinstance(x, int) and 100 <= x < 600)
    return next(statuses, None)


def retry(call: Callable[[], T], *, what: str, retries: int) -> T:
    """What `call` returns, called again while it fails for a reason that may pass.

    The wait before try n is drawn evenly from 0 to `0.2 s * 2^(n-2)`, at most 10 s: replicas that
    failed together do not come back together.

    Args:
        call: Makes the request; must be safe to repeat after a try that failed half way.
        what: The call in words, for messages, such as `read bucket/key`.
        retries: Tries after the first.

    Raises:
        StorageError: Every try failed, or the store's client refuses, for want of credentials say.
            Other failures are raised as they are, at once.
    """
    what = redact(what)
    num_tries = 0
    while True:
        num_tries += 1
        try:
            return call()
        except Exception as error:
            seen = _describe(error)
            if not is_transient(error):
                if not _is_of_a_client(error):
                    raise
                raise StorageError(
                    f"{what} failed with {seen}; see to the credentials, the endpoint and the "
                    "network of the store (input.storage_options / output.storage_options)"
                ) from error
            if num_tries > retries:
                times = "once" if num_tries == 1 else f"{num_tries} times"
                raise StorageError(
                    f"{what} failed {times}, last with {seen}; raise storage retries "
                    "(input.retries / output.retries) or see to the store"
                ) from error
        wait = _random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (num_tries - 1)))
        logger.warning(
            "%s failed with %s; try %d of %d in %.1f s",
            *(what, seen, num_tries + 1, retries + 1, wait),
        )
        _sleep(wait)


def open_filesystem(url: str, options: dict[str, Any]) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of a URL and the path on it; one of S3 leaves trying again to us.

    The options keep it from listings that may be out of date. They also make it an instance of
    moos's own, so that others in this process get what they are used to from s3fs.
    """
    is_s3 = get_protocol(url) in ("s3", "s3a")
    if is_s3:
        options = {"use_listings_cache": False, **options}
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    if is_s3:
        filesystem.retries = 1
    return filesystem, path


def _answer(error: BaseException) -> dict[str, dict[str, object]]:
    """What botocore parsed of the answer behind an error, empty if there is none."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return response
    return {}


def _code(error: BaseException) -> object:
    return _answer(error).get("Error", {}).get("Code")


def _describe(error: BaseException) -> str:
    """Class and message; those of the cause where the error has no message of its own."""
    if not str(error) and error.__cause__ is not None:
        return _describe(error.__cause__)
    return redact(f"{type(error).__name__}: {error}")
