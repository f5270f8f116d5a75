"""Ids of several documents: counted over all splits, whichever run worked them."""

import collections
import hashlib
import json
import random
from decimal import Decimal

import pyarrow as pa
import pytest

from moos.pieces import RawPiece
from moos.record_parser import RecordParser
from moos.storage import Storage
from pipelines import document_ids
from pipelines.document_ids import IdHashes, count_ids
from pipelines.outputs import read_manifest
from pipelines.verify import verify_output

ID = "input.id_column=id"
SMALL = "input.split_bytes=1KiB"


def with_ids(ids, first=0):
    """A record for each id; `...` stands for a record that has no such key."""
    text = "The committee met on Tuesday and decided nothing. " * 4
    return [
        {"text": f"{number}. {text}"} | ({} if id_ is ... else {"id": id_})
        for number, id_ in enumerate(ids, first)
    ]


def read_ids(output):
    return read_manifest(Storage(str(output)))["ids"]


@pytest.mark.parametrize("output_format", ["parquet", "jsonl"])
def test_ids_of_several_documents_are_told_everywhere(
    compress, write_jsonl, tmp_path, caplog, output_format
):
    ids = ["a", "b", "1", 1, "<b>", "a", None, ..., "c", "a", "<b>", 1, 1.5]
    source = write_jsonl("docs.jsonl", with_ids(ids))
    summary = compress(source, tmp_path / "out", ID, SMALL, f"output.format={output_format}")
    assert summary["splits"] > 2
    assert (summary["repeated_ids"], summary["null_ids"], summary["exit_code"]) == (3, 2, 0)
    assert read_ids(tmp_path / "out") == {
        "documents_without_id": 2,
        "repeated_ids": 3,
        "documents_with_repeated_ids": 7,
        "examples": [
            {"id": '"a"', "documents": 3, "first": "docs.jsonl"},
            {"id": "1", "documents": 2, "first": "docs.jsonl"},
            {"id": '"<b>"', "documents": 2, "first": "docs.jsonl"},
        ],
    }
    assert '3 ids are those of several documents, 7 in all. First: "a" of 3' in caplog.text
    assert "2 of 13 documents have no id (input.id_column=id)" in caplog.text
    report = (tmp_path / "out" / "report.html").read_text()
    assert "&quot;&lt;b&gt;&quot;" in report
    assert "3 ids are those of several documents" in report
    assert verify_output(str(tmp_path / "out")).broken == []


def test_each_id_once_is_no_news(compress, write_jsonl, tmp_path, caplog):
    source = write_jsonl("docs.jsonl", with_ids(["1", 1, True, "true", "null"]))
    summary = compress(source, tmp_path / "out", ID)
    assert (summary["repeated_ids"], summary["null_ids"]) == (0, 0)
    assert read_ids(tmp_path / "out")["examples"] == []
    assert "id" not in caplog.text.replace("docs.jsonl", "")


def test_without_an_id_column_nothing_is_kept(compress, write_jsonl, tmp_path):
    summary = compress(write_jsonl("docs.jsonl", with_ids(["a", "a"])), tmp_path / "out")
    assert summary["repeated_ids"] == 0
    assert not (tmp_path / "out" / "_run" / "ids").exists()
    assert "ids" not in read_manifest(Storage(str(tmp_path / "out")))


def test_a_grown_input_is_compared_with_what_was_there(compress, write_jsonl, tmp_path, done_times):
    write_jsonl("in/1.jsonl", with_ids(["a", "b", "c"]))
    assert compress(tmp_path / "in", tmp_path / "out", ID)["repeated_ids"] == 0
    before = done_times(tmp_path / "out")
    write_jsonl("in/2.jsonl", with_ids(["c", "d", "b"], first=3))
    summary = compress(tmp_path / "in", tmp_path / "out", ID)
    assert (summary["repeated_ids"], summary["splits_resumed"]) == (2, 1)
    assert before.items() <= done_times(tmp_path / "out").items()
    whole = compress(tmp_path / "in", tmp_path / "whole", ID)
    assert whole["repeated_ids"] == 2
    assert read_ids(tmp_path / "whole") == read_ids(tmp_path / "out")
    (tmp_path / "in" / "1.jsonl").unlink()
    assert compress(tmp_path / "in", tmp_path / "out", ID)["repeated_ids"] == 0
    assert len(list((tmp_path / "out" / "_run" / "ids").iterdir())) == 1
    assert verify_output(str(tmp_path / "out")).broken == []


def test_a_split_whose_hashes_are_gone_is_worked_again(compress, write_jsonl, tmp_path):
    source = write_jsonl("docs.jsonl", with_ids(["a", "a"]))
    compress(source, tmp_path / "out", ID)
    (hashes,) = (tmp_path / "out" / "_run" / "ids").iterdir()
    hashes.unlink()
    summary = compress(source, tmp_path / "out", ID)
    assert (summary["splits_resumed"], summary["repeated_ids"]) == (0, 1)


def test_hashes_in_parts_are_counted_like_all_at_once(tmp_path, monkeypatch):
    generator, storage, records, ids = random.Random(3), Storage(str(tmp_path)), [], []
    for split in range(7):
        part = [generator.choice([None, *range(40)]) for _ in range(generator.randrange(40))]
        ids += [id_ for id_ in part if id_ is not None]
        hashes = IdHashes()
        hashes.add([None if id_ is None else str(id_).encode() for id_ in part])
        record = {"counts": {"null_ids": part.count(None)}, "ids": None, "source": {"path": split}}
        if packed := hashes.pack():
            storage.put(f"_run/ids/{split}", packed)
            record["ids"] = {"name": f"_run/ids/{split}", "bytes": len(packed)}
        rows = b"".join(json.dumps({"key": id_}).encode() + b"\n" for id_ in part)
        storage.put(f"data/{split}.jsonl.zst", pa.compress(rows, "zstd", asbytes=True))
        records.append({**record, "data": {"name": f"data/{split}.jsonl.zst"}})
    at_once = count_ids(storage, records, "key")
    monkeypatch.setattr(document_ids, "PARTITION_ENTRIES", 11)
    assert count_ids(storage, records, "key") == at_once
    several = {id_: count for id_, count in collections.Counter(ids).items() if count > 1}
    assert at_once["repeated_ids"] == len(several)
    assert at_once["documents_with_repeated_ids"] == sum(several.values())
    best = sorted(several.values(), reverse=True)[: document_ids.MAX_EXAMPLES]
    assert [example["documents"] for example in at_once["examples"]] == best
    for example in at_once["examples"]:
        assert several[json.loads(example["id"])] == example["documents"]
        at = [r for r in range(7) if example["first"] == r]
        assert len(at) == 1


def test_a_repeated_id_that_python_cannot_hold_is_told(compress, write_parquet, tmp_path):
    days = pa.array([1 << 30, 1, 1 << 30], pa.int32()).cast(pa.date32())
    source = write_parquet("docs.parquet", pa.table({"text": ["A.", "B.", "C."], "day": days}))
    summary = compress(source, tmp_path / "out", "input.id_column=day")
    assert (summary["documents"], summary["repeated_ids"]) == (3, 1)


BYTES = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(16)]


def keys_of(columns):
    batch = pa.RecordBatch.from_pydict({"text": ["a"] * len(columns["id"]), **columns})
    group = RecordParser("text", "id", 10).parse(RawPiece(0, 1, batch=batch))
    return group.id_keys(list(range(len(group.texts))), "id")


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
    ids=str,
)
def test_a_string_is_one_id_whatever_column_holds_it(kind):
    assert keys_of({"id": pa.array(["1", None, "ä"]).cast(kind)}) == [b'"1', None, '"ä'.encode()]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, None, 2], pa.int8()),
        pa.array([1.5, None, float("nan")]),
        pa.array([-(2**31), None, 0], pa.date32()),
        pa.array([2**62, None, 0], pa.timestamp("us")),
        pa.array([Decimal(1), None, Decimal("1.5")]),
        pa.array([b"\xff", None, b"\xfe"]),
        pa.array([["a"], None, []]),
        pa.array([{"a": 1}, None, {"a": 2}]),
        # What Python cannot hold.
        pa.array([[1 << 30], None, [1 << 29]], pa.list_(pa.int32())).cast(pa.list_(pa.date32())),
        pa.array([1, None, 2], pa.timestamp("us", "no/such/zone")),
        pa.array([True, None, False]),
    ],
    ids=lambda values: str(values.type),
)
def test_an_id_of_any_type_has_a_key_of_its_own(values):
    first, null, third = keys_of({"id": values})
    assert null is None
    assert len({hashlib.sha256(key).digest() for key in (first, third)}) == 2
    assert keys_of({"id": values})[0] == first


@pytest.mark.parametrize(
    "kind",
    [
        *BYTES,
        pa.uuid(),
        *(pa.dictionary(pa.int8(), value) for value in [*BYTES, pa.uuid()]),
    ],
    ids=str,
)
def test_bytes_have_a_key_that_no_other_row_changes(kind):
    def make(*values):
        if not pa.types.is_dictionary(kind):
            return pa.array(values, kind)
        found = pa.array([value for value in values if value is not None], kind.value_type)
        places = iter(range(len(found)))
        codes = [None if value is None else next(places) for value in values]
        return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), found)

    text, other = b"1" * 16, b"\xff" * 16
    alone, null = keys_of({"id": make(text, None)})
    assert null is None
    assert keys_of({"id": make(other, text)})[1] == alone
    assert len({alone, *keys_of({"id": make(other)}), text, b'"' + text}) == 4


def test_a_number_is_the_same_id_in_lines_and_in_columns():
    parser = RecordParser("text", "id", 10)
    lines = parser.parse(RawPiece(0, 1, b'{"text": "a", "id": 1}\n{"text": "a", "id": "1"}\n'))
    assert lines.id_keys([0, 1], "id") == [b"1", b'"1']
    assert keys_of({"id": pa.array([1])}) == [b"1"]
    assert keys_of({"id": pa.array(["1"])}) == [b'"1']
