"""Files on any fsspec filesystem: listing, reading, and writes that happen whole or not at all."""

import os
import posixpath
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from moos.errors import ConfigError

_GLOB = frozenset("*?[")
TEMPORARY = ".tmp"
"""Ending of a file that is being written; one that stays was left by a killed process."""


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
    """One place on one filesystem; every path given to its methods is relative to it."""

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        """Open a place.

        Raises:
            ConfigError: The scheme is unknown, its package is missing, or an option is wrong.
        """
        self.url = url
        try:
            self.filesystem, root = fsspec.core.url_to_fs(url, **(options or {}))
        except (ValueError, ImportError, TypeError) as error:
            raise ConfigError(f"{url} cannot be opened: {error}") from error
        self.root = root.rstrip("/") or "/"
        self._is_local = isinstance(self.filesystem, LocalFileSystem)

    def path(self, name: str) -> str:
        """The filesystem's path of `name`."""
        return posixpath.join(self.root, name)

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole: readers see all of it or nothing.

        An object store's PUT is atomic; on a disk a temporary file is synced and renamed.
        """
        path = self.path(name)
        if not self._is_local:
            self.filesystem.pipe_file(path, data)
            return
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

    def get(self, name: str) -> bytes:
        """Read an object whole.

        Raises:
            FileNotFoundError: There is no such object.
        """
        try:
            return bytes(self.filesystem.cat_file(self.path(name)))
        except NotADirectoryError as error:  # the place itself is a file
            raise FileNotFoundError(self.path(name)) from error

    def exists(self, name: str) -> bool:
        """True where the object exists now."""
        self.filesystem.invalidate_cache()
        return bool(self.filesystem.exists(self.path(name)))

    def list(self, name: str, *, directories: bool = False) -> list[str]:
        """Names of the objects directly below `name`, sorted; none if there is no such place.

        Args:
            name: The place.
            directories: Name its directories too.
        """
        self.filesystem.invalidate_cache()
        try:
            found = self.filesystem.ls(self.path(name), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        wanted = [f["name"] for f in found if directories or f["type"] == "file"]
        return sorted(posixpath.basename(path.rstrip("/")) for path in wanted)

    def remove(self, name: str) -> None:
        """Remove an object; one that is already gone is no error."""
        try:
            self.filesystem.rm_file(self.path(name))
        except FileNotFoundError:
            return


def list_sources(
    paths: Sequence[str], options: dict[str, Any], *, excluded: str | None = None
) -> list[SourceFile]:
    """Every file that the input names, in order of its relative path.

    A directory is listed to the bottom, leaving out names that begin with `.` or `_` and what lies
    under `excluded`. A file named outright, or by a glob, is always taken.

    Args:
        paths: Files, directories or globs.
        options: Options of the input's filesystem.
        excluded: Filesystem path of the output, whose files are no input.

    Raises:
        ConfigError: A path names nothing, or two files have the same relative path.
    """
    found: dict[str, SourceFile] = {}
    for path in paths:
        storage = Storage(path, options)
        # A name that holds a glob character and is there is that file or directory.
        is_glob = bool(_GLOB & set(path)) and not storage.filesystem.exists(storage.root)
        if is_glob:
            storage = Storage(_fixed_part(path), options)
        matches = _match(storage, path if is_glob else None)
        if not matches:
            raise ConfigError(
                f"input.path: {path!r} names no file; give a file, a directory or a glob"
            )
        root = storage.root
        if storage.filesystem.isfile(root):
            root = posixpath.dirname(root)
        for info in matches:
            name = info["name"]
            if excluded is not None and f"{name}/".startswith(f"{excluded}/"):
                continue
            relative = posixpath.relpath(name, root)
            source = SourceFile(name, relative, int(info["size"]), _etag(info))
            if found.setdefault(relative, source).path != name:
                raise ConfigError(
                    f"input.path: {name} and {found[relative].path} are both {relative!r} below "
                    "their roots; compress them in two runs"
                )
    return [found[relative] for relative in sorted(found)]


def describe_file(storage_filesystem: fsspec.AbstractFileSystem, path: str) -> tuple[int, str]:
    """Size and etag of a file now.

    Raises:
        FileNotFoundError: The file is gone.
    """
    storage_filesystem.invalidate_cache()
    info = storage_filesystem.info(path)
    return int(info["size"]), _etag(info)


def is_below(path: str, parent: str) -> bool:
    """True if `path` is `parent` or lies under it; both are filesystem paths."""
    return f"{path.rstrip('/')}/".startswith(f"{parent.rstrip('/')}/")


def _sync_directory(path: str) -> None:
    """Make a rename survive a power cut, where the system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fixed_part(path: str) -> str:
    """The longest leading directory of a glob that holds no glob character."""
    scheme, separator, rest = path.rpartition("://")
    parts = rest.split("/")
    fixed = []
    for part in parts[:-1]:
        if _GLOB & set(part):
            break
        fixed.append(part)
    return f"{scheme}{separator}{'/'.join(fixed) or ('/' if rest.startswith('/') else '.')}"


def _match(storage: Storage, pattern: str | None) -> list[dict[str, Any]]:
    filesystem = storage.filesystem
    filesystem.invalidate_cache()
    if pattern is not None:
        found = filesystem.glob(filesystem._strip_protocol(pattern), detail=True).values()
        return [info for info in found if info["type"] == "file"]
    if not filesystem.exists(storage.root):
        return []
    if filesystem.isfile(storage.root):
        return [filesystem.info(storage.root)]
    below = filesystem.find(storage.root, detail=True)
    visible = []
    for name, info in below.items():
        parts = posixpath.relpath(name, storage.root).split("/")
        if info["type"] == "file" and not any(part.startswith((".", "_")) for part in parts):
            visible.append(info)
    return visible


def _etag(info: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "content_md5"):
        if info.get(key):
            return str(info[key]).strip('"')
    modified = info.get("mtime") or info.get("LastModified") or info.get("created") or ""
    # A filesystem may list a time in seconds, and describe the same file with a datetime.
    modified = modified.timestamp() if isinstance(modified, datetime) else modified
    return f"{info['size']}-{modified}"
