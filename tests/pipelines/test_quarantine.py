"""A quarantine file holds every bad record, and of the raw bytes as many as memory allows."""

import base64
import json

import pyarrow as pa
import pytest

from moos.pieces import RawPiece
from moos.record_parser import RecordParser
from moos.records import BadRecord
from moos.splits import InputSplit
from pipelines import quarantine
from pipelines.quarantine import Quarantine

SPLIT = InputSplit("d-0", "/in/d.parquet", "d.parquet", "parquet", None, 0, 9, 9, 9, "e")


def test_raw_bytes_beyond_the_limit_stay_in_the_source(monkeypatch):
    monkeypatch.setattr(quarantine, "MAX_RAW_BYTES", 10)
    found = Quarantine(SPLIT)
    found.add([BadRecord(1, "'text' is null", b"abcd", "arrow", "b")])
    found.add([BadRecord(3, "'text' is null", b"abc", "arrow"), BadRecord(2, "a", b"abcd", "line")])
    found.add([BadRecord(4, "d.parquet is damaged: b", b"", "file")])
    records = [json.loads(line) for line in found.to_bytes().splitlines()]
    assert [(record["position"], record["raw_format"]) for record in records] == [
        (1, "arrow"),
        (2, "line"),
        (3, "left_out"),
        (4, "file"),
    ]
    raws = [base64.b64decode(record["raw"]) for record in records]
    assert raws == [b"abcd", b"abcd", b"", b""]
    assert (records[0]["id"], records[2]["path"], records[2]["split"]) == ("b", "d.parquet", "d-0")
    assert found.by_reason == {"file_damaged": 1, "null": 2, "other": 1}


def test_without_a_record_there_is_no_file():
    assert Quarantine(SPLIT).to_bytes() == b""


@pytest.mark.parametrize("index", [pa.int8(), pa.int32()])
def test_the_raw_bytes_of_a_row_hold_no_other_rows_values(index):
    kind = pa.dictionary(index, pa.string())
    texts = pa.array(["x" * 5000, None, "y" * 50], pa.string()).cast(kind)
    batch = pa.record_batch({"text": texts, "kind": texts, "n": [1, 2, 3]})
    group = RecordParser("text", None, 10).parse(RawPiece(0, 1, batch=batch))
    assert [bad.position for bad in group.bad] == [0, 1, 2]
    for number, bad in enumerate(group.bad):
        row = pa.ipc.open_stream(bad.raw).read_all()
        assert row.to_pylist() == batch.slice(number, 1).to_pylist()
        assert row.schema == batch.schema
        assert len(bad.raw) < 2000 + (10_000 if number == 0 else 0)
