"""What can be read is a row; what cannot is kept raw, with its reason; bad file, or bad disk."""

import gzip
import io
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moos.json_columns import iterate_sample
from moos.pieces import RunReader
from moos.record_parser import RecordParser
from moos.source_files import DamagedFileError
from moos.splits import WHOLE_FILE, InputSplit, file_kind
from moos.storage import Storage
from moos.text_columns import text_bytes


@pytest.fixture
def read(tmp_path):
    """`read("docs.jsonl", data)`: the groups of a file read as one split."""

    def run(name, data, *, id_column="id", limit=100, source=None):
        path = tmp_path / name
        path.write_bytes(data)
        parser = RecordParser("text", id_column, limit)
        return read_groups(source or Storage(str(tmp_path)), whole(path), parser)

    return run


def read_groups(source, split, parser):
    """The groups of a split, read alone."""
    reader = RunReader(source, [split], parser.text_column)
    return [parser.parse(piece) for piece in reader.read(split)]


def whole(path) -> InputSplit:
    kind, compression = file_kind(path.name)
    size = path.stat().st_size
    stop = size if kind == "jsonl" and compression is None else WHOLE_FILE
    return InputSplit("s", str(path), path.name, kind, compression, 0, stop, size, size, "e")


def only_bad(groups):
    (group,) = groups
    assert group.texts == []
    (bad,) = group.bad
    return bad


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "line is not a JSON object: it is no JSON"),
        (b'"a", he said', "line is not a JSON object: it is no JSON"),
        (b'{"text": "a"', "not a JSON object"),
        (b'{"text": "a"} {"text": "b"}', "more than one value"),
        (b'{"text": "a",}', "a key was expected"),
        (b"{'text': 'a'}", "a key was expected"),
        (
            b'["text"]',
            "line is not a JSON object: it begins like an array (a JSON array? give one object a "
            "line: jq -c '.[]' FILE)",
        ),
        (b'"text"', "line is not a JSON object: it is a string"),
        (b"-7.5", "line is not a JSON object: it is a number"),
        (b"true", "line is not a JSON object: it is true"),
        (b"null", "line is not a JSON object: it is null"),
        (b'{"text": null}', "'text' is null"),
        (b'{"body": "a"}', "no key 'text'"),
        (b"{}", "no key 'text'"),
        (b'{"Text": "a"}', "no key 'text'"),
        (b'{"text": 7}', "'text' is int, not a string"),
        (b'{"text": ["a"]}', "'text' is list, not a string"),
        (b'{"text": "caf\xe9"}', "not valid UTF-8"),
        (b'\xff\xfe{\x00"\x00', "not valid UTF-8"),
        (b'{"text": "a \\ud83d b"}', "lone surrogate U+D83D at character 2"),
        (b'{"text": "a\tb"}'.replace(b"\t", b"\x00"), "not a JSON object"),  # a bare control byte
        (b'{"text": "' + b"x" * 101 + b'"}', "longer than input.max_document_chars=100"),
        (b'{"text": "a", "compressed_text": "b"}', "named like a column that moos adds"),
        (b'{"text": "a", "extra_json": "b"}', "named like a column that moos adds"),
        (b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not a JSON object"),
        (b'{"text": "a", "n": ' + b"[" * 100_000, "not a JSON object"),
        (b'{"text": "a", "text": 5}', "'text' is int"),  # of equal keys the last counts
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_bad_line_keeps_its_bytes_and_says_why(read, line, reason):
    good = b'{"id": "before", "text": "a"}\n'
    (group,) = read("docs.jsonl", good + line + b"\r\n" + good)
    assert group.texts == ["a", "a"]
    (bad,) = group.bad
    assert reason in bad.reason
    assert (bad.raw, bad.raw_format, bad.position) == (line, "line", len(good))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"text": ""}', ""),
        (b'{"text": "a", "score": NaN, "top": -Infinity}', "a"),
        (b'{"text": 5, "text": "b"}', "b"),  # of equal keys the last counts
        (b'{"text": "a", "n": ' + b"9" * 400 + b"}", "a"),
        (b' \t{ "text" : "a" } \t', "a"),
        (b'{"text": "\\ud83d\\ude00"}', "\U0001f600"),  # a whole surrogate pair is a character
        ('{"text": "a\u2028b\u0085c"}'.encode(), "a\u2028b\u0085c"),
        (b'{"text": "\\u0000"}', "\x00"),
        (b'{"\\u0074ext": "a"}', "a"),
        (b'{"text": "' + b"x" * 100 + b'"}', "x" * 100),
        (b'{"text": "a", "deep": ' + b"[" * 200 + b"]" * 200 + b"}", "a"),
        (b'{"text": "a", "half": "\\udc00"}', "a"),  # only the text must be valid Unicode
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_an_odd_but_sound_line_is_a_row(read, line, text):
    (group,) = read("docs.jsonl", line + b"\n")
    assert group.texts == [text]
    assert group.bad == []
    assert group.lines == [line.strip()]


def test_blank_lines_are_no_records(read):
    (group,) = read("docs.jsonl", b'\n  \n\t\r\n{"text": "a"}\n\r\n   ')
    assert group.texts == ["a"]
    assert group.bad == []
    (blank,) = read("docs.jsonl", b"\n\n")
    assert (blank.texts, blank.bad) == ([], [])


def test_a_byte_order_mark_is_no_part_of_the_first_record(read):
    (group,) = read("docs.jsonl", b'\xef\xbb\xbf{"text": "a"}\n\xef\xbb\xbf{"text": "b"}\n')
    assert group.texts == ["a"]
    assert "not a JSON object" in group.bad[0].reason  # elsewhere it is no white space


@pytest.mark.parametrize(
    ("id_json", "id_"),
    [('"x7"', "x7"), ("7", "7"), ("null", None), ('{"a": [1]}', '{"a": [1]}'), ("1.50", "1.50")],
)
def test_a_bad_record_carries_its_id(read, id_json, id_):
    line = f'{{"id": {id_json}, "text": null}}\n'.encode()
    assert only_bad(read("docs.jsonl", line)).id == id_


def test_groups_are_bounded_and_lose_nothing(read):
    lines = [json.dumps({"text": str(i) + " " + "x" * 90}).encode() for i in range(8000)]
    groups = read("docs.jsonl", b"\n".join(lines))
    assert len(groups) > 2
    assert [line for group in groups for line in group.lines] == lines
    assert sum(group.num_bytes for group in groups) == sum(map(len, lines)) + len(lines) - 1


def parquet(table: pa.Table, **options) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def invalid_utf8() -> pa.Array:
    """A string column whose second value is no UTF-8, as careless writers make them."""
    raw = pa.array([b"good", b"caf\xe9 bad", b"good too"])
    return pa.Array.from_buffers(pa.string(), 3, raw.buffers())


TEXT_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.string()),
]


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_every_string_type_can_hold_the_text(read, kind):
    values = ["one", None, "", "o" * 101, "düo", "one"]
    column = pa.array(values, pa.string()).cast(kind)
    table = pa.table({"id": list("abcdef"), "text": column})
    (group,) = read("docs.parquet", parquet(table))
    assert group.texts == ["one", "", "düo", "one"]
    assert group.positions == [0, 2, 4, 5]
    assert group.batch.column("id").to_pylist() == ["a", "c", "e", "f"]
    assert [(bad.position, bad.id) for bad in group.bad] == [(1, "b"), (3, "d")]
    assert "null" in group.bad[0].reason
    assert "longer than" in group.bad[1].reason


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_text_bytes_does_not_decode(kind):
    assert text_bytes(pa.array(["é", None, ""]).cast(kind)) == ["é".encode(), None, b""]
    assert text_bytes(pa.array(["x", "é", None]).cast(kind).slice(1)) == ["é".encode(), None]


def test_a_parquet_text_that_is_no_utf8_is_quarantined_with_its_row(read):
    table = pa.table({"id": ["a", "b", "c"], "text": invalid_utf8()})
    (group,) = read("docs.parquet", parquet(table))
    assert group.texts == ["good", "good too"]
    (bad,) = group.bad
    assert (bad.position, bad.id, bad.raw_format) == (1, "b", "arrow")
    assert "not valid UTF-8" in bad.reason
    row = pa.ipc.open_stream(bad.raw).read_all()
    assert row.column("text").cast(pa.binary()).to_pylist() == [b"caf\xe9 bad"]
    assert row.column("id").to_pylist() == ["b"]


def test_an_id_that_is_no_utf8_does_not_hide_the_record(read):
    table = pa.table({"id": invalid_utf8(), "text": ["a", None, "c"]})
    (group,) = read("docs.parquet", parquet(table))
    assert [(bad.position, bad.id) for bad in group.bad] == [(1, None)]


def test_positions_of_a_later_row_group_count_from_the_start_of_the_file(tmp_path):
    path = tmp_path / "docs.parquet"
    pq.write_table(pa.table({"text": [None, "b", "c", None]}), path, row_group_size=2)
    size = path.stat().st_size
    split = InputSplit("s", str(path), path.name, "parquet", None, 2, 4, 10, size, "e")
    (group,) = read_groups(Storage(str(tmp_path)), split, RecordParser("text", None, 10))
    assert group.positions == [2]
    assert [bad.position for bad in group.bad] == [3]


LINES = b"".join(b'{"text": "%d %s"}\n' % (i, bytes(str(i * 7919), "ascii")) for i in range(5000))


def zst(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


SOUND = {"docs.jsonl.gz": gzip.compress(LINES, mtime=0), "docs.jsonl.zst": zst(LINES)}


@pytest.mark.parametrize("name", SOUND)
def test_a_compressed_file_reads_like_a_plain_one(read, name):
    plain = [line for group in read("docs.jsonl", LINES) for line in group.lines]
    assert [line for group in read(name, SOUND[name]) for line in group.lines] == plain


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (
            "docs.jsonl.gz",
            gzip.compress(LINES[:100], mtime=0) + gzip.compress(LINES[100:], mtime=0),
        ),
        ("docs.jsonl.zst", zst(LINES[:100]) + zst(LINES[100:])),
    ],
)
def test_compressed_files_written_end_to_end_are_read_to_the_end(read, name, data):
    assert sum(len(group.lines) + len(group.bad) for group in read(name, data)) in (5000, 5001)
    assert b"".join(line + b"\n" for g in read("a.jsonl", LINES) for line in g.lines) == LINES


DAMAGED = {
    "truncated.jsonl.gz": SOUND["docs.jsonl.gz"][:-900],
    "cut-trailer.jsonl.gz": SOUND["docs.jsonl.gz"][:-4],
    "wrong-checksum.jsonl.gz": SOUND["docs.jsonl.gz"][:-8] + b"\0" * 8,
    "not-gzip.jsonl.gz": b"hello, this is no gzip file",
    "truncated.jsonl.zst": SOUND["docs.jsonl.zst"][:-900],
    "not-zstd.jsonl.zst": b"hello, this is no zstd file",
    "empty.parquet": b"",
    "not-parquet.parquet": b"PAR1 hello, this is no Parquet file PAR1",
    "truncated.parquet": parquet(pa.table({"text": ["a"] * 100}))[:-50],
    "broken-pages.parquet": parquet(pa.table({"text": [str(i) for i in range(5000)]})),
}
_pages = bytearray(DAMAGED["broken-pages.parquet"])
_pages[4:3000] = b"\xff" * 2996
DAMAGED["broken-pages.parquet"] = bytes(_pages)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_broken_file_is_damaged(read, name):
    with pytest.raises(DamagedFileError, match=name):
        read(name, DAMAGED[name])


class _BadFilesystem:
    """A remote store that answers so many requests and fails every other."""

    def __init__(self, data: bytes, good_reads: int) -> None:
        self._data = data
        self._left = good_reads

    def cat_file(self, path, start=None, end=None):
        self._left -= 1
        if self._left < 0:
            raise OSError(5, "Input/output error")
        return self._data[start:end]


@pytest.fixture
def bad_source():
    """`bad_source(data, 1)`: a place whose store fails after one request, tried once."""

    def make(data, good_reads):
        source = Storage("memory://nowhere", retries=0)
        source.filesystem = _BadFilesystem(data, good_reads)
        return source

    return make


# More than one buffer of each reader, compressed or not.
_NOISE = [random.Random(i).randbytes(500).hex() for i in range(3000)]
LARGE = {
    "docs.jsonl": b"".join(b'{"text": "%s"}\n' % text.encode() for text in _NOISE),
    "docs.parquet": parquet(pa.table({"text": _NOISE})),
}
LARGE["docs.jsonl.gz"] = gzip.compress(LARGE["docs.jsonl"], 1, mtime=0)
LARGE["docs.jsonl.zst"] = zst(LARGE["docs.jsonl"])


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("good_reads", [0, 1])
def test_an_error_of_the_storage_is_not_called_damage(read, bad_source, name, good_reads):
    with pytest.raises(OSError, match="Input/output error"):
        read(name, LARGE[name], source=bad_source(LARGE[name], good_reads))


@pytest.mark.parametrize("name", DAMAGED)
def test_a_broken_file_of_a_store_that_answers_is_damaged(read, bad_source, name):
    with pytest.raises(DamagedFileError, match=name):
        read(name, DAMAGED[name], source=bad_source(DAMAGED[name], 99))


@pytest.mark.parametrize("name", LARGE)
def test_a_store_that_answers_is_read_to_the_end(read, bad_source, name):
    groups = read(name, LARGE[name], source=bad_source(LARGE[name], 99), limit=2000)
    assert [text for group in groups for text in group.texts] == _NOISE


def test_a_sample_leaves_out_what_is_bad_and_stops_at_its_limit(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\nnope\n[1]\n\xff\n{"text": "b"}\n{"text": "c"}\n')
    sample = iterate_sample(Storage(str(tmp_path)), whole(path), 37)
    assert [record["text"] for record in sample] == ["a", "b"]


def test_a_sample_of_a_damaged_file_is_what_could_be_read(tmp_path):
    path = tmp_path / "docs.jsonl.gz"
    path.write_bytes(DAMAGED["truncated.jsonl.gz"])
    assert list(iterate_sample(Storage(str(tmp_path)), whole(path), 50))
    path.write_bytes(b"no gzip at all")
    assert list(iterate_sample(Storage(str(tmp_path)), whole(path), 50)) == []
