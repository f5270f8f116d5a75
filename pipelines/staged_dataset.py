"""A dataset of the hub as Parquet files that a run can split: loaded once, kept on storage."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moos.errors import ConfigError
from moos.storage import Storage
from pipelines.label_config import LabelInputConfig
from pipelines.phase_watch import PhaseWatch

logger = logging.getLogger(__name__)

ROWS_PER_FILE = 5000
MARK = "_dataset.json"
"""Written last: says which dataset a directory holds."""


def stage_dataset(settings: LabelInputConfig, watch: PhaseWatch) -> None:
    """Load the dataset that an input names into its path, unless it is there.

    Where the text column holds lists, each element becomes a record: columns that are lists of the
    same length are dealt out, others repeated. `row` and `part` name the origin of each record.
    `watch` is told what goes on.

    Raises:
        ConfigError: The dataset cannot be loaded, lacks the text column, or the path holds
            something else.
    """
    wanted = settings.dataset
    if wanted is None:
        return
    place = Storage(
        settings.paths[0], settings.storage_options, retries=settings.retries, watch=watch.call
    )
    described = wanted.model_dump(mode="json")
    try:
        found = json.loads(place.get(MARK))
    except FileNotFoundError:
        found = None
    if found is not None:
        if found != described:
            raise ConfigError(
                f"input.path={place.url!r} holds the dataset {found}, not {described}"
            )
        return
    strangers = [name for name in place.list("", directories=True) if not name.startswith("part-")]
    if strangers:
        raise ConfigError(
            f"input.path={place.url!r} holds {strangers[0]!r}, which is of no dataset; name a new "
            "directory for it"
        )
    logger.info("loading dataset %s, split %s, into %s", wanted.name, wanted.split, place.url)
    rows = _load_rows(settings)
    for number, part in enumerate(_batches(rows)):
        sink = pa.BufferOutputStream()
        pq.write_table(part, sink, compression="zstd", row_group_size=500)
        place.put(f"part-{number:05d}.parquet", sink.getvalue().to_pybytes())
    place.put(MARK, json.dumps(described).encode())


def _load_rows(settings: LabelInputConfig) -> Iterator[dict[str, Any]]:
    assert settings.dataset is not None, "there is a dataset to load"
    wanted = settings.dataset
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            "input.dataset needs the package datasets: pip install 'moos[label]'"
        ) from error
    try:
        loaded = datasets.load_dataset(
            wanted.name, wanted.config, split=wanted.split, revision=wanted.revision
        )
    except Exception as error:  # loaders raise what they like
        raise ConfigError(
            f"input.dataset.name={wanted.name!r}, split {wanted.split!r}, cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    if settings.text_column not in loaded.column_names:
        raise ConfigError(
            f"dataset {wanted.name!r} has no column {settings.text_column!r}, only "
            f"{', '.join(loaded.column_names)}; set input.text_column"
        )
    for number, row in enumerate(loaded):
        yield from _deal_out(row, number, settings.text_column)


def _deal_out(row: dict[str, Any], number: int, text_column: str) -> Iterator[dict[str, Any]]:
    texts = row[text_column]
    if not isinstance(texts, list):
        yield {**row, "row": str(number), "part": f"{number}/0"}
        return
    for place in range(len(texts)):
        dealt = {
            name: value[place] if isinstance(value, list) and len(value) == len(texts) else value
            for name, value in row.items()
        }
        yield {**dealt, "row": str(number), "part": f"{number}/{place}"}


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[pa.Table]:
    held: list[dict[str, Any]] = []
    schema = None
    for row in rows:
        held.append(row)
        if len(held) == ROWS_PER_FILE:
            table = pa.Table.from_pylist(held, schema=schema)
            schema, held = table.schema, []
            yield table
    if held:
        yield pa.Table.from_pylist(held, schema=schema)
