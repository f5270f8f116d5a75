"""Documents that are no run's output: of an input file or directory, a text file, or stdin."""

import sys
from collections.abc import Iterator

from moos.errors import ConfigError
from moos.listing import SourceFile, list_sources
from moos.parquet_files import open_parquet
from moos.pieces import read_pieces
from moos.ranged_file import open_source
from moos.record_parser import RecordParser
from moos.records import BadRecord, RecordGroup
from moos.source_files import WatchedFile, name_damage, unpack
from moos.splits import Compression, file_kind, split_file
from moos.storage import Storage
from moos.text_columns import is_text_type
from pipelines.config import InputConfig
from pipelines.show_choice import MAX_IDS, Choice, Found, no_such_id, no_such_position, title_of

STDIN = "-"
MAX_TEXT_BYTES = 256 << 20
WHOLE = 1 << 62
"""Bytes of a split that no file reaches: each file is one split."""


def find_inputs(settings: InputConfig, choice: Choice) -> list[Found]:
    """The documents chosen, read no further than needed.

    Args:
        settings: Whose `path` is a file or directory of documents, a text file, or `-`.
        choice: Which documents.

    Raises:
        ConfigError: There is no such document, or the file is neither text nor documents.
        DataError: A file is damaged.
    """
    (path,) = settings.paths
    if path == STDIN:
        return [_whole_text("stdin", sys.stdin.buffer.read(MAX_TEXT_BYTES + 1), choice)]
    sources = list_sources([path], settings.storage_options, retries=settings.retries, key="SOURCE")
    storage = Storage(path, settings.storage_options, retries=settings.retries)
    readable = [source for source in sources if file_kind(source.relative) is not None]
    if not readable and len(sources) == 1 and sources[0].path == storage.root:
        return [_whole_text(path, _read_text(storage, sources[0]), choice)]
    if not readable:
        raise ConfigError(
            f"{path} holds no .parquet, .jsonl, .ndjson or .json file (also .gz, .zst); "
            f"{len(sources)} other files are there: name one of them to show it as a text"
        )
    return _choose(path, settings, choice, _read_groups(storage, readable, settings))


def _read_text(storage: Storage, source: SourceFile) -> bytes:
    with open_source(storage, source.path, source.size) as stream:
        return bytes(stream.read(MAX_TEXT_BYTES + 1))


def _whole_text(name: str, data: bytes, choice: Choice) -> Found:
    if choice.id is not None or choice.position not in (None, 0):
        raise ConfigError(f"{name} is one text: leave out --id and --position")
    if len(data) > MAX_TEXT_BYTES:
        raise ConfigError(f"{name} is longer than {MAX_TEXT_BYTES} bytes; show a part of it")
    at = data.find(b"\0")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = at if at >= 0 else error.start
    if at >= 0:
        raise ConfigError(
            f"{name} is no text: byte {data[at]:#04x} at {at} (moos show takes UTF-8 text, "
            ".jsonl, .ndjson, .json, .parquet, also .gz or .zst, or the output.path of a run)"
        )
    return Found(name, text)


Read = tuple[str, RecordGroup]
"""A file's relative path, and some of its records."""


def _read_groups(
    storage: Storage, sources: list[SourceFile], settings: InputConfig
) -> Iterator[Read]:
    parser = RecordParser(
        settings.text_column, settings.id_column, settings.max_document_chars, frozenset()
    )
    for source in sources:
        kind = file_kind(source.relative)
        if kind is not None and kind[0] == "parquet":
            _check_columns(storage, source, kind[1], settings.text_column)
        splits = list(split_file(source, WHOLE, text_column=settings.text_column))
        for split in splits:
            for _, piece in read_pieces(storage, [split], settings.text_column):
                if piece is not None:
                    yield source.relative, parser.parse(piece)


def _check_columns(
    storage: Storage, source: SourceFile, compression: Compression | None, text_column: str
) -> None:
    with open_source(storage, source.path, source.size) as stream:
        watched = WatchedFile(stream)
        with name_damage(watched, source.relative):
            content = watched if compression is None else unpack(watched, compression)
            schema = open_parquet(content).schema_arrow
    if {"compressed_text", "kept_spans"} <= set(schema.names):
        raise ConfigError(
            f"{source.relative} is a data file of a run; give the run's output.path, the directory "
            "that holds manifest.json"
        )
    if text_column not in schema.names or not is_text_type(schema.field(text_column).type):
        raise ConfigError(
            f"{source.relative} has no column {text_column!r} of strings, only "
            f"{', '.join(schema.names[:10])}; set input.text_column=NAME"
        )


def _choose(
    path: str, settings: InputConfig, choice: Choice, groups: Iterator[Read]
) -> list[Found]:
    """The documents chosen of what is read."""
    column = settings.id_column or "id"
    found: list[Found] = []
    ids: list[str] = []
    bad: list[BadRecord] = []
    position = 0
    for relative, group in groups:
        for record in group.bad:
            if not bad or _is_named(record, choice):
                bad.append(record)
        values = group.values(column)
        for text, id_ in zip(group.texts, values, strict=True):
            if choice.wants(position, id_):
                found.append(Found(title_of(relative, position, id_), text))
                if len(found) == choice.count:
                    return found
            if id_ is not None and len(ids) < MAX_IDS:
                ids.append(str(id_))
            position += 1
    if not found:
        raise _missing(path, choice, position, ids, bad)
    return found


def _is_named(record: BadRecord, choice: Choice) -> bool:
    return choice.id is not None and record.id == choice.id


def _missing(
    path: str, choice: Choice, count: int, ids: list[str], bad: list[BadRecord]
) -> ConfigError:
    """Why there is no document as chosen.

    Args:
        path: Where it was looked for.
        choice: The document.
        count: Documents there.
        ids: Ids of these.
        bad: The first record that cannot be read, and those of the id that was chosen.
    """
    for record in bad:
        if _is_named(record, choice):
            return ConfigError(
                f"the document with id {choice.id!r} cannot be compressed: {record.reason}"
            )
    if bad and count == 0:
        return ConfigError(f"{path} holds no document that can be read; first: {bad[0].reason}")
    if choice.id is None:
        return no_such_position(path, choice.position or 0, count)
    if count and not ids:
        return ConfigError("--id needs input.id_column=NAME, or a column named id")
    return no_such_id(path, choice.id, ids)
