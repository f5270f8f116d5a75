"""The files that an input names, and what else lies where it points: told, and not read.

fsspec's `walk` and `glob` leave out a directory that could not be listed. They are not used here: a
listing is whole, or an error. Only regular files are opened. A named pipe would be waited for, a
device may have no end, and a link to a directory may lead back to where it lies.
"""

import itertools
import logging
import os
import posixpath
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.utils import glob_translate

from moos.errors import ConfigError
from moos.retries import DEFAULT_RETRIES
from moos.storage import Storage, Watch, is_below, is_file

logger = logging.getLogger(__name__)

Info = dict[str, Any]
"""What fsspec tells of an entry: its name, type, size, and more."""

_GLOB = frozenset("*?[")
_NUM_SHOWN = 5
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


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
    under `excluded`. A file named outright, or by a glob, is always taken. A link to a file is that
    file. What else is found there, such as a named pipe or a link to a directory, is warned about.

    Args:
        paths: Files, directories or globs.
        options: Options of the input's filesystem.
        excluded: Filesystem path of the output, whose files are no input.
        retries: As in `Storage`.
        key: The config key that the paths stand under, for messages.
        watch: As in `Storage`.

    Raises:
        ConfigError: A path names no file, or a directory of a disk that may not be read; two paths
            are on different filesystems; two files have the same relative path, or one file has
            two; or the name of one is not valid UTF-8.
    """
    storages = [Storage(path, options, retries=retries, watch=watch) for path in paths]
    _check_filesystems(storages, key)
    found: dict[str, SourceFile] = {}
    named: dict[str, tuple[str, str]] = {}
    for path, storage in zip(paths, storages, strict=True):
        root, entries = _find_entries(storage, path, options, key)
        files = [info for info in entries if is_file(info)]
        others = [info for info in entries if not is_file(info)]
        if not files:
            raise ConfigError(
                f"{key}: {path!r} names no file; give a file, a directory or a glob"
                f"{_tell_others(root, others)}"
            )
        if excluded is not None:
            files = [info for info in files if not is_below(info["name"], excluded)]
            others = [info for info in others if not is_below(info["name"], excluded)]
        if others:
            logger.warning(
                "%d entries are no files and are not read%s; directories are read where %s names "
                "them",
                len(others),
                _tell_others(root, others),
                key,
            )
        place = os.path.realpath(root) if storage.is_local else root
        for info in files:
            name = info["name"]
            relative = posixpath.relpath(name, root)
            _check_name(relative, key)
            source = SourceFile(name, relative, int(info["size"]), _etag(info))
            if found.setdefault(relative, source).path != name:
                raise ConfigError(
                    f"{key}: {name} and {found[relative].path} are both {relative!r} below their "
                    "roots; give one of them at a time"
                )
            first = named.setdefault(posixpath.join(place, relative), (relative, path))
            if first[0] != relative:
                raise ConfigError(
                    f"{key}: {name} would be read twice, as {first[0]!r} and as {relative!r}: "
                    f"{first[1]!r} and {path!r} both name it; give each file once"
                )
    return [found[relative] for relative in sorted(found)]


def check_readable(storage: Storage, sources: Collection[SourceFile], key: str) -> None:
    """Refuse files of a disk that this process may not open, before any is worked.

    Raises:
        ConfigError: There are such files.
    """
    if not storage.is_local:
        return
    effective = os.access in os.supports_effective_ids
    denied = [
        source.path
        for source in sources
        if not os.access(source.path, os.R_OK, effective_ids=effective)
    ]
    if denied:
        raise ConfigError(
            f"{key}: permission to read is denied for {len(denied)} files: {_show(denied)}; let "
            "the user that runs moos read them, or leave them out by a glob"
        )


def describe_file(storage: Storage, path: str) -> tuple[int, str]:
    """Size and etag of a file now, by its `SourceFile.path`; FileNotFoundError if it is none."""
    info = storage.look_up(path)
    if info is None or not is_file(info):
        raise FileNotFoundError(path)
    return int(info["size"]), _etag(info)


def _check_filesystems(storages: Sequence[Storage], key: str) -> None:
    """Refuse inputs that no one filesystem could read."""
    for storage in storages[1:]:
        if storage.filesystem != storages[0].filesystem:
            raise ConfigError(
                f"{key}: {storages[0].url!r} and {storage.url!r} are on different filesystems; "
                "give those of one at a time"
            )


def _check_name(relative: str, key: str) -> None:
    """Refuse a name that no plan, manifest or row could hold."""
    try:
        relative.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{key}: the name of the file {relative!r} is not valid UTF-8; rename it, or leave it "
            "out by a glob"
        ) from error


def _find_entries(
    storage: Storage, path: str, options: dict[str, Any], key: str
) -> tuple[str, list[Info]]:
    """What one path of the input names, and the root that it is named from."""
    try:
        return _match(storage, path, options)
    except PermissionError as error:
        if not storage.is_local:
            raise
        raise ConfigError(
            f"{key}: permission to list {error.filename} is denied; let the user that runs moos "
            "read it, or leave it out by a glob"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{key}: {path!r} is no path or glob: {error}") from error


def _match(storage: Storage, path: str, options: dict[str, Any]) -> tuple[str, list[Info]]:
    info = storage.look_up(storage.root)
    if info is None and not _GLOB & set(path):
        return storage.root, []
    if info is None:
        place = _fixed_part(path)
        storage = Storage(place, options, retries=storage.retries, watch=storage.watch)
        return storage.root, list(_glob(storage, path))
    # A name that holds a glob character and is there is that file or directory.
    if info["type"] == "file":
        return posixpath.dirname(storage.root), [info]
    hidden = re.compile(re.escape(storage.root.rstrip("/")) + r"/(.*/)?[._]", re.DOTALL)
    return storage.root, [info for info in _find(storage) if not hidden.match(info["name"])]


def _fixed_part(path: str) -> str:
    """The longest leading directory of a glob that holds no glob character."""
    scheme, separator, rest = path.rpartition("://")
    parts = rest.split("/")[:-1]
    fixed = itertools.takewhile(lambda part: not _GLOB & set(part), parts)
    return f"{scheme}{separator}{'/'.join(fixed) or ('/' if rest.startswith('/') else '.')}"


def _glob(storage: Storage, pattern: str) -> Iterator[Info]:
    """What is below a place and matches a pattern, which begins with that place.

    A link to a directory is among it where the pattern goes on below that.
    """
    full = storage.filesystem._strip_protocol(pattern)
    depth = full.removeprefix(storage.root).strip("/").count("/") + 1
    matching = re.compile(glob_translate(full + ("/" if pattern.endswith("/") else "")))
    found = _find(storage) if "**" in pattern else _walk(storage, depth)
    for info in found:
        name = info["name"]
        is_wanted = is_file(info) or not posixpath.basename(name).startswith((".", "_"))
        if is_wanted and (matching.match(name) or (info.get("islink") and _leads_on(full, name))):
            yield info


def _leads_on(pattern: str, name: str) -> bool:
    """The pattern goes on below a directory of this name, and the name is one's, or a link's."""
    parts = pattern.split("/")
    above = parts[: name.count("/") + 1]
    matches = "**" in above or (
        len(above) < len(parts) and re.match(glob_translate("/".join(above)), name)
    )
    return bool(matches) and os.path.isdir(name)


def _find(storage: Storage) -> Iterable[Info]:
    """All that is below a place, by one listing of all keys where the store offers that."""
    kind: Any = type(storage.filesystem)
    own_find = kind.find is not fsspec.AbstractFileSystem.find
    if own_find or getattr(kind, "_find", AsyncFileSystem._find) is not AsyncFileSystem._find:
        find = partial(storage.filesystem.find, detail=True)
        return filter(is_file, (storage.ask("list", storage.root, find) or {}).values())
    return _walk(storage)


def _walk(storage: Storage, depth: int | None = None) -> Iterator[Info]:
    """All that is below a place, one listing for each directory, at most `depth` levels down.

    Directories are among it only at the lowest level; links to them are, and are not followed.
    """
    pending = [(storage.root, 1)]
    while pending:
        directory, level = pending.pop()
        for info in map(storage.follow_link, storage.list_directory(directory)):
            name = info["name"].rstrip("/")
            if is_file(info):
                yield info
            elif info["type"] == "file" or (info["type"] == "directory" and name == directory):
                continue  # what stands for the directory itself in some buckets
            elif info["type"] == "directory" and level != depth:
                pending.append((name, level + 1))
            else:
                yield {**info, "name": name}


def _tell_others(root: str, others: Sequence[Info]) -> str:
    """What is no file, in words behind those that say so; `root` is where they were found."""
    if others:
        return ": " + _show([f"{info['name']} ({_describe(info)})" for info in others])
    is_broken = os.path.islink(root) and not os.path.exists(root)
    return ": it is a link that leads nowhere" if is_broken else ""


def _describe(info: Info) -> str:
    """What an entry is that is no file."""
    if "islink" not in info:  # no disk
        return "a directory" if info["type"] == "directory" else f"of type {info['type']!r}"
    try:
        kind = _KINDS.get(stat.S_IFMT(os.stat(info["name"]).st_mode), "no regular file")
    except OSError:
        return "a link that leads nowhere"
    return f"a link to {kind}" if info["islink"] else kind


def _show(names: Sequence[str]) -> str:
    return ", ".join(names[:_NUM_SHOWN]) + (", ..." if len(names) > _NUM_SHOWN else "")


def _etag(info: Info) -> str:
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
