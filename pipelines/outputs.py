"""Reading a run's output back, by its manifest."""

import hashlib
import io
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moos.errors import ConfigError
from moos.schema import EXTRA_JSON
from moos.storage import Storage
from moos.text_columns import python_rows
from moos.yaml_text import parse_yaml
from pipelines.run_state import CONFIG, MANIFEST, SUCCESS

BATCH_ROWS = 64


def read_manifest(output: Storage) -> dict[str, Any]:
    """The manifest of a complete run.

    Raises:
        ConfigError: There is none, or the run did not finish.
    """
    try:
        data = output.get(MANIFEST)
        success = output.get(SUCCESS).decode().strip()
    except FileNotFoundError as error:
        raise ConfigError(
            f"{output.url!r} holds no complete run (no manifest.json with _SUCCESS); give a run's "
            "output.path, and run `moos compress` again if it was interrupted"
        ) from error
    if hashlib.sha256(data).hexdigest() != success:
        raise ConfigError(
            f"{output.url!r}: _SUCCESS does not belong to manifest.json; run `moos compress` again"
        )
    manifest: dict[str, Any] = json.loads(data)
    return manifest


def read_settings(output: Storage) -> dict[str, Any]:
    """The settings of the run that began an output, as plain values.

    Raises:
        ConfigError: They are missing, or are not YAML.
    """
    try:
        settings: dict[str, Any] = parse_yaml(output.get(CONFIG).decode("utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"{output.url}/{CONFIG} cannot be read: {error}") from error
    return settings


def iterate_rows(
    name: str, data: bytes, columns: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a data file, in order, as plain mappings.

    Args:
        name: The file's name, which says its format.
        data: Its bytes.
        columns: Columns wanted, of which some may not be there; JSONL gives all whatever is
            wanted.
    """
    for form in _iterate_forms(name, data, columns):
        yield from _as_rows(form)


def id_of(row: Mapping[str, Any], id_column: str) -> Any:
    """The id of a row, or None; one that did not fit its column stands in `extra_json`."""
    value = row.get(id_column)
    if value is None and row.get(EXTRA_JSON):
        value = json.loads(row[EXTRA_JSON]).get(id_column)
    return value


def iterate_batches(
    name: str, data: bytes, columns: list[str]
) -> Iterator[tuple[list[dict[str, Any]], pa.RecordBatch | list[bytes]]]:
    """The same in batches, each with its whole stored form: the record batch, or the raw lines.

    Other columns than those wanted may hold what Python does not: a date before the year 1.
    """
    for form in _iterate_forms(name, data, None):
        yield _as_rows(form, columns), form


def _iterate_forms(
    name: str, data: bytes, columns: list[str] | None
) -> Iterator[pa.RecordBatch | list[bytes]]:
    if name.endswith(".parquet"):
        yield from pq.ParquetFile(pa.BufferReader(data)).iter_batches(BATCH_ROWS, columns=columns)
        return
    stream = io.BufferedReader(pa.CompressedInputStream(pa.BufferReader(data), "zstd"))
    while lines := list(itertools.islice(stream, BATCH_ROWS)):
        yield lines


def _as_rows(
    form: pa.RecordBatch | list[bytes], columns: list[str] | None = None
) -> list[dict[str, Any]]:
    if isinstance(form, list):
        return [json.loads(line) for line in form]
    return python_rows(form if columns is None else form.select(columns))
