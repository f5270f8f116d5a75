import datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from moos.errors import ConfigError
from moos.partitions import (
    agrees,
    find_partition_columns,
    mark_partition_columns,
    parse_partition,
    partition_columns,
)
from moos.schema import EXTRA_JSON


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        ("part-0.parquet", {}),
        ("lang=en/part-0.parquet", {"lang": "en"}),
        ("lang=en/date=2026-01-01/x/p.jsonl", {"lang": "en", "date": "2026-01-01"}),
        ("lang=__HIVE_DEFAULT_PARTITION__/p.jsonl", {"lang": None}),
        ("lang=/p.jsonl", {"lang": ""}),
        ("a%20b=1%2F2%3D3%25/p.jsonl", {"a b": "1/2=3%"}),
        ("q=a=b/p.jsonl", {"q": "a=b"}),
        ("stadt=K%C3%B6ln/p.jsonl", {"stadt": "Köln"}),
        ("=en/p.jsonl", {}),
        ("plain/n=007.jsonl", {}),  # a file's own name is no directory
        ("n=007/p.jsonl", {"n": "007"}),
    ],
)
def test_columns_are_read_from_directories(relative, expected):
    assert parse_partition(relative) == expected
    assert list(parse_partition(relative)) == list(expected)


@pytest.mark.parametrize("relative", ["a=1/a=2/p.jsonl", "a=%FF/p.jsonl", "a=\udcff/p.jsonl"])
def test_directories_that_name_no_column_are_refused(relative):
    with pytest.raises(ConfigError, match=r"input\.partitioning=none"):
        parse_partition(relative)


def test_all_files_name_the_same_columns():
    assert find_partition_columns(["a=1/b=2/p", "b=3/a=4/q"]) == ["a", "b"]
    assert find_partition_columns(["p", "x/q"]) == []
    with pytest.raises(ConfigError, match=r"'q' has the partition columns none.*\['a'\]"):
        find_partition_columns(["a=1/p", "q"])


@pytest.mark.parametrize(
    ("value", "partition", "expected"),
    [
        ("en", "en", True),
        ("en", "EN", False),
        (7, "07", True),
        (7.0, "7", True),
        (Decimal("7.10"), "7.1", True),
        (7, "seven", False),
        (True, "true", True),
        (True, "1", False),
        (None, None, True),
        (None, "None", False),
        ("x", None, False),
        (datetime.date(2026, 1, 2), "2026-01-02", True),
        (datetime.datetime(2026, 1, 2, 3), "2026-01-02 03:00:00", True),
        ([1], "[1]", True),
    ],
)
def test_a_value_agrees_with_its_directory(value, partition, expected):
    assert agrees(value, partition) is expected


def test_columns_of_the_path_are_marked_in_the_schema_and_found_again():
    schema = pa.schema([("text", pa.string()), ("year", pa.int32()), (EXTRA_JSON, pa.string())])
    marked = mark_partition_columns(schema, ["year", "lang"])
    assert marked.names == ["text", "year", "lang", EXTRA_JSON]
    assert marked.field("year").type == pa.int32()
    again = pa.ipc.read_schema(pa.BufferReader(marked.serialize()))
    assert partition_columns(again) == ("year", "lang")
    assert partition_columns(schema) == ()
