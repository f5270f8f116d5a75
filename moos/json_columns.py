"""JSON records as typed columns, with nothing lost: what does not fit a column stays raw JSON."""

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from json.decoder import scanstring  # type: ignore[attr-defined]  # in CPython, not in typeshed
from typing import Any

import pyarrow as pa

from moos.ranged_file import open_source
from moos.schema import EXTRA_JSON
from moos.source_files import BOM, WatchedFile, iterate_lines
from moos.splits import InputSplit
from moos.storage import Storage

_WHITE_SPACE = " \t\n\r"
_DECODER = json.JSONDecoder()
_EXACT_INTEGERS = 1 << 53
MAX_NESTING = 400
"""Levels of objects and lists in a record, itself among them. Python's parser gives up somewhat
above, at a depth that depends on who calls it: a record must not be good here and bad there."""

MAX_COLUMNS = 1000
"""Columns of an inferred schema: records whose keys are values of their own would have millions."""


@dataclass(frozen=True, slots=True)
class JsonValue:
    """A value of a record and the characters it was written in."""

    value: Any
    raw: str


def parse_record(line: str) -> dict[str, JsonValue]:
    """The fields of one JSON object, each with its raw form; of equal keys the last counts.

    Raises:
        ValueError: The line is not one JSON object.
        RecursionError: Values are nested too deep.
    """
    at = _skip(line, 0)
    if line[at : at + 1] != "{":
        raise ValueError(_describe_other(line, at))
    fields: dict[str, JsonValue] = {}
    at = _skip(line, at + 1)
    while line[at : at + 1] != "}":
        if line[at : at + 1] != '"':
            raise ValueError(f"a key was expected at character {at}")
        key, at = scanstring(line, at + 1, True)
        at = _skip(line, at)
        if line[at : at + 1] != ":":
            raise ValueError(f"a colon was expected at character {at}")
        start = _skip(line, at + 1)
        value, at = _DECODER.raw_decode(line, start)
        fields[key] = JsonValue(value, line[start:at])
        at = _skip(line, at)
        if line[at : at + 1] == ",":
            at = _skip(line, at + 1)
            if line[at : at + 1] == "}":
                raise ValueError(f"a key was expected at character {at}")
        elif line[at : at + 1] != "}":
            raise ValueError(f"a comma was expected at character {at}")
    if _skip(line, at + 1) != len(line):
        raise ValueError(f"more than one value, from character {at + 1}")
    if line.count("[") + line.count("{") > MAX_NESTING:
        _check_nesting([field.value for field in fields.values()])
    return fields


def _describe_other(line: str, at: int) -> str:
    """What a line is that begins no object at its first character, `at`."""
    if line[at : at + 1] == "[":
        return "it begins like an array (a JSON array? give one object a line: jq -c '.[]' FILE)"
    try:
        value, end = _DECODER.raw_decode(line, at)
    except json.JSONDecodeError:
        return "it is no JSON"
    if _skip(line, end) != len(line):
        return "it is no JSON"
    if isinstance(value, str):
        return "it is a string"
    is_word = value is None or isinstance(value, bool)
    return f"it is {json.dumps(value) if is_word else 'a number'}"


def _check_nesting(values: list[Any]) -> None:
    """Refuse values below a record that are nested deeper than `MAX_NESTING` allows."""
    for _ in range(MAX_NESTING):
        inner = [value for value in values if isinstance(value, dict | list)]
        if not inner:
            return
        parts = (value.values() if isinstance(value, dict) else value for value in inner)
        values = [value for part in parts for value in part]
    raise ValueError(f"values are nested more than {MAX_NESTING} deep")


def _skip(line: str, at: int) -> int:
    while at < len(line) and line[at] in _WHITE_SPACE:
        at += 1
    return at


def infer_schema(records: Iterable[dict[str, Any]], text_column: str) -> pa.Schema:
    """One column per scalar field, in order of appearance, and `extra_json` for everything else.

    A column takes the type that most of its sampled values have. Fields that are mostly objects or
    lists, or only null, get no column, nor do those beyond the `MAX_COLUMNS` that occur most: their
    values go to `extra_json`.
    """
    seen: dict[str, Counter[str]] = {}
    for record in records:
        for key, value in record.items():
            seen.setdefault(key, Counter())[_type_name(value)] += 1
    fields = []
    frequent = sorted(seen, key=lambda key: (key != text_column, -seen[key].total()))
    chosen = set(frequent[:MAX_COLUMNS])
    for key, counts in seen.items():
        if key not in chosen:
            continue
        counts.pop("null", None)
        if key == text_column:
            fields.append(pa.field(key, pa.string()))
            continue
        if "float" in counts:
            counts["float"] += counts.pop("int", 0)
        # A key with a lone surrogate names no column: Arrow's names are UTF-8.
        if counts and _is_valid(key) and (best := counts.most_common(1)[0][0]) in _TYPES:
            fields.append(pa.field(key, _TYPES[best]))
    return pa.schema([*fields, pa.field(EXTRA_JSON, pa.string())])


_TYPES = {"str": pa.string(), "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    return type(value).__name__


def build_columns(records: Sequence[dict[str, JsonValue]], schema: pa.Schema) -> list[pa.Array]:
    """The records as columns of an inferred schema, `extra_json` among them.

    A value that a column's type cannot hold exactly is null there and raw JSON in `extra_json`.
    """
    types = {field.name: field.type for field in schema if field.name != EXTRA_JSON}
    columns: dict[str, list[Any]] = {name: [None] * len(records) for name in types}
    extras: list[str | None] = []
    for row, record in enumerate(records):
        extra = []
        for key, field in record.items():
            if key in types and _fits(field, types[key]):
                columns[key][row] = field.value
            elif field.value is not None:
                extra.append(f"{json.dumps(key)}: {field.raw}")
        extras.append("{" + ", ".join(extra) + "}" if extra else None)
    arrays = {name: pa.array(columns[name], kind) for name, kind in types.items()}
    arrays[EXTRA_JSON] = pa.array(extras, pa.string())
    return [arrays[name] for name in schema.names]


def _fits(field: JsonValue, kind: pa.DataType) -> bool:
    value = field.value
    if value is None:
        return True
    if pa.types.is_string(kind):
        return isinstance(value, str) and _is_valid(value)
    if pa.types.is_boolean(kind):
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if pa.types.is_integer(kind):
        return isinstance(value, int) and -(1 << 63) <= value < 1 << 63
    if isinstance(value, int):
        return abs(value) <= _EXACT_INTEGERS
    if not isinstance(value, float):
        return False
    # NaN and Infinity are Python's extension of JSON; a float column holds them as they are.
    return (
        (value in (float("inf"), float("-inf")) and "n" in field.raw)
        or value != value
        or (abs(value) != float("inf") and _is_exact(field.raw, value))
    )


def _is_exact(raw: str, value: float) -> bool:
    try:
        return Decimal(raw) == Decimal(repr(value))
    except InvalidOperation:  # an exponent of more digits than even Decimal has
        return False


def _is_valid(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def iterate_sample(source: Storage, split: InputSplit, limit: int) -> Iterator[dict[str, Any]]:
    """Records from the first `limit` bytes of a JSONL split, bad ones left out.

    Damage is left for the split's own worker to report.
    """
    with open_source(source, split.path, split.file_size, stop=limit) as opened:
        watched = WatchedFile(opened)
        try:
            for _, line in iterate_lines(watched, [split]):
                if line is None or line.position >= limit:
                    return
                content = line.content
                content = content.removeprefix(BOM) if line.position == 0 else content
                try:
                    record = json.loads(content)
                except (ValueError, RecursionError):
                    continue
                if isinstance(record, dict):
                    yield record
        except (EOFError, OSError, zlib.error):
            if watched.failed:
                raise
