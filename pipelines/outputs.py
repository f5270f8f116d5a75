"""Reading a run's output back, by its manifest."""

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moos.errors import ConfigError
from moos.storage import Storage
from pipelines.run_state import MANIFEST, SUCCESS

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


def iterate_rows(
    name: str, data: bytes, columns: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a data file, in order, as plain mappings.

    Args:
        name: The file's name, which says its format.
        data: Its bytes.
        columns: Columns wanted; JSONL gives all whatever is wanted.
    """
    for rows, _ in iterate_batches(name, data, columns):
        yield from rows


def iterate_batches(
    name: str, data: bytes, columns: list[str] | None = None
) -> Iterator[tuple[list[dict[str, Any]], pa.RecordBatch | list[bytes]]]:
    """The same in batches, each with its stored form: the whole record batch, or the raw lines.

    A value of another column may be none that Python has, such as a date before the year 1.
    """
    if name.endswith(".parquet"):
        file = pq.ParquetFile(pa.BufferReader(data))
        for batch in file.iter_batches(BATCH_ROWS):
            wanted = [c for c in batch.schema.names if columns is None or c in columns]
            yield batch.select(wanted).to_pylist(), batch
        return
    stream = io.BufferedReader(pa.CompressedInputStream(pa.BufferReader(data), "zstd"))
    lines: list[bytes] = []
    for line in stream:
        lines.append(line)
        if len(lines) == BATCH_ROWS:
            yield [json.loads(item) for item in lines], lines
            lines = []
    if lines:
        yield [json.loads(item) for item in lines], lines
