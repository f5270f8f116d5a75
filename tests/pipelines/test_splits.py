"""Splits cover the input once, on a grid that does not move."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos.errors import ConfigError
from moos.listing import SourceFile
from moos.pieces import RunReader
from moos.record_parser import RecordParser
from moos.splits import (
    WHOLE_FILE,
    InputSplit,
    file_kind,
    group_by_file,
    split_file,
    splits_from_table,
    splits_to_table,
)
from moos.storage import Storage

BOM = b"\xef\xbb\xbf"
LINE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(
        lambda text: json.dumps({"text": text}, ensure_ascii=False).encode()
    ),
    st.sampled_from(
        [b"", b"\r", b"  ", b'{"text": "a\xe2\x80\xa8b\xe2\x80\xa9c\xc2\x85"}', b"{", b"\xff"]
    ),
)


def split_bytes_of(data: bytes, split_bytes: int) -> list[InputSplit]:
    source = SourceFile("/docs.jsonl", "docs.jsonl", len(data), "e")
    return list(split_file(source, split_bytes))


def read_lines(data: bytes, split: InputSplit) -> list[tuple[int, bytes]]:
    """Every record of a split by position, good or bad, as its raw line."""
    source = Storage("memory://")
    source.filesystem.pipe_file(split.path, data)
    parser = RecordParser("text", None, 1000)
    found = []
    for group in map(parser.parse, RunReader(source, [split], "text").read(split)):
        found.extend(zip(group.positions, group.lines, strict=True))
        found.extend((bad.position, bad.raw) for bad in group.bad)
    return sorted(found)


@given(
    st.lists(st.tuples(LINE, st.sampled_from([b"\n", b"\r\n"])), max_size=12),
    st.booleans(),
    st.booleans(),
    st.integers(1, 40),
)
def test_every_line_belongs_to_exactly_one_split(lines, with_bom, final_newline, split_bytes):
    data = b"".join(line + end for line, end in lines)
    if not final_newline:
        data = data.removesuffix(b"\n")
    data = BOM + data if with_bom else data
    expected, at = [], 0
    for line in data.split(b"\n"):
        content = line.removeprefix(BOM) if at == 0 else line
        if content.strip(b" \t\r"):
            expected.append((at, content.strip(b" \t\r")))
        at += len(line) + 1
    splits = split_bytes_of(data, split_bytes)
    found = [item for split in splits for item in read_lines(data, split)]
    assert [(at, raw.strip(b" \t\r")) for at, raw in found] == expected
    assert sum(split.size for split in splits) == len(data)


def test_a_line_belongs_to_the_split_of_its_first_byte():
    data = b'{"text": "aaaa"}\n{"text": "bbbb"}\n'  # 17 bytes each
    assert [at for at, _ in read_lines(data, split_bytes_of(data, 17)[0])] == [0]
    assert [at for at, _ in read_lines(data, split_bytes_of(data, 17)[1])] == [17]
    first, second, third = split_bytes_of(data, 16)
    assert [at for at, _ in read_lines(data, first)] == [0]
    assert [at for at, _ in read_lines(data, second)] == [17]
    assert read_lines(data, third) == []


def test_one_line_longer_than_many_splits_is_read_once():
    data = b'{"text": "' + b"x" * 500 + b'"}\n{"text": "y"}\n'
    found = [[at for at, _ in read_lines(data, split)] for split in split_bytes_of(data, 50)]
    assert [at for part in found for at in part] == [0, 513]


def test_ids_stay_when_a_file_grows_at_its_end():
    short = split_bytes_of(b"x" * 1000, 128)
    long = split_bytes_of(b"x" * 5000, 128)
    assert [s.id for s in long[: len(short)]] == [s.id for s in short]
    assert len({s.id for s in long}) == len(long)


def write_groups(path, texts, row_group_size):
    """A Parquet file of these texts: its source and its metadata."""
    pq.write_table(pa.table({"text": texts}), path, row_group_size=row_group_size)
    source = SourceFile(str(path), path.name, path.stat().st_size, "e")
    return source, pq.read_metadata(path)


@pytest.mark.parametrize("split_bytes", [1, 300, 5_000, 10**9])
def test_rows_are_covered_once_and_in_order(tmp_path, split_bytes):
    texts = ["x" * (i % 90) for i in range(500)]
    source, metadata = write_groups(tmp_path / "docs.parquet", texts, 17)
    splits = list(split_file(source, split_bytes, parquet=metadata))
    covered = [row for split in splits for row in range(split.start, split.stop)]
    assert covered == list(range(500))
    assert len({split.id for split in splits}) == len(splits)
    place, parser = Storage(str(tmp_path)), RecordParser("text", None, 1000)
    groups = [
        parser.parse(piece) for s in splits for piece in RunReader(place, [s], "text").read(s)
    ]
    assert [at for group in groups for at in group.positions] == list(range(500))


@pytest.mark.parametrize("split_bytes", [300, 1_000, 5_000])
def test_small_row_groups_stay_whole(tmp_path, split_bytes):
    texts = [f"text number {i}" for i in range(500)]
    source, metadata = write_groups(tmp_path / "docs.parquet", texts, 10)
    splits = list(split_file(source, split_bytes, parquet=metadata))
    assert len(splits) > 1
    assert all(split.start % 10 == 0 for split in splits)
    # Every split but the last holds what was asked for, and not a row group more.
    group_bytes = splits[0].size * 10 / (splits[0].stop - splits[0].start)
    assert all(split_bytes <= s.size < split_bytes + 2 * group_bytes for s in splits[:-1])


@pytest.mark.parametrize(("split_bytes", "num_splits"), [(1000, 30), (100, 300), (7, 1000)])
def test_a_huge_row_group_is_cut_into_equal_ranges_of_rows(tmp_path, split_bytes, num_splits):
    texts = [f"{i:026d}" for i in range(1000)]  # 30 bytes each with its length
    source, metadata = write_groups(tmp_path / "docs.parquet", texts, 1000)
    splits = list(split_file(source, split_bytes, parquet=metadata))
    assert num_splits <= len(splits) <= num_splits * 1.4
    lengths = {split.stop - split.start for split in splits}
    assert max(lengths) - min(lengths) <= 1
    assert all(split.size <= split_bytes or split.stop - split.start == 1 for split in splits)


def test_a_huge_row_group_ends_the_split_before_it(tmp_path):
    path = tmp_path / "docs.parquet"
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())]), compression="none") as writer:
        for count in (3, 2, 400, 3, 2):
            writer.write_table(pa.table({"text": [f"{i:016d}" for i in range(count)]}))
    source = SourceFile(str(path), path.name, path.stat().st_size, "e")
    splits = list(split_file(source, 1000, parquet=pq.read_metadata(path)))
    bounds = [(split.start, split.stop) for split in splits]
    assert bounds[0] == (0, 5)
    assert bounds[-1] == (405, 410)
    assert bounds[1][0] == 5
    assert bounds[-2][1] == 405
    assert len(bounds) > 5


def test_one_row_larger_than_many_splits_is_one_split(tmp_path):
    source, metadata = write_groups(tmp_path / "docs.parquet", ["x" * 9000, "y"], 1)
    splits = list(split_file(source, 100, parquet=metadata))
    assert [(split.start, split.stop) for split in splits] == [(0, 1), (1, 2)]


ROW_GROUPS = st.lists(st.lists(st.integers(0, 60), max_size=9), min_size=1, max_size=8)


@given(ROW_GROUPS, st.integers(1, 400), ROW_GROUPS)
def test_ids_stay_and_rows_are_covered_when_row_groups_are_appended(groups, split_bytes, more):
    """As for lines: what was planned keeps its name and place, up to where the file grew."""

    def plan(groups):
        sink = pa.BufferOutputStream()
        schema = pa.schema([("text", pa.string())])
        with pq.ParquetWriter(sink, schema, compression="none") as writer:
            for lengths in groups:
                writer.write_table(pa.table({"text": ["x" * n for n in lengths]}, schema))
        metadata = pq.read_metadata(pa.BufferReader(sink.getvalue()))
        return list(
            split_file(SourceFile("/d.parquet", "d.parquet", 9, "e"), split_bytes, parquet=metadata)
        )

    short, long = plan(groups), plan([*groups, *more])
    for splits, rows in ((short, groups), (long, [*groups, *more])):
        covered = [row for split in splits for row in range(split.start, split.stop)]
        assert covered == list(range(sum(map(len, rows))))
        assert [split.id[-5:] for split in splits] == [f"{i:05d}" for i in range(len(splits))]
    # The last one may have been cut short by the end of the file.
    same = [(s.id, s.start, s.stop, s.size) for s in short[:-1]]
    assert [(s.id, s.start, s.stop, s.size) for s in long[: len(same)]] == same


HOSTILE_PATHS = [
    "../../etc/passwd.jsonl",
    "a/b c/d\ne.jsonl",
    "日本語.jsonl",
    "x" * 300 + ".jsonl",
    "-rf.jsonl",
    "con:aux*?<>|\\.jsonl",
    "caf\udce9.jsonl",  # a file name that is not UTF-8, as the operating system gives it
    ".jsonl.jsonl",
    "a.jsonl/b.jsonl",
]


@pytest.mark.parametrize("relative", HOSTILE_PATHS, ids=lambda name: ascii(name)[:30])
def test_names_of_splits_are_safe_file_names(relative):
    source = SourceFile(f"/{relative}", relative, 10, "e")
    (split,) = split_file(source, 100)
    assert re.fullmatch(r"[A-Za-z0-9-]+", split.id)
    assert len(split.id) < 80


def test_files_that_differ_only_in_what_is_replaced_have_different_splits():
    names = ["a b.jsonl", "a-b.jsonl", "x/a b.jsonl", "A b.jsonl"]
    ids = {next(split_file(SourceFile(n, n, 1, "e"), 9)).id for n in names}
    assert len({name.lower() for name in ids}) == len(names)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", ("jsonl", None)),
        ("a.NDJSON", ("jsonl", None)),
        ("a.json.gz", ("jsonl", "gz")),
        ("a.jsonl.zst", ("jsonl", "zst")),
        ("a.parquet", ("parquet", None)),
        ("a.parquet.gz", ("parquet", "gz")),
        ("a.csv", None),
        ("a.gz", None),
        ("jsonl", None),
        ("a.jsonl.bak", None),
    ],
)
def test_the_name_says_how_a_file_is_stored(name, kind):
    assert file_kind(name) == kind


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize("content_bytes", [1, 99, 100, 101, 1000])
def test_a_compressed_file_is_cut_like_its_content(name, content_bytes):
    packed = split_file(SourceFile(f"/{name}", name, 37, "e"), 100, content_bytes=content_bytes)
    plain = split_file(SourceFile("/a.jsonl", "a.jsonl", content_bytes, "e"), 100)
    bounds = [[(s.start, s.stop, s.size) for s in splits] for splits in (packed, plain)]
    assert bounds[0] == bounds[1]


def test_a_compressed_file_that_could_not_be_measured_is_one_split_and_an_empty_file_none():
    (split,) = split_file(SourceFile("/a.jsonl.gz", "a.jsonl.gz", 10_000, "e"), 100)
    assert (split.start, split.stop) == (0, WHOLE_FILE)
    assert list(split_file(SourceFile("/a.jsonl", "a.jsonl", 0, "e"), 100)) == []
    empty = SourceFile("/a.jsonl.gz", "a.jsonl.gz", 20, "e")
    assert list(split_file(empty, 100, content_bytes=0)) == []


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.parquet.zst"])
def test_a_compressed_parquet_file_is_one_split(tmp_path, name):
    _, metadata = write_groups(tmp_path / "a.parquet", ["x" * 90] * 50, 5)
    for parquet in (None, metadata):
        (split,) = split_file(SourceFile(f"/{name}", name, 10_000, "e"), 100, parquet=parquet)
        assert (split.start, split.stop) == (0, WHOLE_FILE)


def test_a_parquet_file_without_metadata_is_one_split_for_its_worker_to_report():
    source = SourceFile("/a.parquet", "a.parquet", 0, "e")
    (split,) = split_file(source, 100)
    assert split.stop == WHOLE_FILE


def test_a_name_without_a_known_extension_is_refused():
    with pytest.raises(ConfigError, match=r"a\.csv"):
        list(split_file(SourceFile("/a.csv", "a.csv", 1, "e"), 100))


def test_splits_survive_json_and_the_plan_table():
    splits = split_bytes_of(b"x" * 1000, 300)
    splits += split_file(SourceFile("/é/b.jsonl.gz", "é/b.jsonl.gz", 5, "e"), 9)
    assert [InputSplit.from_json(split.to_json()) for split in splits] == splits
    assert splits_from_table(splits_to_table(splits)) == splits
    assert splits_from_table(splits_to_table([])) == []


def test_splits_of_a_file_are_one_run_and_a_file_again_is_another():
    a, b = split_bytes_of(b"x" * 30, 10), split_bytes_of(b"y" * 20, 10)
    b = [InputSplit.from_json(split.to_json().replace("docs", "more")) for split in b]
    assert group_by_file([*a, *b]) == [a, b]
    assert group_by_file([a[0], b[0], a[1]]) == [[a[0]], [b[0]], [a[1]]]
    assert group_by_file([]) == []
