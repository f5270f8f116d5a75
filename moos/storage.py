"""Files on any fsspec filesystem: listing, reading, and writes that happen whole or not at all.

A failure of a remote store is tried again, and never passes for an answer: fsspec's `exists` and
`isfile` say no to any failure, its `walk` and `glob` leave out a directory that could not be
listed, and s3fs takes half a body for all of it where the server gave no length. None of them is
used here, and bodies are measured.
"""

import contextlib
import itertools
import logging
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import glob_translate

from moos.disk_files import write_whole
from moos.errors import ConfigError
from moos.retries import DEFAULT_RETRIES, ShortBodyError, open_filesystem, retry

T = TypeVar("T")

logger = logging.getLogger(__name__)

Watch = Callable[[str], AbstractContextManager[object]]
"""Entered around each call to a store, with what it does in words: tells what a run waits for."""

_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was when it was listed.

    Attributes:
        path: Path on its filesystem, without scheme.
        relative: Path below the input's root, with forward slashes: the file's identity.
        size: Bytes.
        etag: Changes when the content does: the store's ETag, else size and modification time.
    """

    path: str
    relative: str
    size: int
    etag: str


class Storage:
    """One place on one filesystem; every path given to its methods is relative to it.

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
        self._watch = watch
        try:
            self.filesystem, root = open_filesystem(url, options or {})
        except (ValueError, ImportError, TypeError) as error:
            raise ConfigError(f"{url} cannot be opened: {error}") from error
        self.root = root.rstrip("/") or "/"
        self.is_local = isinstance(self.filesystem, LocalFileSystem)

    def attempt(self, what: str, call: Callable[[], T]) -> T:
        """Make a call to the filesystem; on a remote store again, as `moos.retries.retry` does."""
        with self._watch(what):
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
        return _look_up(self, self.path(name)) is not None

    def list(self, name: str, *, directories: bool = False) -> list[str]:
        """Sorted names of the objects (and directories) directly below `name`; [] if it is gone."""
        found = _list_directory(self, self.path(name))
        wanted = [f["name"] for f in found if directories or _is_file(f)]
        return sorted(posixpath.basename(path.rstrip("/")) for path in wanted)

    def remove(self, name: str) -> None:
        """Remove an object; one that is already gone is no error."""
        path = self.path(name)
        with contextlib.suppress(FileNotFoundError):
            self.attempt(f"remove {path}", lambda: self.filesystem.rm_file(path))


def list_sources(
    paths: Sequence[str],
    options: dict[str, Any],
    *,
    excluded: str | None = None,
    retries: int = DEFAULT_RETRIES,
    key: str = "input.path",
    watch: Watch = nullcontext,
) -> list[SourceFile]:
    """Every file that the input names, in order of its relative path.

    A directory is listed to the bottom, leaving out names that begin with `.` or `_` and what lies
    under `excluded`. A file named outright, or by a glob, is always taken.

    Args:
        paths: Files, directories or globs.
        options: Options of the input's filesystem.
        excluded: Filesystem path of the output, whose files are no input.
        retries: As in `Storage`.
        key: The config key that the paths stand under, for messages.
        watch: As in `Storage`.

    Raises:
        ConfigError: A path names nothing, two files have the same relative path, or the name of one
            is not valid UTF-8.
    """
    found: dict[str, SourceFile] = {}
    for path in paths:
        root, matches = _match(path, options, retries, watch)
        if not matches:
            raise ConfigError(f"{key}: {path!r} names no file; give a file, a directory or a glob")
        for info in matches:
            name = info["name"]
            if excluded is not None and f"{name}/".startswith(f"{excluded}/"):
                continue
            relative = posixpath.relpath(name, root)
            _check_name(relative, key)
            source = SourceFile(name, relative, int(info["size"]), _etag(info))
            if found.setdefault(relative, source).path != name:
                raise ConfigError(
                    f"{key}: {name} and {found[relative].path} are both {relative!r} below their "
                    "roots; give one of them at a time"
                )
    return [found[relative] for relative in sorted(found)]


def _check_name(relative: str, key: str) -> None:
    """Refuse a name that no plan, manifest or row could hold."""
    try:
        relative.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{key}: the name of the file {relative!r} is not valid UTF-8; rename it, or leave it "
            "out by a glob"
        ) from error


def describe_file(storage: Storage, path: str) -> tuple[int, str]:
    """Size and etag of a file now, by its `SourceFile.path`; FileNotFoundError if it is gone."""
    info = _look_up(storage, path)
    if info is None:
        raise FileNotFoundError(path)
    return int(info["size"]), _etag(info)


def is_below(path: str, parent: str) -> bool:
    """True if `path` is `parent` or lies under it; both are filesystem paths."""
    return f"{path.rstrip('/')}/".startswith(f"{parent.rstrip('/')}/")


def _fixed_part(path: str) -> str:
    """The longest leading directory of a glob that holds no glob character."""
    scheme, separator, rest = path.rpartition("://")
    parts = rest.split("/")[:-1]
    fixed = itertools.takewhile(lambda part: not _GLOB & set(part), parts)
    return f"{scheme}{separator}{'/'.join(fixed) or ('/' if rest.startswith('/') else '.')}"


def _match(
    path: str, options: dict[str, Any], retries: int, watch: Watch
) -> tuple[str, list[dict[str, Any]]]:
    """The files that one path of the input names, and the root that they are named from."""
    storage = Storage(path, options, retries=retries, watch=watch)
    info = _look_up(storage, storage.root)
    if info is None and not _GLOB & set(path):
        return storage.root, []
    if info is None:
        storage = Storage(_fixed_part(path), options, retries=retries, watch=watch)
        return storage.root, list(_glob(storage, path))
    # A name that holds a glob character and is there is that file or directory.
    if info["type"] == "file":
        return posixpath.dirname(storage.root), [info]
    hidden = re.compile(re.escape(storage.root.rstrip("/")) + r"/(.*/)?[._]", re.DOTALL)
    return storage.root, [info for info in _find(storage) if not hidden.match(info["name"])]


def _glob(storage: Storage, pattern: str) -> Iterator[dict[str, Any]]:
    """The files below a place that match a pattern, which begins with that place."""
    full = storage.filesystem._strip_protocol(pattern)
    depth = full.removeprefix(storage.root).strip("/").count("/") + 1
    matching = re.compile(glob_translate(full + ("/" if pattern.endswith("/") else "")))
    found = _find(storage) if "**" in pattern else _walk(storage, depth)
    return (info for info in found if matching.match(info["name"]))


def _find(storage: Storage) -> Iterable[dict[str, Any]]:
    """Every file below a place, by one listing of all keys where the store offers that."""
    kind: Any = type(storage.filesystem)
    own_find = kind.find is not fsspec.AbstractFileSystem.find
    if own_find or getattr(kind, "_find", AsyncFileSystem._find) is not AsyncFileSystem._find:
        find = partial(storage.filesystem.find, detail=True)
        return filter(_is_file, (_ask(storage, "list", storage.root, find) or {}).values())
    return _walk(storage)


def _walk(storage: Storage, depth: int | None = None) -> Iterator[dict[str, Any]]:
    """Every file below a place, one listing for each directory, at most `depth` levels down."""
    pending = [(storage.root, 1)]
    while pending:
        directory, level = pending.pop()
        for info in _list_directory(storage, directory):
            name = info["name"].rstrip("/")
            info = _follow_link(storage, info)
            if _is_file(info):
                yield info
            elif info.get("islink"):
                logger.warning("%s links to no file and is not read", name)
            elif info["type"] == "directory" and name != directory and level != depth:
                pending.append((name, level + 1))


def _look_up(storage: Storage, path: str) -> dict[str, Any] | None:
    info = _ask(storage, "look up", path, storage.filesystem.info)
    return None if info is None else _follow_link(storage, info)


def _list_directory(storage: Storage, path: str) -> list[dict[str, Any]]:
    return _ask(storage, "list", path, partial(storage.filesystem.ls, detail=True)) or []


def _ask(storage: Storage, verb: str, path: str, call: Callable[[str], T]) -> T | None:
    """What the filesystem says of a path now; None where nothing is there."""
    storage.filesystem.invalidate_cache()
    try:
        return storage.attempt(f"{verb} {path}", partial(call, path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _follow_link(storage: Storage, info: dict[str, Any]) -> dict[str, Any]:
    """A link as the file that it leads to; fsspec tells the link's own type and time."""
    if not (storage.is_local and info.get("islink")):
        return info
    try:
        status = os.stat(info["name"])
    except OSError:
        return info
    if not stat.S_ISREG(status.st_mode):
        return info
    return {**info, "type": "file", "size": status.st_size, "mtime": status.st_mtime}


def _is_file(info: dict[str, Any]) -> bool:
    """Not so for a directory, nor for the empty object that stands for one in some buckets."""
    return bool(info["type"] == "file") and not info["name"].endswith("/")


def _etag(info: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "content_md5"):
        if info.get(key):
            return str(info[key]).strip('"')
    modified = info.get("mtime") or info.get("LastModified") or info.get("created") or ""
    # A filesystem may list a time in seconds, and describe the same file with a datetime.
    modified = modified.timestamp() if isinstance(modified, datetime) else modified
    if isinstance(modified, float) and "mtime" not in info:
        # In whole seconds: a listing may tell milliseconds that a look at the file does not.
        modified = int(modified)
    return f"{info['size']}-{modified}"
