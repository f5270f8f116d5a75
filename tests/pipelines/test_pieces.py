"""Pieces are a function of their split alone, whoever reads it and with what else."""

import gzip
import itertools
import json
import random
import uuid
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos import pieces as pieces_module
from moos.errors import MoosError
from moos.listing import SourceFile
from moos.parquet_rows import MAX_BATCH_ROWS
from moos.pieces import (
    PIECE_BYTES,
    RawPiece,
    RunReader,
    pack_pieces,
    read_pieces,
    unpack_pieces,
)
from moos.source_files import DamagedFileError
from moos.splits import WHOLE_FILE, InputSplit, file_kind, split_file
from moos.storage import Storage

SMALL_PIECE = 64


@contextmanager
def small_pieces():
    """Pieces of a few lines, so that small inputs have many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces_module, "PIECE_BYTES", SMALL_PIECE)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Storage(str(tmp_path_factory.mktemp("pieces")))


def plain(piece: RawPiece) -> tuple:
    """A piece as values that compare."""
    if piece.batch is None:
        return piece.position, piece.num_bytes, piece.lines
    # Fields, not values: what Arrow cannot decode compares too.
    columns = [column.to_pylist() for column in piece.batch.columns]
    return piece.position, piece.num_bytes, piece.batch.schema.to_string(), columns


def read_alone(place: Storage, split: InputSplit) -> list[tuple]:
    return [plain(piece) for _, piece in read_pieces(place, [split], "text") if piece]


def read_in_run(place: Storage, splits: list[InputSplit]) -> list[list[tuple]]:
    reader = RunReader(place, splits, "text")
    return [[plain(piece) for piece in reader.read(split)] for split in splits]


def store_lines(place: Storage, name: str, content: bytes, split_bytes: int) -> list[InputSplit]:
    """Write content in a file, compressed as its name says; its splits."""
    packed = content
    if name.endswith(".gz"):
        packed = gzip.compress(content)
    elif name.endswith(".zst"):
        packed = pa.compress(content, "zstd", asbytes=True)
    path = Path(place.path(name))
    path.write_bytes(packed)
    source = SourceFile(str(path), name, len(packed), "e")
    return list(split_file(source, split_bytes, content_bytes=len(content)))


LINES = st.lists(
    st.one_of(
        st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"_")),
        st.integers(0, 5 * SMALL_PIECE).map(lambda length: b"x" * length),
    ),
    max_size=30,
).filter(
    lambda lines: not b"\n".join(lines).startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"))
)
CHOICE = st.lists(st.booleans(), min_size=1, max_size=40)


def choose(splits: list[InputSplit], choice: list[bool]) -> list[InputSplit]:
    return [split for split, wanted in zip(splits, itertools.cycle(choice), strict=False) if wanted]


@given(LINES, st.booleans(), st.integers(1, 200), CHOICE)
@small_pieces()
def test_lines_make_the_same_pieces_alone_in_a_run_and_compressed(
    place, lines, final_newline, split_bytes, choice
):
    content = b"\n".join(lines) + (b"\n" if final_newline else b"")
    by_name = {}
    for name in ("d.jsonl", "d.jsonl.gz", "d.jsonl.zst"):
        splits = store_lines(place, name, content, split_bytes)
        alone = [read_alone(place, split) for split in splits]
        assert read_in_run(place, splits) == alone
        chosen = choose(splits, choice)
        wanted = choose(alone, choice)
        assert read_in_run(place, chosen) == wanted
        by_name[name] = alone
    assert by_name["d.jsonl.gz"] == by_name["d.jsonl.zst"] == by_name["d.jsonl"]
    found = [piece for part in by_name["d.jsonl"] for piece in part]
    assert b"".join(piece for _, _, piece in found) == content
    at = 0
    for position, num_bytes, piece in found:
        assert (position, num_bytes) == (at, len(piece))
        at += num_bytes


@given(LINES, st.integers(1, 400))
@small_pieces()
def test_a_piece_of_lines_is_full_and_not_a_line_more(place, lines, split_bytes):
    content = b"".join(line + b"\n" for line in lines)
    for split in store_lines(place, "d.jsonl", content, split_bytes):
        sizes = []
        for position, size, piece in read_alone(place, split):
            assert split.start <= position < split.stop
            assert piece[:-1].rfind(b"\n") + 1 < SMALL_PIECE  # without its last line
            sizes.append(size)
        assert all(size >= SMALL_PIECE for size in sizes[:-1])


TEXTS = st.lists(
    st.lists(
        st.one_of(
            st.none(),
            st.text("aé的", max_size=4),
            st.integers(0, 6 * SMALL_PIECE).map(lambda length: "x" * length),
        ),
        max_size=12,
    ),
    min_size=1,
    max_size=4,
)
TEXT_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int32(), pa.string()),
]


def store_rows(place: Storage, groups, kind, split_bytes) -> tuple[list[InputSplit], pa.Table]:
    """Write a Parquet file of these row groups; its splits and its rows."""
    path = Path(place.path("d.parquet"))
    numbers = itertools.count()
    tables = []
    for texts in groups:
        column = pa.array(texts, pa.string()).cast(kind)
        ids = pa.array([next(numbers) for _ in texts], pa.int64())
        tables.append(pa.table({"id": ids, "text": column}))
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    source = SourceFile(str(path), "d.parquet", path.stat().st_size, "e")
    splits = list(split_file(source, split_bytes, parquet=pq.read_metadata(path)))
    return splits, pa.concat_tables(tables)


@given(TEXTS, st.sampled_from(TEXT_TYPES), st.integers(1, 600), CHOICE)
@small_pieces()
def test_rows_make_the_same_pieces_alone_and_in_a_run(place, groups, kind, split_bytes, choice):
    splits, table = store_rows(place, groups, kind, split_bytes)
    alone = [read_alone(place, split) for split in splits]
    assert read_in_run(place, splits) == alone
    assert read_in_run(place, choose(splits, choice)) == choose(alone, choice)
    found = [piece for part in alone for piece in part]
    rows = [row for _, _, _, columns in found for row in zip(*columns, strict=True)]
    assert rows == [tuple(row.values()) for row in table.to_pylist()]
    at = 0
    for position, _, _, columns in found:
        assert position == at
        at += len(columns[0])
    for split, part in zip(splits, alone, strict=True):
        assert sum(len(columns[0]) for *_, columns in part) == split.stop - split.start


@given(TEXTS, st.sampled_from(TEXT_TYPES), st.integers(1, 600))
@small_pieces()
def test_a_piece_of_rows_holds_about_so_much_text(place, groups, kind, split_bytes):
    splits, _ = store_rows(place, groups, kind, split_bytes)
    for split in splits:
        for *_, (_, texts) in read_alone(place, split):
            sizes = [len((text or "").encode()) for text in texts]
            assert sum(sizes[:-1]) < SMALL_PIECE


@given(TEXTS, st.lists(st.integers(0, 48), min_size=2, max_size=6))
@small_pieces()
def test_any_ranges_of_rows_make_the_same_pieces_alone_and_in_a_run(place, groups, bounds):
    """Wherever a plan may come to cut: inside row groups and batches, with gaps between."""
    (split, *_), table = store_rows(place, [*groups, ["last"]], pa.string(), 10**9)
    bounds = sorted({min(bound, table.num_rows) for bound in bounds})
    fields = json.loads(split.to_json())
    splits = [
        InputSplit(**{**fields, "id": f"s{start}", "start": start, "stop": stop})
        for start, stop in itertools.pairwise(bounds)
    ][::2]
    alone = [read_alone(place, split) for split in splits]
    assert read_in_run(place, splits) == alone
    for part, split in zip(alone, splits, strict=True):
        ids = [number for *_, (numbers, _) in part for number in numbers]
        assert ids == list(range(split.start, split.stop))


def test_rows_of_very_different_size_make_pieces_of_about_one_size(place):
    """A few long texts among very many short ones, in one row group."""
    lengths = np.ones(3 * MAX_BATCH_ROWS, dtype=int)
    lengths[[5, 6, 7, 9000, 20_000]] = 150_000
    lengths[12_000] = 3 * PIECE_BYTES
    (split, *more), _ = store_rows(
        place, [["x" * length for length in lengths.tolist()]], pa.string(), 10**9
    )
    assert more == []
    found = [(owner, piece) for owner, piece in read_pieces(place, [split], "text") if piece]
    assert sum(piece.batch.num_rows for _, piece in found) == len(lengths)
    for _, piece in found:
        sizes = [len(text) for text in piece.batch.column("text").to_pylist()]
        assert sum(sizes[:-1]) < PIECE_BYTES
        assert len(sizes) <= MAX_BATCH_ROWS


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_pieces_of_full_size_are_the_same_alone_and_in_a_run(place, kind):
    lines = [random.Random(i).randbytes(i % 300).hex() for i in range(9000)]
    if kind == "jsonl":
        content = b"".join(b'{"text": "%s"}\n' % line.encode() for line in lines)
        splits = store_lines(place, "d.jsonl.gz", content, 900_000)
    else:
        splits, _ = store_rows(place, [lines[:8000], lines[8000:]], pa.string(), 900_000)
    assert len(splits) >= 3
    alone = [read_alone(place, split) for split in splits]
    assert all(len(part) > 1 for part in alone[:2])
    assert read_in_run(place, splits) == alone
    assert read_in_run(place, splits[1::2]) == alone[1::2]


@pytest.mark.parametrize("extension", ["gz", "zst"])
def test_a_compressed_parquet_file_makes_the_pieces_of_a_plain_one(place, extension):
    texts = [f"{i} " * (i % 50) for i in range(5000)]
    (split, *_), _ = store_rows(place, [texts], pa.string(), 10**9)
    data = Path(split.path).read_bytes()
    packed = gzip.compress(data) if extension == "gz" else pa.compress(data, "zstd", asbytes=True)
    path = Path(place.path(f"d.parquet.{extension}"))
    path.write_bytes(packed)
    (other,) = split_file(SourceFile(str(path), path.name, len(packed), "e"), 10**9)
    assert read_alone(place, other) == read_alone(place, split)


@given(LINES, st.integers(1, 200), CHOICE)
@small_pieces()
def test_splits_of_a_run_that_nobody_asks_for_are_passed_over(place, lines, split_bytes, choice):
    content = b"".join(line + b"\n" for line in lines)
    splits = store_lines(place, "d.jsonl", content, split_bytes)
    reader = RunReader(place, splits, "text")
    chosen = choose(splits, choice)
    found = [[plain(piece) for piece in reader.read(split)] for split in chosen]
    assert found == [read_alone(place, split) for split in chosen]


@pytest.mark.parametrize("name", ["long.jsonl", "long.jsonl.gz", "long.parquet"])
def test_reading_says_that_it_goes_on(place, name):
    told = []
    lines = b"".join(b'{"text": "line %05d"}\n' % i for i in range(9000))
    if name.endswith(".parquet"):
        table = pa.table({"text": [f"line {i}" for i in range(9000)]})
        pq.write_table(table, place.path(name), row_group_size=1000)
        content = None
    else:
        content = gzip.compress(lines) if name.endswith(".gz") else lines
        place.put(name, content)
    size = Path(place.path(name)).stat().st_size
    split = InputSplit(
        "d-9", place.path(name), name, "parquet" if content is None else "jsonl",
        "gz" if name.endswith(".gz") else None, 8000, WHOLE_FILE, 9, size, "e",
    )  # fmt: skip
    read = RunReader(place, [split], "text", lambda: told.append(1)).read(split)
    assert sum(1 for _ in read) > 0
    assert told


@small_pieces()
def test_a_split_that_was_left_half_read_does_not_hide_the_next(place):
    content = b"".join(b"line %03d of a split\n" % i for i in range(60))
    splits = store_lines(place, "d.jsonl", content, 400)
    reader = RunReader(place, splits, "text")
    half = reader.read(splits[0])
    next(half)
    half.close()
    found = [plain(piece) for piece in reader.read(splits[1])]
    assert found == read_alone(place, splits[1])


class _Store:
    """A remote store that counts what it sends, and fails the requests of these numbers."""

    def __init__(self, data: bytes, failing=()) -> None:
        self.data = data
        self.failing = set(failing)
        self.num_requests = 0
        self.num_bytes = 0

    def cat_file(self, path, start=None, end=None):
        number, self.num_requests = self.num_requests, self.num_requests + 1
        if number in self.failing:
            raise OSError(5, "Input/output error")
        part = self.data[start:end]
        self.num_bytes += len(part)
        return part

    def info(self, path):
        return {"name": path, "type": "file", "size": len(self.data), "ETag": "e"}

    def invalidate_cache(self, path=None):
        """Nothing is cached."""


def remote(store: _Store) -> Storage:
    source = Storage("memory://nowhere", retries=0)
    source.filesystem = store
    return source


def large_file(place: Storage, name: str) -> tuple[bytes, list[InputSplit]]:
    lines = [random.Random(i).randbytes(500).hex() for i in range(12_000)]
    if name == "d.parquet":
        groups = [lines[i : i + 4000] for i in range(0, len(lines), 4000)]
        splits, _ = store_rows(place, groups, pa.string(), 2_000_000)
    else:
        content = b"".join(b'{"text": "%s"}\n' % line.encode() for line in lines)
        splits = store_lines(place, name, content, 2_000_000)
    return Path(splits[0].path).read_bytes(), splits


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.parquet"])
def test_a_run_of_splits_reads_a_remote_file_once(place, name):
    data, splits = large_file(place, name)
    store = _Store(data)
    alone = [read_alone(place, split) for split in splits]
    assert read_in_run(remote(store), splits) == alone
    assert len(splits) >= 5
    assert store.num_bytes < 1.3 * len(data)


def test_a_split_of_plain_lines_reads_no_more_of_a_remote_file_than_it_needs(place):
    data, splits = large_file(place, "d.jsonl")
    store = _Store(data)
    assert read_alone(remote(store), splits[3]) == read_alone(place, splits[3])
    assert store.num_bytes < splits[3].size + (3 << 20)


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.parquet"])
def test_after_an_error_reading_begins_anew_with_the_split_that_is_asked_for(place, name):
    data, splits = large_file(place, name)
    alone = [read_alone(place, split) for split in splits]
    store = _Store(data, failing=[2])
    reader = RunReader(remote(store), splits, "text")
    found, num_errors = [], 0
    for split in splits:
        try:
            part = [plain(piece) for piece in reader.read(split)]
        except OSError:
            num_errors += 1
            part = [plain(piece) for piece in reader.read(split)]
        found.append(part)
    assert num_errors == 1
    assert found == alone


@pytest.mark.parametrize("name", ["d.jsonl.gz", "d.jsonl.zst"])
def test_damage_is_told_to_every_split_that_meets_it(place, name):
    """Nobody may take what is left of a damaged file for the whole."""
    content = b"".join(b"%s\n" % random.Random(i).randbytes(50).hex().encode() for i in range(9000))
    splits = store_lines(place, name, content, 100_000)
    path = Path(splits[0].path)
    cut = path.read_bytes()[: splits[0].file_size // 2]
    path.write_bytes(cut)
    splits = [InputSplit(**{**json.loads(s.to_json()), "file_size": len(cut)}) for s in splits]
    reader = RunReader(place, splits, "text")
    told = []
    for split in splits:
        try:
            list(reader.read(split))
        except DamagedFileError:
            told.append(split)
    assert told == splits[-len(told) :]
    assert len(told) >= len(splits) // 3


def test_damaged_rows_damage_the_same_splits_alone_and_in_a_run(place):
    """A split whose own rows are sound is whole, whatever is behind it in its file."""
    texts = [[f"{group} {i} " * 20 for i in range(1000)] for group in range(6)]
    splits, _ = store_rows(place, texts, pa.string(), 100_000)
    path = Path(splits[0].path)
    data = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(3).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(bytes(data))
    reader = RunReader(place, splits, "text")
    alone, in_run = [], []
    for split in splits:
        for told, read in (
            (alone, lambda split: read_pieces(place, [split], "text")),
            (in_run, reader.read),
        ):
            try:
                list(read(split))
            except DamagedFileError:
                told.append((split.start, split.stop))
    assert len(splits) >= 6
    assert alone
    assert all(start < 4000 and stop > 3000 for start, stop in alone)
    assert in_run == alone


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.parquet"])
def test_a_file_that_shrank_since_the_plan_is_no_damaged_file(place, name):
    data, splits = large_file(place, name)
    Path(splits[0].path).write_bytes(data[: len(data) // 2])
    with pytest.raises(MoosError, match="when the run was planned") as caught:
        read_in_run(place, splits)
    assert not isinstance(caught.value, DamagedFileError)


@small_pieces()
def test_a_whole_file_is_read_to_its_end(place):
    content = b"".join(b"line %03d\n" % i for i in range(100))
    for name in ("d.jsonl", "d.jsonl.gz"):
        (split,) = store_lines(place, name, content, 10**9)
        whole = InputSplit(**{**json.loads(split.to_json()), "stop": WHOLE_FILE})
        assert file_kind(name)[1] == split.compression
        assert read_alone(place, whole) == read_alone(place, split)


def test_pieces_survive_the_way_to_another_process():
    dictionary = pa.array(["x", "y", None, "x"]).dictionary_encode()
    table = pa.table(
        {
            "text": pa.array(["one", None, "two", "three"]),
            "kind": dictionary,
            "view": pa.array(["v", None, "w" * 40, ""]).cast(pa.string_view()),
            "key": pa.array([uuid.uuid4().bytes for _ in range(4)], pa.uuid()),
            "nested": pa.array([[{"k": [1]}], [], None, [None]]),
        }
    )
    (batch,) = table.to_batches()
    raw = pa.array([b"good", b"caf\xe9"])
    invalid = pa.record_batch({"text": pa.Array.from_buffers(pa.string(), 2, raw.buffers())})
    sent = [
        RawPiece(0, 12, b'{"text": "a"}\r\n'),
        RawPiece(7, 3, batch=batch.slice(1, 2)),
        RawPiece(9, 3, batch=batch.slice(1, 0)),
        RawPiece(9, 3, batch=invalid),
        RawPiece(12, 0, b""),
    ]
    received = unpack_pieces(pack_pieces(sent))
    assert [(p.position, p.num_bytes, p.lines) for p in received] == [
        (p.position, p.num_bytes, p.lines) for p in sent
    ]
    for mine, theirs in zip(sent, received, strict=True):
        assert (mine.batch is None) == (theirs.batch is None)
        if mine.batch is not None:
            assert mine.batch.schema == theirs.batch.schema
            assert mine.batch.equals(theirs.batch)
    assert unpack_pieces(pack_pieces([])) == []
