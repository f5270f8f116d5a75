"""Records of benchmarks from files and from the hub; errors say which record is wrong, and how."""

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec

from moos.errors import ConfigError, DataError

_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a benchmark's file, read field by field.

    Attributes:
        where: The file or dataset and the record's number, for messages.
        fields: Its fields as they came.
    """

    where: str
    fields: Mapping[str, Any]

    def has(self, name: str) -> bool:
        """The field is there and not null."""
        return self.fields.get(name) is not None

    def text(self, name: str) -> str:
        """A field that is a text.

        Raises:
            DataError: It is missing or no text.
        """
        value = self._value(name)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a text")
        return value

    def label(self, *names: str, default: str) -> str:
        """The first of the named fields that is a text or a number, as an id is; else `default`."""
        for name in names:
            value = self.fields.get(name)
            if isinstance(value, str | int) and not isinstance(value, bool):
                return str(value)
        return default

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that is a text or a list of texts, at least one.

        Raises:
            DataError: It is missing, empty or holds something else.
        """
        value = self._value(name)
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, Sequence) or not values or not _all_are(values, str):
            raise self._wrong(name, value, "a text or a list of at least one")
        return tuple(values)

    def record(self, name: str) -> "Record":
        """A field that is an object.

        Raises:
            DataError: It is missing or none.
        """
        value = self._value(name)
        if not isinstance(value, Mapping):
            raise self._wrong(name, value, "an object")
        return Record(f"{self.where}, {name}", value)

    def records(self, name: str) -> list["Record"]:
        """A field that is a list of objects, or, as `datasets` gives some, an object of lists.

        Raises:
            DataError: It is missing or neither.
        """
        value = self._value(name)
        if isinstance(value, Mapping) and _all_are(value.values(), list):
            value = [
                dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=False)
            ]
        if not isinstance(value, list) or not _all_are(value, Mapping):
            raise self._wrong(name, value, "a list of objects")
        return [
            Record(f"{self.where}, {name}[{number}]", fields) for number, fields in enumerate(value)
        ]

    def _value(self, name: str) -> Any:
        if not self.has(name):
            known = ", ".join(map(repr, self.fields)) or "nothing"
            raise DataError(
                f"{self.where} has no {name!r}, only {known}; set the task's path to a file of the "
                "layout that its loader names"
            )
        return self.fields[name]

    def _wrong(self, name: str, value: Any, wanted: str) -> DataError:
        return DataError(f"{self.where} has {value!r:.80} as {name!r}; it must be {wanted}")


def read_text(path: str) -> str:
    """The text of a local file or fsspec URL; `.gz` and the like are decompressed.

    Raises:
        ConfigError: It cannot be opened.
        DataError: It is damaged, or no UTF-8.
    """
    try:
        with fsspec.open(path, "rb", compression="infer") as file:
            return str(file.read(), "utf-8-sig")
    except _DAMAGED as error:
        raise DataError(f"{path} is damaged or no UTF-8 text: {error}") from error
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error or type(error).__name__}; set the task's path to its "
            "file, or leave it out to load the task from the hub"
        ) from error


def read_records(path: str) -> list[Record]:
    """The records of a JSON or JSONL file: its lines, the list it holds, or the object it is.

    Raises:
        ConfigError: It cannot be opened.
        DataError: It is damaged, no JSON, or holds something other than objects.
    """
    records = []
    for number, value in enumerate(_parse_values(path, read_text(path)), start=1):
        if not isinstance(value, Mapping):
            raise DataError(f"{path}, record {number} is {value!r:.80}; it must be an object")
        records.append(Record(f"{path}, record {number}", value))
    if not records:
        raise DataError(f"{path} holds no record; set the task's path to a file that does")
    return records


def load_records(
    name: str, config: str | None = None, *, split: str, data_files: str | None = None
) -> list[Record]:
    """The records of a dataset of the hub.

    Args:
        name: Its id, or a format of `datasets` such as `json`, with `data_files`.
        config: Its subset; None: it has none.
        split: Its split.
        data_files: Where a format's files are.

    Raises:
        ConfigError: The package `datasets` is missing, or the dataset cannot be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"loading {data_files or name} needs the package datasets: pip install "
            "'moos[evaluate]'; or set the task's path to a local file"
        ) from error
    try:
        rows = datasets.load_dataset(name, config, split=split, data_files=data_files)
    except Exception as error:  # loaders raise what they like
        raise ConfigError(
            f"dataset {data_files or name!r}, subset {config!r}, split {split!r}, cannot be "
            f"loaded: {type(error).__name__}: {error}; set the task's path to a local file"
        ) from error
    return [
        Record(f"{data_files or name}, record {number}", row)
        for number, row in enumerate(rows, start=1)
    ]


def is_file(path: str) -> bool:
    """There is a file at a local path or fsspec URL.

    Raises:
        ConfigError: The URL cannot be used.
    """
    try:
        filesystem, place = fsspec.url_to_fs(path)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{path} cannot be opened: {error}; set the task's path") from error
    return bool(filesystem.isfile(place))


def find_file(path: str, *names: str) -> str:
    """A path that is a file, or the first of the names, as such or with `.gz`, in the directory.

    Raises:
        ConfigError: There is none.
    """
    below = [f"{path.rstrip('/')}/{name}{ending}" for name in names for ending in ("", ".gz")]
    for place in (path, *below):
        if is_file(place):
            return place
    raise ConfigError(
        f"{path} is no file and has none of {', '.join(names)}, plain or .gz; set the task's path, "
        "or its demonstrations, to where they are"
    )


def _parse_values(path: str, text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        return list(_parse(path, text, "the list"))
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if lines and not _is_whole(lines[0][1]):
        return [_parse(path, text, "the object")]
    return [_parse(path, line, f"line {number}") for number, line in lines]


def _is_whole(line: str) -> bool:
    """A first line that is no JSON of its own begins an object of several lines."""
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def _parse(path: str, text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: {what} is no JSON: {error}") from error


def _all_are(values: Iterable[object], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)
