"""The plan of a run: which splits there are, and the one schema of all its rows.

Listing and reading headers is all it does; nothing is written here.
"""

import itertools
import logging
import zlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from moos.errors import ConfigError
from moos.json_columns import infer_schema, iterate_sample
from moos.listing import SourceFile, check_readable
from moos.parquet_files import open_parquet
from moos.partitions import mark_partition_columns
from moos.ranged_file import open_source
from moos.schema import EXTRA_JSON, RESERVED_COLUMNS, check_columns
from moos.source_files import WatchedFile, measure_content, unpack
from moos.splits import WHOLE_FILE, InputSplit, file_kind, split_file
from moos.storage import Storage, is_below
from moos.text_columns import is_text_type
from pipelines.config import InputConfig, JobConfig
from pipelines.input_files import list_input
from pipelines.partition_plan import check_doubled, settle_partition_columns
from pipelines.phase_watch import PhaseWatch

logger = logging.getLogger(__name__)

SAMPLE_BYTES = 1 << 20
SAMPLE_FILES = 32
"""JSONL columns are inferred from the first bytes of so many files, evenly spread."""

MEASURED_AT_ONCE = 8
"""Compressed files whose content is measured in parallel: decompression frees the GIL."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has to do.

    Attributes:
        splits: Every split, in order of file and place.
        num_files: Files among the input that moos reads.
        input_schema: Columns of the input, as every row of the output has them.
    """

    splits: list[InputSplit]
    num_files: int
    input_schema: pa.Schema


def plan_run(
    config: JobConfig,
    fixed_schema: pa.Schema | None = None,
    earlier: Sequence[InputSplit] = (),
    reserved: Collection[str] = RESERVED_COLUMNS,
    watch: PhaseWatch | None = None,
) -> Plan:
    """List the input, cut it into splits, and settle the schema.

    Args:
        config: The run's config.
        fixed_schema: Input schema that an earlier run on this output settled.
        earlier: That run's splits: what it measured of a compressed file still holds.
        reserved: Names that no column may have.
        watch: Told what goes on.

    Raises:
        ConfigError: The input is missing, empty, mixed, may not be read, is a run's output, lies
            under this one's, lacks the text column, or has a column named like ours.
    """
    settings, watch = config.input, watch or PhaseWatch()
    output = Storage(config.output.path, config.output.storage_options)
    check_places(settings, output)
    place = Storage(
        settings.paths[0], settings.storage_options, retries=settings.retries, watch=watch.call
    )
    sources = list_input(settings, output, watch)
    check_readable(place, sources, "input.path")
    kinds = {file_kind(source.relative): source for source in sources}
    if len({kind[0] for kind in kinds if kind}) > 1:
        shown = ", ".join(sorted(source.relative for source in kinds.values())[:3])
        raise ConfigError(
            f"input.path holds both JSONL and Parquet ({shown}); name one kind with a glob"
        )
    names = settle_partition_columns(settings, sources, fixed_schema, reserved)
    sizes = _measure_compressed(place, sources, earlier, watch)
    splits: list[InputSplit] = []
    schemas: list[tuple[str, pa.Schema]] = []
    for source in sources:
        splits.extend(
            split_file(
                source,
                int(settings.split_bytes),
                parquet=_read_parquet_header(place, source, schemas, watch),
                text_column=settings.text_column,
                content_bytes=sizes.get(source.relative),
            )
        )
    if schemas:
        schema = _merge_schemas(schemas, settings, fixed_schema, reserved)
    else:
        schema = _sample_schema(place, splits, settings, fixed_schema, reserved)
    if fixed_schema is None:
        check_doubled(schemas, names)
        schema = mark_partition_columns(schema, names)
    return Plan(splits, len(sources), schema)


def check_places(settings: InputConfig, output: Storage) -> None:
    """Refuse an input that lies under the output.

    Raises:
        ConfigError: As said.
    """
    for path in settings.paths:
        place = Storage(path, settings.storage_options)
        same = type(place.filesystem) is type(output.filesystem)
        if same and is_below(place.root, output.root):
            raise ConfigError(
                f"input.path={path!r} lies under output.path={output.url!r}; "
                "give the output a directory of its own"
            )


def _measure_compressed(
    place: Storage,
    sources: Sequence[SourceFile],
    earlier: Sequence[InputSplit],
    watch: PhaseWatch,
) -> dict[str, int]:
    """Decompressed bytes of each compressed JSONL file that is sound, by relative path."""
    known: dict[tuple[str, int, str], int] = {}
    for split in earlier:
        if split.compression is not None and split.stop != WHOLE_FILE:
            # Splits come in order, so the last one's end is the file's.
            known[split.relative, split.file_size, split.etag] = split.stop
    sizes: dict[str, int] = {}
    unknown = []
    for source in sources:
        if (kind := file_kind(source.relative)) is None or kind[0] != "jsonl" or kind[1] is None:
            continue
        size = known.get((source.relative, source.size, source.etag))
        if size is None:
            unknown.append(source)
        else:
            sizes[source.relative] = size
    if unknown:
        logger.info(
            "measuring %d compressed files of %d bytes",
            len(unknown),
            sum(source.size for source in unknown),
        )
    with ThreadPoolExecutor(MEASURED_AT_ONCE) as threads:
        measured = threads.map(lambda source: _measure(place, source, watch), unknown)
        for source, size in zip(unknown, measured, strict=True):
            if size is not None:
                sizes[source.relative] = size
    return sizes


def _measure(place: Storage, source: SourceFile, watch: PhaseWatch) -> int | None:
    kind = file_kind(source.relative)
    assert kind is not None, "only files of a known kind are measured"
    assert kind[1] is not None, "only compressed files are measured"
    with (
        watch.call(f"measure {source.path}"),
        open_source(place, source.path, source.size) as opened,
    ):
        watched = WatchedFile(opened, watch.go_on)
        try:
            return measure_content(watched, kind[1])
        except (EOFError, OSError, zlib.error, pa.ArrowException) as error:
            if watched.failed:
                raise
            # Its worker will find the same and write the file-level quarantine record.
            logger.warning("%s is damaged: %s", source.relative, error)
            return None


def _read_parquet_header(
    place: Storage,
    source: SourceFile,
    schemas: list[tuple[str, pa.Schema]],
    watch: PhaseWatch,
) -> pq.FileMetaData | None:
    """The file's metadata, its schema added to `schemas`; None where there is none to read."""
    kind = file_kind(source.relative)
    if kind is None or kind[0] != "parquet":
        return None
    with (
        watch.call(f"read the schema of {source.path}"),
        open_source(place, source.path, source.size) as stream,
    ):
        watched = WatchedFile(stream, watch.go_on)
        try:
            content = watched if kind[1] is None else unpack(watched, kind[1])
            file = open_parquet(content)
        except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
            if watched.failed:
                raise
            # Its worker will find the same and write the file-level quarantine record.
            logger.warning("%s is damaged: %s", source.relative, error)
            return None
        schemas.append((source.relative, file.schema_arrow.remove_metadata()))
        return file.metadata if kind[1] is None else None


def _merge_schemas(
    schemas: Sequence[tuple[str, pa.Schema]],
    settings: InputConfig,
    fixed: pa.Schema | None,
    reserved: Collection[str],
) -> pa.Schema:
    """One schema for all files: equal types by name; a column that a file lacks is null there."""
    for name, schema in schemas:
        check_columns(schema.names, reserved)
        _check_text_column(schema, settings.text_column, name)
    merged = {field.name: field for field in (schemas[0][1] if fixed is None else fixed)}
    for name, schema in schemas:
        for field in schema:
            known = merged.get(field.name)
            if known is None and fixed is not None:
                raise ConfigError(
                    f"input file {name} has the new column {field.name!r}, which this output's "
                    "schema lacks; compress it into another output.path"
                )
            if known is None:
                merged[field.name] = field
            elif known.type != field.type:
                raise ConfigError(
                    f"input column {field.name!r} is {field.type} in {name} but {known.type} in "
                    f"{schemas[0][0]}; compress the two kinds of file in two runs"
                )
    return pa.schema([field.with_nullable(True) for field in merged.values()])


def _check_text_column(schema: pa.Schema, text_column: str, name: str) -> None:
    if text_column not in schema.names:
        raise ConfigError(
            f"input file {name} has no column {text_column!r}, only {', '.join(schema.names)}; "
            "set input.text_column"
        )
    kind = schema.field(text_column).type
    if not is_text_type(kind):
        raise ConfigError(
            f"input.text_column={text_column!r} is {kind} in {name}; it must hold strings"
        )


def _sample_schema(
    place: Storage,
    splits: Sequence[InputSplit],
    settings: InputConfig,
    fixed: pa.Schema | None,
    reserved: Collection[str],
) -> pa.Schema:
    """The columns of JSONL records, and the checks that need a look at some of them."""
    firsts = [split for split in splits if split.kind == "jsonl" and split.start == 0]
    step = max(1, -(-len(firsts) // SAMPLE_FILES))
    sample = list(
        itertools.chain.from_iterable(
            iterate_sample(place, split, SAMPLE_BYTES) for split in firsts[::step]
        )
    )
    schema = infer_schema(sample, settings.text_column)
    names = [name for name in schema.names if name != EXTRA_JSON]
    check_columns([*dict.fromkeys(key for record in sample for key in record)], reserved)
    if sample and not any(settings.text_column in record for record in sample):
        raise ConfigError(
            f"no sampled record has the key {settings.text_column!r}, only "
            f"{', '.join(names[:10])}; set input.text_column"
        )
    if fixed is not None:
        return fixed
    if settings.text_column not in names:
        schema = schema.insert(0, pa.field(settings.text_column, pa.string()))
    return schema
