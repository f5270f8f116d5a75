"""Splits cover the input once, on a grid that does not move."""

import json
import re

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos.errors import ConfigError
from moos.records import RecordReader
from moos.splits import (
    WHOLE_FILE,
    InputSplit,
    file_kind,
    split_file,
    splits_from_table,
    splits_to_table,
)
from moos.storage import SourceFile

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
    return list(split_file(source, split_bytes, None, "text"))


def read_lines(data: bytes, split: InputSplit) -> list[tuple[int, bytes]]:
    """Every record of a split by position, good or bad, as its raw line."""
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file(split.path, data)
    reader = RecordReader(filesystem, "text", None, 1000)
    found = []
    for group in reader.read(split):
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


@pytest.mark.parametrize("split_bytes", [1, 300, 5_000, 10**9])
def test_row_groups_are_covered_once_and_in_order(tmp_path, split_bytes):
    path = tmp_path / "docs.parquet"
    pq.write_table(
        pa.table({"text": ["x" * (i % 90) for i in range(500)]}), path, row_group_size=17
    )
    metadata = pq.ParquetFile(path).metadata
    source = SourceFile(str(path), "docs.parquet", path.stat().st_size, "e")
    splits = list(split_file(source, split_bytes, metadata, "text"))
    covered = [group for split in splits for group in range(split.start, split.stop)]
    assert covered == list(range(metadata.num_row_groups))
    assert len({split.id for split in splits}) == len(splits)
    reader = RecordReader(fsspec.filesystem("file"), "text", None, 1000)
    positions = [at for s in splits for group in reader.read(s) for at in group.positions]
    assert positions == list(range(500))


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
    (split,) = split_file(source, 100, None, "text")
    assert re.fullmatch(r"[A-Za-z0-9-]+", split.id)
    assert len(split.id) < 80


def test_files_that_differ_only_in_what_is_replaced_have_different_splits():
    names = ["a b.jsonl", "a-b.jsonl", "x/a b.jsonl", "A b.jsonl"]
    ids = {next(split_file(SourceFile(n, n, 1, "e"), 9, None, "text")).id for n in names}
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


def test_a_compressed_file_is_one_split_and_an_empty_file_none():
    (split,) = split_file(SourceFile("/a.jsonl.gz", "a.jsonl.gz", 10_000, "e"), 100, None, "text")
    assert (split.start, split.stop) == (0, WHOLE_FILE)
    assert list(split_file(SourceFile("/a.jsonl", "a.jsonl", 0, "e"), 100, None, "text")) == []


def test_a_parquet_file_without_metadata_is_one_split_for_its_worker_to_report():
    source = SourceFile("/a.parquet", "a.parquet", 0, "e")
    (split,) = split_file(source, 100, None, "text")
    assert split.stop == WHOLE_FILE


def test_a_name_without_a_known_extension_is_refused():
    with pytest.raises(ConfigError, match=r"a\.csv"):
        list(split_file(SourceFile("/a.csv", "a.csv", 1, "e"), 100, None, "text"))


def test_splits_survive_json_and_the_plan_table():
    splits = split_bytes_of(b"x" * 1000, 300)
    splits += split_file(SourceFile("/é/b.jsonl.gz", "é/b.jsonl.gz", 5, "e"), 9, None, "text")
    assert [InputSplit.from_json(split.to_json()) for split in splits] == splits
    assert splits_from_table(splits_to_table(splits)) == splits
    assert splits_from_table(splits_to_table([])) == []
