"""What a run writes, for every pair of formats: rows, types, quarantine, exit codes."""

import base64
import gzip
import io
import json
import random
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moos import protect
from moos.errors import ConfigError
from moos.schema import EXTRA_JSON, annotation_schema
from pipelines.verify import verify_output

CORPUS = ("selection.corpus_rate=0.4", "scoring.alpha=1")
OURS = ["compressed_text", "kept_spans", "num_tokens", "num_kept_tokens", "rate", "over_budget"]


def data_files(output):
    return sorted((output / "data").iterdir())


def read_lines(output):
    lines = []
    for path in data_files(output):
        text = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd").read()
        lines.extend(line for line in text.split(b"\n") if line)
    return lines


def assert_sound(output):
    assert verify_output(str(output)).broken == []


def test_jsonl_to_parquet_infers_types_and_keeps_the_rest_as_raw_json(
    compress, write_jsonl, tmp_path, read_rows
):
    source = write_jsonl(
        "docs.jsonl",
        [
            b'{"id": "a", "n": 1, "x": 1.50, "ok": true, "text": "One two three four."}',
            b'{"id": "b", "n": "one", "x": 2, "tags": ["t"], "text": ""}',
            b'{"text": "Five six.", "id": null, "n": 3, "x": NaN, "\\ud800": 1}',
        ],
    )
    summary = compress(source, tmp_path / "out")
    assert (summary["exit_code"], summary["documents"]) == (0, 3)
    (path,) = data_files(tmp_path / "out")
    schema = pq.read_schema(path)
    assert schema.names == ["id", "n", "x", "ok", "text", EXTRA_JSON, *OURS, "kept_words"]
    assert [str(schema.field(name).type) for name in ("id", "n", "x", "ok")] == [
        "string",
        "int64",
        "double",
        "bool",
    ]
    rows = read_rows(tmp_path / "out")
    assert [row["id"] for row in rows] == ["a", "b", None]
    assert [row["n"] for row in rows] == [1, None, 3]
    assert [row[EXTRA_JSON] for row in rows] == [
        None,
        '{"n": "one", "tags": ["t"]}',
        '{"\\ud800": 1}',
    ]
    assert rows[1]["compressed_text"] == ""
    assert rows[1]["rate"] == 1.0
    assert_sound(tmp_path / "out")


def test_jsonl_to_jsonl_leaves_the_inputs_own_characters_untouched(compress, write_jsonl, tmp_path):
    own = [
        b'{"text":"One two three.","x":1.50 , "big": 123456789012345678901234567890}',
        '{ "text" : "caf\u00e9 \\u00e9 a\u2028b", "text2": "\\ud800" }'.encode(),
        b'{"a": NaN, "text": "Four five.", "a": 2}',
        b'{"text": ""}',
    ]
    source = write_jsonl("docs.jsonl", [line + b" \r" for line in own])
    summary = compress(source, tmp_path / "out", "output.format=jsonl")
    assert summary["documents"] == 4
    assert all(path.name.endswith(".jsonl.zst") for path in data_files(tmp_path / "out"))
    for line, mine in zip(read_lines(tmp_path / "out"), own, strict=True):
        assert line.startswith(mine.rstrip()[:-1].rstrip() + b", ")
        assert list(json.loads(line))[-7:] == [*OURS, "kept_words"]
    assert_sound(tmp_path / "out")


@pytest.fixture
def typed_table():
    """A Parquet table with a column of every type that a careless writer would change."""
    words = ["Ten years passed.", "", None, "It rained, and nobody left the house.", "No."]
    stamps = [datetime(2020, 1, 2, 3, 4, 5, 678901), None, datetime(1969, 12, 31)] * 2
    return pa.table(
        {
            "id": pa.array([7, 8, 9, 10, 11], pa.uint16()),
            "text": pa.array(words, pa.large_string()),
            "us": pa.array(stamps[:5], pa.timestamp("us", "Europe/Berlin")),
            "ns": pa.array([1, None, 3, 1_600_000_000_000_000_001, 5], pa.timestamp("ns")),
            "day": pa.array([date(2020, 1, 1), None] * 2 + [None], pa.date32()),
            "clock": pa.array([time(1, 2, 3, 4)] * 5, pa.time64("us")),
            "span": pa.array([timedelta(days=1, microseconds=5)] * 5, pa.duration("us")),
            "price": pa.array(
                [Decimal("1.10"), None, Decimal("-0.01")] + [None] * 2, pa.decimal128(9, 2)
            ),
            "nested": pa.array([[{"k": [1]}], [], None, [None], [{"k": None}]]),
            "map": pa.array([[("a", 1)], [], None, [], []], pa.map_(pa.string(), pa.int32())),
            "kind": pa.array(["x", "y", "x", None, "y"]).dictionary_encode(),
            "small_kind": pa.array(["x", "y"] * 2 + ["x"], pa.dictionary(pa.int8(), pa.string())),
            "raw": pa.array([b"\xff\x00", None, b"", b"a", b"b"], pa.binary()),
            "fixed": pa.array([b"ab"] * 5, pa.binary(2)),
            "half": pa.array([1.5, None, float("nan"), float("inf"), -0.0], pa.float32()),
            "nothing": pa.nulls(5),
            "flag": pa.array([True, None, False, True, True]),
            "list3": pa.array([[1, 2, 3]] * 5, pa.list_(pa.int8(), 3)),
            "view": pa.array(["v", None, "w" * 40, "", "x"]).cast(pa.string_view()),
        }
    )


def test_dictionaries_that_are_too_many_for_their_indices_stay_apart(compress, tmp_path):
    kind = pa.dictionary(pa.int8(), pa.string())
    names = [[f"{part}-{number}" for number in range(60)] for part in range(3)]
    parts = [pa.table({"text": ["Some text."] * 60, "kind": pa.array(p).cast(kind)}) for p in names]
    source = tmp_path / "docs.parquet"
    with pq.ParquetWriter(source, parts[0].schema) as writer:
        for part in parts:
            writer.write_table(part)
    assert compress(source, tmp_path / "out")["documents"] == 180
    (path,) = data_files(tmp_path / "out")
    written = pq.read_table(path)
    assert written.schema.field("kind").type == kind
    assert written.column("kind").to_pylist() == [name for part in names for name in part]


def test_parquet_to_parquet_keeps_every_type_and_value(
    compress, write_parquet, typed_table, tmp_path
):
    source = write_parquet("docs.parquet", typed_table, row_group_size=2)
    summary = compress(source, tmp_path / "out", "max_quarantined=0.5")
    assert (summary["documents"], summary["quarantined"], summary["exit_code"]) == (4, 1, 0)
    (path,) = data_files(tmp_path / "out")
    written = pq.read_table(path)
    assert written.schema.names == [*typed_table.schema.names, *OURS, "kept_words"]
    sound = [0, 1, 3, 4]
    original = pq.read_table(source)
    for name in typed_table.schema.names:
        assert written.schema.field(name).type == original.schema.field(name).type, name
        values = original.column(name).to_pylist()
        assert repr(written.column(name).to_pylist()) == repr([values[i] for i in sound]), name
    assert_sound(tmp_path / "out")


def test_parquet_to_jsonl_has_a_json_form_of_every_type(
    compress, write_parquet, typed_table, tmp_path
):
    source = write_parquet("docs.parquet", typed_table, row_group_size=2)
    compress(source, tmp_path / "out", "output.format=jsonl", "max_quarantined=0.5")
    rows = [json.loads(line) for line in read_lines(tmp_path / "out")]
    assert [row["id"] for row in rows] == [7, 8, 10, 11]
    first = rows[0]
    assert first["us"] == "2020-01-02T04:04:05.678901+01:00"
    assert first["day"] == "2020-01-01"
    assert first["clock"] == "01:02:03.000004"
    assert first["price"] == "1.10"
    assert first["nested"] == [{"k": [1]}]
    assert first["map"] == [["a", 1]]
    assert first["kind"] == "x"
    assert first["raw"] == "/wA="
    assert rows[2]["ns"] == "2020-09-13T12:26:40.000000001"
    assert_sound(tmp_path / "out")


def test_a_parquet_uuid_has_a_json_form(compress, write_parquet, tmp_path):
    table = pa.table({"text": ["One two."], "key": pa.array([b"0123456789abcdef"], pa.uuid())})
    source = write_parquet("docs.parquet", table)
    compress(source, tmp_path / "out", "output.format=jsonl")
    (line,) = read_lines(tmp_path / "out")
    assert json.loads(line)["key"] == "30313233-3435-3637-3839-616263646566"


def invalid_utf8():
    raw = pa.array([b"good", b"caf\xe9 bad", b"good too"])
    return pa.Array.from_buffers(pa.string(), 3, raw.buffers())


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_text_that_is_no_utf8_is_quarantined(
    compress, write_parquet, tmp_path, read_quarantine, form
):
    source = write_parquet("docs.parquet", {"id": ["a", "b", "c"], "text": invalid_utf8()})
    summary = compress(source, tmp_path / "out", f"output.format={form}", "input.id_column=id")
    assert (summary["documents"], summary["exit_code"]) == (2, 3)
    (record,) = read_quarantine(tmp_path / "out")
    assert (record["id"], record["position"]) == ("b", 1)
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize("wrap", ["plain", "list"])
def test_a_row_whose_other_column_is_no_utf8_is_quarantined(
    compress, write_parquet, tmp_path, read_quarantine, form, wrap
):
    column = invalid_utf8()
    if wrap == "list":
        column = pa.ListArray.from_arrays([0, 1, 2, 3], column)
    source = write_parquet("docs.parquet", {"text": ["a", "b", "c"], "name": column})
    summary = compress(source, tmp_path / "out", f"output.format={form}")
    assert (summary["documents"], summary["quarantined"]) == (2, 1)
    (record,) = read_quarantine(tmp_path / "out")
    assert record["position"] == 1
    assert record["reason"].startswith("column 'name' is not valid UTF-8")
    assert b"caf\xe9 bad" in base64.b64decode(record["raw"])
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize("annotations", ["kept", "all", "none"])
def test_annotations(compress, write_jsonl, documents, tmp_path, read_rows, form, annotations):
    source = write_jsonl("docs.jsonl", [*documents(12), {"text": ""}])
    out = tmp_path / "out"
    compress(source, out, f"output.format={form}", f"output.annotations={annotations}")
    for row in read_rows(out):
        assert (
            list(row)[-len(annotation_schema(annotations).names) :]
            == annotation_schema(annotations).names
        )
        if annotations == "none":
            assert "kept_words" not in row
            continue
        kept = [word for word in row["kept_words"] if word.get("kept", True)]
        text = "".join(row["text"][word["start"] : word["end"]] for word in kept)
        squeezed = "".join(row["compressed_text"].split())
        assert "".join(text.split()) == squeezed
        assert ("kept" in row["kept_words"][0] if row["text"] else True) == (
            annotations == "all" or not row["text"]
        )
    assert_sound(out)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_every_file_of_a_run_has_the_same_schema(
    compress, write_jsonl, write_parquet, documents, tmp_path, kind
):
    for index in range(3):
        records = documents(6, 6 * index)
        if kind == "jsonl":
            # What only a later file has, goes to columns or to extra_json, the same in all files.
            extra = {0: {"n": 1}, 1: {"n": "x", "m": [1]}, 2: {}}[index]
            write_jsonl(f"in/{index}.jsonl", [{**record, **extra} for record in records])
        else:
            columns = {"text": [record["text"] for record in records]}
            columns |= {0: {"n": [1] * 6}, 1: {"m": ["x"] * 6}, 2: {"n": [2] * 6}}[index]
            write_parquet(f"in/{index}.parquet", columns)
    compress(tmp_path / "in", tmp_path / "out")
    paths = data_files(tmp_path / "out")
    assert len(paths) == 3
    assert len({pq.read_schema(path).serialize().to_pybytes() for path in paths}) == 1
    assert_sound(tmp_path / "out")


def test_a_column_of_any_type_is_null_where_a_file_lacks_it(
    compress, write_parquet, typed_table, tmp_path
):
    write_parquet("in/a.parquet", typed_table.slice(0, 2))
    write_parquet("in/b.parquet", {"text": pa.array(["One two.", "Three."], pa.large_string())})
    compress(tmp_path / "in", tmp_path / "out")
    first, second = data_files(tmp_path / "out")
    assert pq.read_schema(first) == pq.read_schema(second)
    assert pq.read_table(second).column("nested").null_count == 2
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_splits_without_good_rows_have_no_data_file(
    compress, write_jsonl, tmp_path, read_quarantine, form
):
    bad = [b'{"text": null, "pad": "' + b"x" * 90 + b'"}'] * 12
    source = write_jsonl("docs.jsonl", bad)
    out = tmp_path / "out"
    summary = compress(source, out, f"output.format={form}", "input.split_bytes=1024")
    assert (summary["documents"], summary["quarantined"], summary["splits"]) == (0, 12, 2)
    assert (summary["exit_code"], summary["status"]) == (3, "quarantined")
    assert not (out / "data").exists()
    assert len(read_quarantine(out)) == 12
    assert_sound(out)


@pytest.mark.parametrize("content", [b"", b"\n\n \n", b"\xef\xbb\xbf"])
def test_a_file_without_records_is_a_complete_run(compress, tmp_path, content):
    (tmp_path / "docs.jsonl").write_bytes(content)
    summary = compress(tmp_path / "docs.jsonl", tmp_path / "out")
    assert (summary["exit_code"], summary["documents"], summary["rate"]) == (0, 0, 1.0)
    assert (tmp_path / "out/_SUCCESS").exists()
    assert_sound(tmp_path / "out")


def test_a_parquet_file_without_rows_is_a_complete_run(compress, write_parquet, tmp_path):
    source = write_parquet("docs.parquet", {"text": pa.array([], pa.string())})
    assert compress(source, tmp_path / "out")["exit_code"] == 0
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize("split_bytes", ["1KiB", "8MiB"])
@pytest.mark.parametrize("extension", ["gz", "zst"])
def test_compressed_input_gives_the_same_rows(
    compress, write_jsonl, documents, tmp_path, read_rows, extension, split_bytes
):
    plain = write_jsonl("docs.jsonl", documents(20))
    packed = write_jsonl(f"docs.jsonl.{extension}", documents(20))
    override = f"input.split_bytes={split_bytes}"
    first = compress(plain, tmp_path / "a", override)
    second = compress(packed, tmp_path / "b", override)
    assert second["documents"] == 20
    assert (second["splits"], second["input_bytes"]) == (first["splits"], first["input_bytes"])
    assert (second["splits"] > 3) == (split_bytes == "1KiB")
    assert read_rows(tmp_path / "a") == read_rows(tmp_path / "b")
    assert_sound(tmp_path / "b")


@pytest.mark.parametrize("selection", [["selection.rate=0.4"], CORPUS], ids=" ".join)
def test_rows_of_one_row_group_in_many_splits_are_the_rows_of_one(
    compress, write_parquet, documents, tmp_path, read_rows, selection
):
    records = documents(90)
    columns = {key: [record[key] for record in records] for key in ("id", "text")}
    source = write_parquet("docs.parquet", columns, row_group_size=90)
    # Another cut groups other texts into a batch, which shows in the last digits of torch's scores.
    overrides = [*selection, "engine=openvino"]
    whole = compress(source, tmp_path / "a", *overrides)
    parts = compress(source, tmp_path / "b", *overrides, "input.split_bytes=1KiB")
    assert (whole["splits"], parts["splits"] > 5) == (1, True)
    assert read_rows(tmp_path / "a") == read_rows(tmp_path / "b")
    assert_sound(tmp_path / "b")


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_corpus_is_compressed_to_its_rate_and_its_documents_to_what_they_need(
    compress, write_jsonl, documents, tmp_path, read_rows, rate, form
):
    source = write_jsonl("docs.jsonl", documents(200))
    overrides = (f"selection.corpus_rate={rate}", "scoring.alpha=1", f"output.format={form}")
    summary = compress(source, tmp_path / "out", *overrides, "input.split_bytes=4KiB")
    assert rate - 0.005 < summary["rate"] <= rate
    assert summary["documents_scored"] == summary["documents"] == 200
    rates = [row["rate"] for row in read_rows(tmp_path / "out")]
    assert max(rates) - min(rates) > 0.05
    assert_sound(tmp_path / "out")


def test_how_a_corpus_is_cut_and_read_does_not_change_its_rows(
    compress, write_jsonl, documents, tmp_path, read_rows
):
    found = []
    for number, (name, size) in enumerate(
        [("docs.jsonl", "1KiB"), ("docs.jsonl", "8MiB"), ("docs.jsonl.gz", "2KiB")]
    ):
        source = write_jsonl(name, documents(60))
        out = tmp_path / f"out-{number}"
        compress(source, out, *CORPUS, f"input.split_bytes={size}")
        found.append(read_rows(out))
    assert found[0] == found[1] == found[2]


def test_a_corpus_rate_finds_the_bad_records_that_a_rate_finds(
    compress, write_jsonl, documents, tmp_path, read_quarantine, monkeypatch
):
    monkeypatch.setattr(protect, "PATTERN_TIMEOUT_S", 0.1)
    slow = {"id": "slow", "text": "a" * 5000 + "y"}
    records = [*documents(9), b"nope", {"text": None}, slow, *documents(9, 9), {"text": ""}]
    source = write_jsonl("docs.jsonl", records)
    overrides = (
        "selection.protect_patterns=['(?:(?:a|aa)+)+x']",
        "input.id_column=id",
        "max_quarantined=1",
        "input.split_bytes=1KiB",
    )
    compress(source, tmp_path / "a", *overrides)
    summary = compress(source, tmp_path / "b", *CORPUS, *overrides)
    assert (summary["documents"], summary["quarantined"]) == (19, 3)
    found = read_quarantine(tmp_path / "b")
    assert found == read_quarantine(tmp_path / "a")
    assert found[-1]["id"] == "slow"
    assert "selection.protect_patterns" in found[-1]["reason"]


@pytest.mark.parametrize("num_documents", [5, 4000])
@pytest.mark.parametrize("name", ["b.jsonl.gz", "b.jsonl.zst"])
def test_a_damaged_file_is_one_record_of_a_corpus_too(
    compress, write_jsonl, documents, tmp_path, read_quarantine, name, num_documents
):
    """Of a large one, pieces are read before its damage is met."""
    write_jsonl("in/a.jsonl", documents(5))
    pad = [random.Random(i).randbytes(200).hex() for i in range(num_documents)]
    path = write_jsonl(f"in/{name}", [{"text": "One two.", "pad": noise} for noise in pad])
    path.write_bytes(path.read_bytes()[:-20])
    summary = compress(tmp_path / "in", tmp_path / "out", *CORPUS, "max_quarantined=1")
    assert (summary["exit_code"], summary["damaged_files"], summary["documents"]) == (3, 1, 5)
    assert [record["path"] for record in read_quarantine(tmp_path / "out")] == [name]
    assert_sound(tmp_path / "out")


def test_protected_words_over_a_corpus_rate_are_told(compress, write_jsonl, tmp_path, caplog):
    source = write_jsonl("docs.jsonl", [{"text": "1 2 3 4 5 cats"}] * 9)
    summary = compress(source, tmp_path / "out", "selection.corpus_rate=0.1", "scoring.alpha=1")
    assert summary["kept_tokens"] == 5 * 9
    assert "over selection.corpus_rate=0.1; protect less, or raise the rate" in caplog.text
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize("content", [[], [b"nope"], [{"text": ""}], [{"text": None}] * 3])
def test_a_corpus_without_tokens_is_a_complete_run(compress, write_jsonl, tmp_path, content):
    source = write_jsonl("docs.jsonl", content)
    summary = compress(source, tmp_path / "out", *CORPUS, "max_quarantined=1")
    assert (summary["exit_code"], summary["rate"]) == (0, 1.0)
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize("extension", ["gz", "zst"])
def test_compressed_parquet_keeps_its_columns(compress, tmp_path, read_rows, extension, form):
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": [1, 2], "text": ["One two three.", "Four."]}), sink)
    data = sink.getvalue()
    packed = gzip.compress(data) if extension == "gz" else pa.compress(data, "zstd", asbytes=True)
    (tmp_path / f"docs.parquet.{extension}").write_bytes(packed)
    compress(tmp_path / f"docs.parquet.{extension}", tmp_path / "out", f"output.format={form}")
    assert [row["n"] for row in read_rows(tmp_path / "out")] == [1, 2]
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize("name", ["b.jsonl.gz", "b.jsonl.zst"])
def test_a_damaged_file_is_one_record_and_the_others_are_complete(
    compress, write_jsonl, documents, tmp_path, read_rows, read_quarantine, name
):
    write_jsonl("in/a.jsonl", documents(5))
    path = write_jsonl(f"in/{name}", documents(400, 5))
    path.write_bytes(path.read_bytes()[:-20])
    write_jsonl("in/c.jsonl", documents(5, 900))
    summary = compress(tmp_path / "in", tmp_path / "out", "max_quarantined=1")
    assert (summary["exit_code"], summary["damaged_files"], summary["documents"]) == (3, 1, 10)
    (record,) = read_quarantine(tmp_path / "out")
    assert (record["path"], record["raw_format"], record["raw"]) == (name, "file", "")
    assert f"{name} is damaged" in record["reason"]
    ids = [row["id"] for row in read_rows(tmp_path / "out")]
    assert ids == [d["id"] for d in [*documents(5), *documents(5, 900)]]
    assert_sound(tmp_path / "out")


def test_a_damaged_parquet_file_is_one_record(compress, write_parquet, tmp_path, read_quarantine):
    path = write_parquet("in/a.parquet", {"text": ["One two."], "n": [1]})
    (path.parent / "b.parquet").write_bytes(path.read_bytes()[:-9])
    (path.parent / "c.parquet").write_bytes(b"")
    summary = compress(path.parent, tmp_path / "out", "max_quarantined=1")
    assert (summary["exit_code"], summary["damaged_files"], summary["documents"]) == (3, 2, 1)
    assert [r["path"] for r in read_quarantine(tmp_path / "out")] == ["b.parquet", "c.parquet"]
    assert_sound(tmp_path / "out")


def test_a_repaired_file_is_read_on_the_next_run(compress, write_jsonl, documents, tmp_path):
    path = write_jsonl("in/a.jsonl.gz", documents(50))
    sound = path.read_bytes()
    path.write_bytes(sound[:-20])
    assert compress(path.parent, tmp_path / "out")["exit_code"] == 3
    path.write_bytes(sound)
    summary = compress(path.parent, tmp_path / "out")
    assert (summary["exit_code"], summary["documents"], summary["quarantined"]) == (0, 50, 0)
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize(("limit", "exit_code"), [(0.0, 3), (0.19, 3), (0.2, 0), (1.0, 0)])
def test_the_share_of_quarantined_records_decides_the_exit_code(
    compress, write_jsonl, documents, tmp_path, caplog, limit, exit_code
):
    source = write_jsonl("docs.jsonl", [*documents(8), b"nope", {"id": "x", "text": None}])
    summary = compress(source, tmp_path / "out", f"max_quarantined={limit}", "input.id_column=id")
    assert (summary["exit_code"], summary["quarantined"]) == (exit_code, 2)
    assert (tmp_path / "out/_SUCCESS").exists()
    assert "docs.jsonl at" in caplog.text
    assert "quarantine/" in caplog.text


def test_the_message_about_too_many_bad_records_reads_well(compress, write_jsonl, tmp_path, caplog):
    compress(write_jsonl("docs.jsonl", [b"nope"] * 5), tmp_path / "out")
    assert "100 % of 5 records quarantined, over max_quarantined=0.01" in caplog.text


def test_a_quarantined_record_can_be_repaired_from_its_raw_bytes(
    compress, write_jsonl, tmp_path, read_quarantine
):
    lines = [b'{"text": "a", "b": \xff}', b"{", '{"text": 1, "é": "\u2028"}'.encode()]
    source = write_jsonl("docs.jsonl", [b'{"text": "fine"}', *lines])
    compress(source, tmp_path / "out")
    found = read_quarantine(tmp_path / "out")
    assert [base64.b64decode(record["raw"]) for record in found] == lines
    data = source.read_bytes()
    for record, line in zip(found, lines, strict=True):
        assert data[record["position"] :].startswith(line)


@pytest.mark.parametrize(
    "selection",
    [
        ["selection.rate=0.3"],
        ["selection.rate=1.0"],
        ["selection.rate=0.01"],
        ["selection.target_tokens=0"],
        ["selection.target_tokens=7"],
        ["selection.threshold=0.5", "scoring.alpha=1"],
        ["selection.corpus_rate=0.3", "scoring.alpha=1"],
        ["selection.corpus_rate=1", "scoring.alpha=1"],
        ["selection.corpus_rate=0.2", "scoring.alpha=1", "selection.protect=[]"],
        ["selection.rate=0.2", "selection.protect=[]"],
        ["selection.rate=0.2", "selection.protect_words=[committee]"],
        ["selection.rate=0.3", "window.max_length=16", "window.context_tokens=4"],
        ["selection.rate=0.3", "scoring.alpha=0.2", "scoring.word_score=max"],
    ],
    ids=" ".join,
)
def test_every_selection_keeps_the_promises_that_verify_checks(
    compress, write_jsonl, documents, tmp_path, selection
):
    hostile = [
        {"text": text} for text in ("", " \n\t ", "word", "!?...", "\u4f60\u597d 3.5", "\x00")
    ]
    source = write_jsonl("docs.jsonl", [*documents(10), *hostile])
    assert compress(source, tmp_path / "out", *selection)["documents"] == 16
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize("kind", ["xlm-r", "modernbert", "deberta-v2", "llmlingua2"])
def test_every_geometry_keeps_the_promises_that_verify_checks(
    compress, make_checkpoint, write_jsonl, documents, tmp_path, kind
):
    hostile = [{"text": t} for t in ("", "   \n\t ", "\n" * 40, "word", "!?...", "\u3000", "\x00")]
    source = write_jsonl("docs.jsonl", [*documents(6), *hostile])
    compress(source, tmp_path / "out", f"checkpoint={make_checkpoint(kind)}")
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize("selection", ["selection.rate=0.4", "selection.target_tokens=9"])
def test_a_budget_in_a_readers_tokens_keeps_its_promises(
    compress, make_checkpoint, write_jsonl, documents, tmp_path, selection, read_rows
):
    hostile = [{"text": text} for text in ("", "   \n\t ", "word", "!?...", "\u4f60\u597d 3.5")]
    source = write_jsonl("docs.jsonl", [*documents(6), *hostile])
    reader = make_checkpoint("modernbert") / "tokenizer.json"
    compress(source, tmp_path / "out", selection, f"selection.budget_tokenizer={reader}")
    assert_sound(tmp_path / "out")


def test_a_missing_budget_tokenizer_is_refused(compress, write_jsonl, documents, tmp_path):
    source = write_jsonl("docs.jsonl", documents(2))
    with pytest.raises(ConfigError, match=r"selection\.budget_tokenizer.*nowhere\.json"):
        compress(source, tmp_path / "out", f"selection.budget_tokenizer={tmp_path}/nowhere.json")


def test_a_run_goes_from_and_to_any_filesystem(compress, documents, read_rows):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    lines = b"".join(json.dumps(record).encode() + b"\n" for record in documents(30))
    memory.pipe_file("/runs/in/docs.jsonl", lines)
    overrides = ("input.split_bytes=1KiB",)
    first = compress("memory://runs/in", "memory://runs/out", *overrides)
    again = compress("memory://runs/in", "memory://runs/out", *overrides)
    assert first["documents"] == again["documents"] == 30
    assert again["splits_resumed"] == again["splits"] > 3
    assert verify_output("memory://runs/out").broken == []
    assert [row["id"] for row in read_rows("memory://runs/out")] == [f"d{i}" for i in range(30)]
    memory.store.clear()


def test_long_documents_are_worked_in_bounded_groups(compress, write_jsonl, tmp_path, read_rows):
    texts = ["long " * 30_000, "short", "word. " * 50_000, ""]
    source = write_jsonl("docs.jsonl", [{"text": text} for text in texts])
    compress(source, tmp_path / "out", "selection.rate=0.1", "output.annotations=none")
    assert [row["text"] for row in read_rows(tmp_path / "out")] == texts


@pytest.mark.parametrize("key", ["", "a.b", "a\x00b", "text.x", "é"])
def test_a_key_of_any_characters_becomes_a_column(compress, write_jsonl, tmp_path, read_rows, key):
    source = write_jsonl("docs.jsonl", [{"text": "One two.", key: 5}])
    compress(source, tmp_path / "out")
    (row,) = read_rows(tmp_path / "out")
    assert row.get(key) == 5 or json.loads(row[EXTRA_JSON]) == {key: 5}
    assert_sound(tmp_path / "out")
