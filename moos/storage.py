"""Files on any fsspec filesystem: looking, reading, and writes that happen whole or not at all.

A failure of a remote store is tried again, and never passes for an answer: fsspec's `exists` and
`isfile` say no to any failure, and s3fs takes half a body for all of it where the server gave no
length. None of them is used here, and bodies are measured.
"""

import contextlib
import errno
import os
import posixpath
import secrets
import stat
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

from fsspec.implementations.local import LocalFileSystem

from moos.errors import ConfigError
from moos.retries import DEFAULT_RETRIES, ShortBodyError, open_filesystem, retry

T = TypeVar("T")

Watch = Callable[[str], AbstractContextManager[object]]
"""Entered around each call to a store, with what it does in words: tells what a run waits for."""

TEMPORARY = ".tmp"
"""Ending of a file that is being written; one that stays was left by a killed process."""


class Storage:
    """One place on one filesystem: a `name` is relative to it, a `path` is the filesystem's own.

    Calls to a remote store are tried again up to `retries` times; those to a disk never are. Each
    is made within `watch`, whatever number of tries it takes.
    """

    def __init__(
        self,
        url: str,
        options: dict[str, Any] | None = None,
        *,
        retries: int = DEFAULT_RETRIES,
        watch: Watch = nullcontext,
    ) -> None:
        """Open a place.

        Raises:
            ConfigError: The scheme is unknown, its package is missing, or an option is wrong.
        """
        self.url = url
        self.retries = retries
        self.watch = watch
        try:
            self.filesystem, root = open_filesystem(url, options or {})
        except (ValueError, ImportError, TypeError) as error:
            raise ConfigError(f"{url} cannot be opened: {error}") from error
        self.root = root.rstrip("/") or "/"
        self.is_local = isinstance(self.filesystem, LocalFileSystem)

    def attempt(self, what: str, call: Callable[[], T]) -> T:
        """Make a call to the filesystem; on a remote store again, as `moos.retries.retry` does."""
        with self.watch(what):
            return call() if self.is_local else retry(call, what=what, retries=self.retries)

    def path(self, name: str) -> str:
        """The filesystem's path of `name`."""
        return posixpath.join(self.root, name)

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole: readers see all of it or nothing.

        An object store's PUT is atomic, and so is a multipart upload (s3fs: from 100 MiB on);
        on a disk a temporary file is synced and renamed.
        """
        path = self.path(name)
        write = write_whole if self.is_local else self.filesystem.pipe_file
        self.attempt(f"write {path}", lambda: write(path, data))

    def get(self, name: str) -> bytes:
        """Read an object whole; FileNotFoundError if there is none."""
        path = self.path(name)
        try:
            read = self.filesystem.cat_file if self.is_local else self._read_object
            return self.attempt(f"read {path}", lambda: bytes(read(path)))
        except NotADirectoryError as error:  # the place itself is a file
            raise FileNotFoundError(path) from error

    def _read_object(self, path: str) -> bytes:
        """Read an object in one request, and compare with the size that another one told."""
        self.filesystem.invalidate_cache()
        info = self.filesystem.info(path)
        if info["type"] == "directory":
            raise FileNotFoundError(path)
        if info["size"] == 0:
            return b""  # which S3 refuses to give a range of
        # Without `start`, s3fs asks for the size again, and reads more than 50 MB in parts that it
        # fills up with zeros where one comes short.
        data = bytes(self.filesystem.cat_file(path, start=0))
        if info["size"] is not None and len(data) != info["size"]:
            raise ShortBodyError(f"got {len(data)} bytes of an object of {info['size']}")
        return data

    def exists(self, name: str) -> bool:
        """True where the object exists now."""
        return self.look_up(self.path(name)) is not None

    def list(self, name: str, *, directories: bool = False) -> list[str]:
        """Sorted names of the objects (and directories) directly below `name`; [] if it is gone."""
        found = self.list_directory(self.path(name))
        wanted = [f["name"] for f in found if directories or is_file(f)]
        return sorted(posixpath.basename(path.rstrip("/")) for path in wanted)

    def remove(self, name: str) -> None:
        """Remove an object; one that is already gone is no error."""
        path = self.path(name)
        with contextlib.suppress(FileNotFoundError):
            self.attempt(f"remove {path}", lambda: self.filesystem.rm_file(path))

    def look_up(self, path: str) -> dict[str, Any] | None:
        """What the filesystem says of one of its paths now, as fsspec's `info`; None if nothing.

        A link to a file is that file; one that leads nowhere, or in a circle, is nothing.
        """
        info = self.ask("look up", path, self.filesystem.info)
        return None if info is None else self.follow_link(info)

    def list_directory(self, path: str) -> Sequence[dict[str, Any]]:
        """What the filesystem says of all that is directly below a path; links as they are."""
        return self.ask("list", path, partial(self.filesystem.ls, detail=True)) or []

    def ask(self, verb: str, path: str, call: Callable[[str], T]) -> T | None:
        """What the filesystem answers about a path now; None where nothing is there."""
        self.filesystem.invalidate_cache()
        try:
            return self.attempt(f"{verb} {path}", partial(call, path))
        except OSError as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                return None
            if self.is_local and error.errno == errno.ELOOP:
                return None
            raise

    def follow_link(self, info: dict[str, Any]) -> dict[str, Any]:
        """A link to a file as that file: fsspec tells the link's own type and time."""
        if not (self.is_local and info.get("islink")):
            return info
        try:
            status = os.stat(info["name"])
        except OSError:
            return info
        if not stat.S_ISREG(status.st_mode):
            return info
        return {**info, "type": "file", "size": status.st_size, "mtime": status.st_mtime}


def is_file(info: dict[str, Any]) -> bool:
    """Not so for a directory, nor for the empty object that stands for one in some buckets."""
    return bool(info["type"] == "file") and not info["name"].endswith("/")


def is_below(path: str, parent: str) -> bool:
    """True if `path` is `parent` or lies under it; both are filesystem paths."""
    return f"{path.rstrip('/')}/".startswith(f"{parent.rstrip('/')}/")


def write_whole(path: str, data: bytes) -> None:
    """Write a file of a disk, and the directories that it lies in: synced, then renamed."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{secrets.token_hex(4)}{TEMPORARY}"
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_directory(os.path.dirname(path))
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _sync_directory(path: str) -> None:
    """Make a rename survive a power cut, where the system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
