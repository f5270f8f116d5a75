"""A small Parquet file may stand for a huge one, and is read in little memory all the same."""

import itertools
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moos import parquet_rows, pieces
from moos.listing import SourceFile
from moos.pieces import RunReader
from moos.splits import split_file
from moos.storage import Storage

ROWS = 4000
VALUE = b"word " * 2000
LIMIT = 1 << 19
_POOLS = []  # what was allocated from a pool must not outlive it


@contextmanager
def peak_memory():
    """`with peak_memory() as peak: ... peak()`: most bytes of Arrow's that were held at once."""
    pool = pa.default_memory_pool()
    proxy = pa.proxy_memory_pool(pool)
    _POOLS.append(proxy)
    pa.set_memory_pool(proxy)
    try:
        yield proxy.max_memory
    finally:
        pa.set_memory_pool(pool)


@pytest.fixture
def splits_of(tmp_path):
    """`splits_of(table, split_bytes=10**9, **options)`: a file of one row group, and its splits."""

    def write(table, split_bytes=10**9, **options):
        path = tmp_path / "d.parquet"
        options = {"compression": "zstd", "write_statistics": False, **options}
        pq.write_table(table, path, row_group_size=table.num_rows, **options)
        source = SourceFile(str(path), path.name, path.stat().st_size, "e")
        return list(split_file(source, split_bytes, parquet=pq.read_metadata(path)))

    return write


def read(splits):
    reader = RunReader(Storage(str(Path(splits[0].path).parent)), splits, "text")
    for split in splits:
        yield from reader.read(split)


def repeated(value, rows=ROWS):
    """One value in every row, in the memory of one."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))


def test_kilobytes_that_stand_for_tens_of_gigabytes_are_read_in_little_memory(splits_of):
    rows = 30_000
    table = pa.table({"text": repeated("word " * 200_000, rows=rows)})
    (split,) = splits_of(table, store_schema=False)
    assert (split.file_size < 10_000, split.stop) == (True, rows)
    with peak_memory() as peak:
        for row, piece in enumerate(itertools.islice(read([split]), 100)):
            assert (piece.position, piece.batch.num_rows) == (row, 1)
            assert len(piece.batch.column("text")[0].as_buffer()) == 1_000_000
        assert row == 99
        assert peak() < 8 * parquet_rows.DECODED_BYTES


def beside_texts(column):
    return pa.table({"text": [f"Text {row}." for row in range(ROWS)], "x": column})


BOMBS = {
    "text": (lambda: pa.table({"text": repeated(VALUE.decode())}), {"store_schema": False}),
    "a dictionary as text": (lambda: pa.table({"text": repeated(VALUE.decode())}), {}),
    "another column": (lambda: beside_texts(repeated(VALUE.decode())), {"store_schema": False}),
    "another dictionary": (lambda: beside_texts(repeated(VALUE.decode())), {}),
    "bytes": (lambda: beside_texts(repeated(VALUE)), {"store_schema": False}),
    "bytes of a fixed length": (
        lambda: beside_texts(pa.repeat(pa.scalar(VALUE, pa.binary(len(VALUE))), ROWS)),
        {},
    ),
    "elements of lists": (lambda: beside_texts([[VALUE, VALUE]] * ROWS), {}),
    "fields of structs": (lambda: beside_texts([{"y": VALUE}] * ROWS), {}),
    "lists of numbers": (
        lambda: beside_texts(
            pa.ListArray.from_arrays(
                pa.array(np.arange(ROWS + 1, dtype=np.int32) * 2000), pa.repeat(7, ROWS * 2000)
            )
        ),
        {},
    ),
    "values that begin alike": (
        lambda: beside_texts([VALUE] * ROWS),
        {
            "use_dictionary": False,
            "column_encoding": {"text": "PLAIN", "x": "DELTA_BYTE_ARRAY"},
        },
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_whatever_column_repeats_a_value_rows_are_read_few_at_a_time(splits_of, monkeypatch, name):
    """10 kB or more in each row, of which the file holds one."""
    make, options = BOMBS[name]
    monkeypatch.setattr(parquet_rows, "DECODED_BYTES", LIMIT)
    splits = splits_of(make(), **options)
    assert splits[0].file_size < 100_000
    row = 0
    with peak_memory() as peak:
        for piece in read(splits):
            assert piece.position == row
            assert piece.batch.num_rows <= 3 * LIMIT // len(VALUE)
            row += piece.batch.num_rows
        assert row == ROWS
        assert peak() < 16 * LIMIT + 1024 * len(
            VALUE
        )  # Arrow's reserve for values of a fixed length


def odd_table():
    """Rows of many types and sizes, dictionaries of a few kilobytes among them."""
    numbers = range(3000)
    names = [None if row % 7 == 0 else f"{row % 400} name" for row in numbers]
    return pa.table(
        {
            "text": [None if row % 11 == 0 else "x" * (row * 37 % 501) for row in numbers],
            "name": names,
            "large": pa.array(names, pa.large_string()),
            "view": pa.array(names, pa.string_view()),
            "kind": pa.array(names).dictionary_encode(),
            "fixed": pa.array([row.to_bytes(4, "big") for row in numbers], pa.binary(4)),
            "tags": [[name, "tag"] if name else None for name in names],
            "views": pa.array([[name] for name in names], pa.list_(pa.string_view())),
            "meta": [{"n": row, "name": name} for row, name in zip(numbers, names, strict=True)],
            "map": pa.array(
                [[("k", row % 100)] for row in numbers], pa.map_(pa.string(), pa.int8())
            ),
            "nothing": pa.nulls(3000),
        }
    )


@pytest.mark.parametrize("split_bytes", [10**9, 40_000])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pieces_are_the_same_however_few_rows_are_read_at_a_time(
    splits_of, monkeypatch, split_bytes, version
):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 20_000)
    splits = splits_of(odd_table(), split_bytes, data_page_version=version, data_page_size=10_000)
    whole = list(read(splits))
    assert len(whole) > 30
    sizes = spy_on_batches(monkeypatch)
    monkeypatch.setattr(parquet_rows, "DECODED_BYTES", 1 << 20)
    for mine, theirs in zip(read(splits), whole, strict=True):
        assert (mine.position, mine.num_bytes) == (theirs.position, theirs.num_bytes)
        assert mine.batch.schema == theirs.batch.schema
        assert mine.batch.to_pylist() == theirs.batch.to_pylist()
    assert max(sizes) < 100


def spy_on_batches(monkeypatch):
    """The numbers of rows that files are asked for at a time."""
    sizes = []
    iterate = pq.ParquetFile.iter_batches

    def iter_batches(self, batch_size, **options):
        sizes.append(batch_size)
        return iterate(self, batch_size, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    return sizes


def test_texts_of_usual_size_are_read_many_at_a_time(splits_of, monkeypatch):
    """The dictionary of texts that differ ends after a megabyte, and the rest is stored in full."""
    texts = [f"{row} " * 200 for row in range(5000)]
    sizes = spy_on_batches(monkeypatch)
    found = [t for piece in read(splits_of(pa.table({"text": texts}))) for t in piece.batch[0]]
    assert [text.as_py() for text in found] == texts
    assert sizes[0] > 15  # 6 if nothing were known of the dictionary
