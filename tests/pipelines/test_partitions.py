"""Hive-partitioned input: its columns in the output, every record once, and `verify` agreeing."""

import json

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from moos.errors import ConfigError
from pipelines.verify import verify_output

PARTS = {
    "lang=en/date=2026-01-01": ("en", "2026-01-01"),
    "lang=pt%2DBR/date=2026-01-02": ("pt-BR", "2026-01-02"),
    "lang=__HIVE_DEFAULT_PARTITION__/date=2026-01-02": (None, "2026-01-02"),
}


def by_id(rows):
    return {row["id"]: (row["lang"], row["date"]) for row in rows}


@pytest.fixture
def partitioned(write_jsonl, write_parquet, documents, tmp_path):
    """`partitioned("jsonl")`: a directory of three partitions, and what the path says by id."""

    def write(kind):
        expected = {}
        for place, (directory, values) in enumerate(PARTS.items()):
            records = documents(4, 4 * place)
            expected |= {record["id"]: values for record in records}
            if kind == "parquet":
                columns = {name: [record[name] for record in records] for name in ("id", "text")}
                write_parquet(f"in/{directory}/part-0.parquet", columns, 2)
            else:
                write_jsonl(f"in/{directory}/part-0.{kind}", records)
        return tmp_path / "in", expected

    return write


@pytest.mark.parametrize(
    ("kind", "form"),
    [("jsonl", "parquet"), ("jsonl.gz", "jsonl"), ("parquet", "parquet"), ("parquet", "jsonl")],
)
def test_columns_of_the_path_are_columns_of_the_rows(
    compress, partitioned, tmp_path, read_rows, kind, form
):
    source, expected = partitioned(kind)
    out = tmp_path / "out"
    summary = compress(source, out, f"output.format={form}", "input.split_bytes=1KiB")
    assert summary["quarantined"] == 0
    rows = read_rows(out)
    assert by_id(rows) == expected
    assert len(rows) == len(expected)
    findings = verify_output(str(out))
    assert findings.broken == []
    assert findings.splits_without_source == 0
    if form == "parquet":
        assert ds.dataset(out / "data").schema.field("date").type == pa.string()


def test_a_new_partition_is_only_more_work(compress, partitioned, write_jsonl, tmp_path, read_rows):
    source, expected = partitioned("jsonl")
    compress(source, tmp_path / "out")
    write_jsonl("in/lang=de/date=2026-02-01/part-0.jsonl", [{"id": "new", "text": "a b c"}])
    summary = compress(source, tmp_path / "out")
    assert summary["splits_resumed"] == 3
    assert by_id(read_rows(tmp_path / "out")) == {**expected, "new": ("de", "2026-02-01")}
    assert verify_output(str(tmp_path / "out")).broken == []


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_column_that_the_file_holds_too_must_say_the_same(
    compress, write_jsonl, write_parquet, tmp_path, read_rows, read_quarantine, kind
):
    values = {"text": ["a b", "c d", "e f"], "year": [2026, 2025, 2026]}
    if kind == "parquet":
        write_parquet("in/year=2026/part-0.parquet", values)
    else:
        rows = [{"text": t, "year": y} for t, y in zip(*values.values(), strict=True)]
        write_jsonl("in/year=2026/part-0.jsonl", [*rows, {"text": "g h"}])
    compress(tmp_path / "in", tmp_path / "out", "max_quarantined=1", "output.format=jsonl")
    assert [(row["text"], str(row["year"])) for row in read_rows(tmp_path / "out")] == [
        ("a b", "2026"),
        ("e f", "2026"),
        *([("g h", "2026")] if kind == "jsonl" else []),
    ]
    (record,) = read_quarantine(tmp_path / "out")
    assert "'year' is 2025, but the file's directory says '2026'" in record["reason"]
    assert verify_output(str(tmp_path / "out")).broken == []


def test_a_later_file_that_lacks_a_doubled_column_takes_it_from_its_path(
    compress, write_parquet, tmp_path, read_rows
):
    write_parquet("in/year=2025/part-0.parquet", {"text": ["a b"], "year": pa.array([2025])})
    compress(tmp_path / "in", tmp_path / "out")
    write_parquet("in/year=2026/part-0.parquet", {"text": ["c d"]})
    compress(tmp_path / "in", tmp_path / "out")
    assert [row["year"] for row in read_rows(tmp_path / "out")] == [2025, 2026]
    assert verify_output(str(tmp_path / "out")).broken == []


def test_a_glob_s_fixed_part_is_what_directories_lie_below(
    compress, partitioned, tmp_path, read_rows
):
    source, expected = partitioned("jsonl")
    compress(f"{source}/lang=*/date=2026-01-02/*.jsonl", tmp_path / "out")
    found = by_id(read_rows(tmp_path / "out"))
    assert found == {name: values for name, values in expected.items() if values[1][-1] == "2"}


def test_a_line_of_the_output_keeps_the_input_s_own_json_before_the_path_s(
    compress, write_jsonl, tmp_path
):
    write_jsonl("in/lang=en/part-0.jsonl", [b'{"n": 1.50, "text":"a b"}'])
    compress(tmp_path / "in", tmp_path / "out", "output.format=jsonl")
    (data,) = (tmp_path / "out" / "data").iterdir()
    line = pa.CompressedInputStream(pa.OSFile(str(data)), "zstd").read()
    assert line.startswith(b'{"n": 1.50, "text":"a b", "lang": "en", "compressed_text": ')
    assert json.loads(line)["lang"] == "en"


def test_none_takes_the_files_alone(compress, partitioned, tmp_path, read_rows):
    source, expected = partitioned("jsonl")
    compress(source, tmp_path / "out", "input.partitioning=none")
    rows = read_rows(tmp_path / "out")
    assert len(rows) == len(expected)
    assert "lang" not in rows[0]
    assert verify_output(str(tmp_path / "out")).broken == []


@pytest.mark.parametrize(
    ("files", "override", "message"),
    [
        (["a=1/p.jsonl", "p.jsonl"], "", "input.partitioning=none to read them without"),
        (["p.jsonl"], "input.partitioning=hive", "no file lies in a directory"),
        (["rate=1/p.jsonl"], "", "'rate' is named like one that moos adds"),
        (["text=1/p.jsonl"], "", "input.text_column='text' is named by directories"),
        (["a=1/a=2/p.jsonl"], "", "names the partition column 'a' twice"),
    ],
)
def test_a_layout_that_says_no_one_thing_is_refused(
    config, write_jsonl, tmp_path, files, override, message
):
    from pipelines.compress import prepare_compress

    for name in files:
        write_jsonl(f"in/{name}", [{"text": "a b"}])
    overrides = [override] if override else []
    with pytest.raises(ConfigError) as error:
        prepare_compress(config(tmp_path / "in", tmp_path / "out", *overrides))
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()
