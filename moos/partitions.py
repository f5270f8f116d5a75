"""Hive-partitioned input: columns that stand in the path, as in `lang=en/part-0.parquet`.

Writers of such a layout (Spark, Hive, DuckDB, Polars) leave the columns out of the files, so a
reader that looks at the files alone loses them. Their values are strings here, whatever they look
like: a type guessed from the directories that happen to be there would change with the next one,
`007` would lose its zeros, and an output settles its schema once.
"""

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from moos.errors import ConfigError
from moos.json_columns import JsonValue
from moos.schema import EXTRA_JSON

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""What Hive writes for a null."""

_MARK = {b"moos": b"partition"}
_DIRECTORY = re.compile(r"([^=/]+)=([^/]*)")

Partition = Mapping[str, str | None]


def parse_partition(relative: str) -> dict[str, str | None]:
    """The columns that a file's directories name, outermost first.

    Names and values are URL-decoded; `__HIVE_DEFAULT_PARTITION__` is null. Directories of another
    form name nothing, nor does the file's own name.

    Args:
        relative: The file's path below the input's root.

    Raises:
        ConfigError: Two directories name one column, or a name or value is not valid Unicode.
    """
    found: dict[str, str | None] = {}
    for directory in relative.split("/")[:-1]:
        match = _DIRECTORY.fullmatch(directory)
        if match is None:
            continue
        try:
            name, value = (unquote(part, errors="strict") for part in match.groups())
            f"{name}{value}".encode()
        except UnicodeError as error:
            raise ConfigError(
                f"the directory {directory!r} of input file {relative!r} is not valid Unicode; "
                "rename it, or set input.partitioning=none"
            ) from error
        if name in found:
            raise ConfigError(
                f"input file {relative!r} names the partition column {name!r} twice; rename a "
                "directory, or set input.partitioning=none"
            )
        found[name] = None if value == NULL_PARTITION else value
    return found


def find_partition_columns(relatives: Iterable[str]) -> list[str]:
    """The columns that the directories of all files name, in order; none where none does.

    Args:
        relatives: The files' paths below the input's root.

    Raises:
        ConfigError: Two files' directories name different columns.
    """
    first: tuple[str, list[str]] | None = None
    for relative in relatives:
        names = list(parse_partition(relative))
        if first is None:
            first = (relative, names)
        elif sorted(names) != sorted(first[1]):
            raise ConfigError(
                f"input file {relative!r} has the partition columns {names or 'none'}, but "
                f"{first[0]!r} has {first[1] or 'none'}; name files of one layout with a glob, or "
                "set input.partitioning=none to read them without such columns"
            )
    return [] if first is None else first[1]


def mark_partition_columns(schema: pa.Schema, names: Iterable[str]) -> pa.Schema:
    """A schema with these columns among it, marked; one that the files hold too keeps its type."""
    for name in names:
        place = schema.get_field_index(name)
        if place >= 0:
            schema = schema.set(place, schema.field(place).with_metadata(_MARK))
            continue
        extra = schema.get_field_index(EXTRA_JSON)
        field = pa.field(name, pa.string(), metadata=_MARK)
        schema = schema.insert(extra if extra >= 0 else len(schema), field)
    return schema


def partition_columns(schema: pa.Schema) -> tuple[str, ...]:
    """The marked columns of a schema."""
    return tuple(field.name for field in schema if (field.metadata or {}).items() >= _MARK.items())


def agrees(value: Any, partition: str | None) -> bool:
    """True where a value that a file holds says what its directory says.

    Numbers, truth values and dates are compared as what they are: 7 agrees with `07`.
    """
    if value is None or partition is None:
        return value is None and partition is None
    if isinstance(value, bool):
        return str(value).lower() == partition.lower()
    if isinstance(value, int | float | Decimal):
        try:
            return Decimal(partition) == Decimal(str(value))
        except InvalidOperation:
            return False
    return partition in (str(value), value.isoformat() if hasattr(value, "isoformat") else value)


def json_values(partition: Partition) -> dict[str, JsonValue]:
    """Values that stand in a path, as if a JSON record had held them."""
    return {name: JsonValue(value, json.dumps(value)) for name, value in partition.items()}
