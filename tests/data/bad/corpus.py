"""Reads `cases.yaml`: bad input, and what becomes of it."""

import base64
import gzip
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.data.bad import make


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes:
        name: What is bad.
        line: The line that is, for a case of one line.
        files: Contents by file name, for a case of whole files.
        entries: Entries of their directory that are no files, by name: what `_make_entry` takes.
        rows: Texts of the rows, or their number where they are many.
        quarantined: Words of each quarantine reason, in order.
        refused: Words of the message with which the command refuses to start, or None.
        warned: Words of a warning.
        settings: Settings of its own.
        alone: It needs a run of its own.
        slow: It takes seconds.
    """

    name: str
    line: bytes | None
    files: dict[str, bytes] = field(repr=False)
    entries: dict[str, str]
    rows: list[str] | int
    quarantined: list[str]
    refused: list[str] | None
    warned: list[str]
    settings: list[str]
    alone: bool
    slow: bool

    @property
    def kind(self) -> str:
        """`parquet` or `jsonl`, by the names of its files."""
        return "parquet" if any(".parquet" in name for name in self.files) else "jsonl"

    @property
    def exit_code(self) -> int:
        """What a run over it alone ends with."""
        return 2 if self.refused is not None else 3 if self.quarantined else 0

    def write(self, directory: Path) -> Path:
        """Write its files into a new directory, which is returned."""
        directory.mkdir()
        for name, content in self.files.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_bytes(content)
        for name, what in self.entries.items():
            _make_entry(directory / name, what)
        return directory


def _make_entry(path: Path, what: str) -> None:
    if what == "pipe":
        os.mkfifo(path)
    elif what == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    else:
        path.symlink_to(what.removeprefix("-> "))


@cache
def read_cases() -> tuple[Case, ...]:
    """All cases, in the file's order."""
    entries = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text(encoding="utf-8"))
    return tuple(_read_case(dict(entry)) for entry in entries)


def _read_case(entry: dict[str, Any]) -> Case:
    name = entry.pop("name")
    rows, quarantined = entry.pop("rows", []), _as_list(entry.pop("quarantined", []))
    quarantined *= entry.pop("times", 1)
    line, files = None, {}
    if "line" in entry or "line_bytes" in entry:
        line = _content({"text": entry.pop("line", None), "bytes": entry.pop("line_bytes", None)})
        rows = [entry.pop("row")] if "row" in entry else []
        assert len(rows) + len(quarantined) == 1, f"{name}: a row, or a reason"
    elif "files" in entry or "entries" in entry:
        files = {key: _content(recipe) for key, recipe in entry.pop("files", {}).items()}
    else:
        file_name = entry.pop("file", "docs.jsonl")
        recipe_keys = ("text", "bytes", "base64", "make", "pack", "cut", "append", "prepend")
        files = {file_name: _content({key: entry.pop(key, None) for key in recipe_keys})}
    case = Case(
        name=name,
        line=line,
        files=files,
        entries=entry.pop("entries", {}),
        rows=rows,
        quarantined=quarantined,
        refused=_as_list(entry.pop("refused")) if "refused" in entry else None,
        warned=_as_list(entry.pop("warned", [])),
        settings=entry.pop("settings", []),
        alone=entry.pop("alone", False),
        slow=entry.pop("slow", False),
    )
    assert not entry, f"{name}: unknown keys {sorted(entry)}"
    return case


def _content(recipe: Mapping[str, Any]) -> bytes:
    """Bytes from a recipe: what they are, then what is done to them, in this order."""
    if (maker := recipe.get("make")) is not None:
        data: bytes = getattr(make, maker)()
    elif (text := recipe.get("text")) is not None:
        data = text.encode("utf-8")
    elif (encoded := recipe.get("base64")) is not None:
        data = base64.b64decode(encoded)
    else:
        data = recipe["bytes"].encode("latin-1")
    if (pack := recipe.get("pack")) is not None:
        data = {"gz": gzip.compress, "zst": make.zstd}[pack](data)
    if (count := recipe.get("cut")) is not None:
        data = data[:-count]
    prepend, append = recipe.get("prepend") or "", recipe.get("append") or ""
    return prepend.encode("latin-1") + data + append.encode("latin-1")


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
