"""The reader of JSONL, from splits of a file to records: however it is cut, the same records.

A case: one byte chooses the file's compression, or that the bytes are the compressed file itself;
two the size of splits; one the longest text; the rest is the content. Limits that are hundreds of
megabytes in production are some bytes here.
"""

import atexit
import functools
import gzip
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa

from moos import pieces, source_files
from moos.json_columns import MAX_NESTING, build_columns, infer_schema
from moos.listing import SourceFile
from moos.pieces import RawPiece, RunReader, read_pieces
from moos.record_parser import RecordParser
from moos.schema import EXTRA_JSON, RESERVED_COLUMNS
from moos.source_files import DamagedFileError, WatchedFile, measure_content
from moos.splits import InputSplit, split_file
from moos.storage import Storage
from tests.fuzz.choices import Choices

LINE_BYTES, LINE_START, PIECE_BYTES = 160, 16, 48
FORMS = ("", ".gz", ".zst", "raw.gz", "raw.zst")
BOM = b"\xef\xbb\xbf"
OTHER_FORMATS = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1")
"""How content begins that is none of lines, whatever its file is called."""

_LINES = [
    b'{"id": "a", "text": "One two."}\n{"id": 2, "text": "Three \\u00e9 \\ud83d\\ude00"}\n',
    BOM + b'{"text": "x"}\r\n\r\n \t\n{"text": null}\n{"text": 5}\n{"other": 1}\nnot json\n[1]\n',
    b'{"text": "a", "text": "b", "n": 1e400, "f": NaN, "g": -Infinity, "h": 12345678901234567890}',
    b'{"text": "\\ud800"}\n{"text": "\xff"}\n{"text": "\xed\xa0\x80"}\n{"compressed_text": 1}\n',
    b'{"text": "\xe2\x80\xa8", "l": [1, {"a": []}], "b": true, "\\ud800": 1, "e": 0.1, "z": -0.0}',
    b'{"text": "long"' + b" " * 200 + b"}\n\n\n" + b"x" * 159 + b"\n" + b"y" * 160 + b"\n{}",
    b'{"text": "x", "deep": ' + b"[" * 20 + b"]" * 20 + b'} {"text": "two"}\n{"text": "",}\n',
]
SEEDS = (
    *(bytes([form, 0, size, 1]) + line for form in range(3) for size in (6, 40) for line in _LINES),
    bytes([3, 0, 9, 1]) + gzip.compress(_LINES[0], mtime=0),
    bytes([4, 0, 9, 1]) + pa.compress(_LINES[0], codec="zstd", asbytes=True),
)
DICTIONARY = (
    *(b'"text"', b'"id"', b'"text": "', b'{"text": "', b'"}\n', b"\r\n", b"\n\n", BOM, b"NaN"),
    *(b"Infinity", b"-Infinity", b"1e400", b"null", b"true", b"\\ud800", b"\\u0000", b'\\"', b"[["),
    *(b'"compressed_text"', b'"extra_json"', b"\xed\xa0\x80", b"\xc0\xaf", b"\xe2\x80\xa8", b"-0"),
)

Record = tuple[str, int, bytes, str]
"""Good or bad, position, raw bytes, and the text or the raw bytes' format."""


def check(data: bytes) -> None:
    """One case; raises where the reader breaks a promise."""
    choices = Choices(data)
    form, split_bytes = choices.pick(FORMS), choices.number(1, 300)
    parser = RecordParser("text", "id", choices.pick((8, 10_000)))
    content = choices.rest()
    with (
        mock.patch.object(source_files, "MAX_LINE_BYTES", LINE_BYTES),
        mock.patch.object(source_files, "LINE_START_BYTES", LINE_START),
        mock.patch.object(pieces, "PIECE_BYTES", PIECE_BYTES),
    ):
        source = _write(form.removeprefix("raw"), content, is_raw=form.startswith("raw"))
        is_misnamed = not form.startswith("raw") and content.startswith(OTHER_FORMATS)
        try:
            _check_file(source, split_bytes, parser, None if form.startswith("raw") else content)
        except DamagedFileError:
            assert form.startswith("raw") or is_misnamed, "an undamaged file was called damaged"
        else:
            assert not is_misnamed, "gzip, zstd or Parquet was read as lines"


def _check_file(
    source: SourceFile, split_bytes: int, parser: RecordParser, content: bytes | None
) -> None:
    storage = Storage(str(_directory()))
    size = _measure(source)
    whole = list(split_file(source, max(1, size), content_bytes=size))
    splits = list(split_file(source, split_bytes, content_bytes=size))
    assert sum(split.stop - split.start for split in splits) == size
    if not size:
        assert splits == whole == []
        return
    at_once, groups = _read(parser, _pieces(storage, whole))
    if content is not None:
        assert size == len(content)
        assert at_once == list(_expect(content, parser))
    alone = [_read(parser, _pieces(storage, [split]))[0] for split in splits]
    assert sorted(itertools.chain(*alone)) == at_once
    reader = RunReader(storage, splits, "text")
    assert [_read(parser, reader.read(split))[0] for split in splits] == alone
    _check_columns([fields for group in groups for fields in group.fields])


def _pieces(storage: Storage, splits: list[InputSplit]) -> Iterator[RawPiece]:
    found = list(read_pieces(storage, splits, "text"))
    assert found[-1][1] is None, "the end of a split is told"
    return iter([piece for _, piece in found if piece is not None])


def _read(parser: RecordParser, read: Iterator[RawPiece]) -> tuple[list[Record], list[Any]]:
    records: list[Record] = []
    groups = [parser.parse(piece) for piece in read]
    for group in groups:
        rows = zip(group.positions, group.lines, group.texts, strict=True)
        records += [("good", position, line, text) for position, line, text in rows]
        records += [("bad", bad.position, bad.raw, bad.raw_format) for bad in group.bad]
    return sorted(records), groups


def _expect(content: bytes, parser: RecordParser) -> Iterator[Record]:
    """What the format says of a file's records, without a line of the product: in order."""
    records: list[Record] = []
    position = 0
    for line in _lines(content):
        is_long = len(line) > LINE_BYTES or (len(line) == LINE_BYTES and line[-1:] != b"\n")
        own = line.removesuffix(b"\n").removesuffix(b"\r")
        own = own.removeprefix(BOM) if position == 0 else own
        if is_long:
            records.append(("bad", position, line[:LINE_START], "line_start"))
        elif own.strip(b" \t\r"):
            text = _text_of(own, parser)
            if text is None:
                records.append(("bad", position, own, "line"))
            else:
                records.append(("good", position, own.strip(b" \t\r"), text))
        position += len(line)
    return iter(sorted(records))


def _lines(content: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in content.split(b"\n")]
    return [*lines[:-1], lines[-1][:-1]]


def _text_of(line: bytes, parser: RecordParser) -> str | None:
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or _depth(record) > MAX_NESTING:
        return None
    text = record.get("text")
    if record.keys() & set(RESERVED_COLUMNS) or not isinstance(text, str):
        return None
    is_valid = not any("\ud800" <= character <= "\udfff" for character in text)
    return text if is_valid and len(text) <= parser.max_document_chars else None


def _depth(value: Any) -> int:
    """Levels of objects and lists, without recursion."""
    depth, level = 0, [value]
    while level:
        inner = [part for part in level if isinstance(part, dict | list)]
        depth += bool(inner)
        level = [
            child for part in inner for child in (part.values() if isinstance(part, dict) else part)
        ]
    return depth


def _check_columns(rows: list[Any]) -> None:
    """Typed columns and the raw JSON beside them hold every value, exactly."""
    if not rows:
        return
    values = [{key: field.value for key, field in row.items()} for row in rows]
    schema = infer_schema(values[: len(values) // 2 + 1], "text")
    columns = dict(zip(schema.names, build_columns(rows, schema), strict=True))
    extras = columns.pop(EXTRA_JSON).to_pylist()
    for place, (value, extra) in enumerate(zip(values, extras, strict=True)):
        held = {name: column[place].as_py() for name, column in columns.items()}
        held = {name: part for name, part in held.items() if part is not None}
        beside = json.loads(extra) if extra is not None else {}
        assert not held.keys() & beside.keys(), "a value is held once"
        expected = {name: repr(part) for name, part in value.items() if part is not None}
        found = {name: repr(part) for name, part in {**held, **beside}.items()}
        # A float column holds a whole number that it can hold exactly.
        for name in held.keys() & expected.keys():
            if isinstance(held[name], float) and isinstance(value[name], int):
                assert held[name] == value[name]
                expected[name] = found[name]
        assert found == expected


@functools.cache
def _directory() -> Path:
    path = Path(tempfile.mkdtemp(prefix="moos-fuzz-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _write(suffix: str, content: bytes, *, is_raw: bool) -> SourceFile:
    name = f"docs.jsonl{suffix}"
    if not is_raw and suffix == ".gz":
        content = gzip.compress(content, compresslevel=1, mtime=0)
    elif not is_raw and suffix == ".zst":
        content = pa.compress(content, codec="zstd", asbytes=True)
    path = _directory() / name
    path.write_bytes(content)
    return SourceFile(str(path), name, len(content), "etag")


def _measure(source: SourceFile) -> int:
    if source.relative.endswith(".jsonl"):
        return source.size
    with open(source.path, "rb", buffering=0) as file:
        watched = WatchedFile(file)
        with source_files.name_damage(watched, source.relative):
            return measure_content(watched, "gz" if source.path.endswith(".gz") else "zst")
