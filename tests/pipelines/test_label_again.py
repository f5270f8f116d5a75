"""Quarantined records that are labelled after all, and ids that several documents have."""

import json
from pathlib import Path

import pytest

from jobs.label import main
from moos.config import load_config
from moos.errors import DataError
from moos.labelling import PairLabeller
from moos.labels import read_labelled
from moos.storage import Storage
from pipelines.label import run_label
from pipelines.label_config import LabelConfig
from pipelines.outputs import iterate_rows, read_manifest
from pipelines.verify import verify_output

PAIRS = ("teacher.kind=pairs", "teacher.name=a hand", "executor=local", "input.id_column=id")
SMALL = "input.split_bytes=1KiB"
PERCENTILE = "filters.variation_percentile=50"


@pytest.fixture
def configure(tmp_path):
    """`configure(source, "out", *overrides)`: a config that labels pairs."""

    def make(source, name, *overrides):
        paths = (f"input.path={source}", f"output.path={tmp_path / name}")
        return load_config(LabelConfig, None, [*paths, *PAIRS, *overrides])

    return make


@pytest.fixture
def pairs(documents):
    """`pairs(30)`: documents with every third word dropped; two of them cannot be labelled."""

    def make(count):
        made = [
            {**d, "compressed": " ".join(w for i, w in enumerate(d["text"].split()) if i % 3)}
            for d in documents(count)
        ]
        return [*made, {"id": "bare", "text": "Some words."}, b"no JSON"]

    return make


def bytes_of(output):
    paths = [*Path(output, "data").iterdir(), *Path(output).glob("quarantine/*")]
    return {path.name: path.read_bytes() for path in [*paths, Path(output, "manifest.json")]}


def rows_of(output):
    storage = Storage(str(output))
    entries = [entry["data"] for entry in read_manifest(storage)["splits"] if entry["data"]]
    return [row for e in entries for row in iterate_rows(e["name"], storage.get(e["name"]))]


@pytest.fixture
def fail_on(monkeypatch):
    """`fail_on("Prices")`: documents that hold the word cannot be labelled."""
    align = PairLabeller._align

    def start(word):
        def fail(self, document):
            if word in document.text:
                return DataError("the teacher gave nothing")
            return align(self, document)

        monkeypatch.setattr(PairLabeller, "_align", fail)

    return start


@pytest.mark.parametrize(
    ("word", "filters"),
    [("Prices", ()), (".", ()), ("17.", (PERCENTILE,))],
    ids=["one pass", "all of one pass", "two passes"],
)
def test_records_that_are_tried_again_join_the_rows_as_if_they_had_never_failed(
    configure, write_jsonl, pairs, tmp_path, fail_on, monkeypatch, word, filters
):
    source = write_jsonl("pairs.jsonl", pairs(30))
    # Bounds are settled once: a percentile is that of the rows that were there.
    overrides = (SMALL, "max_quarantined=1", *filters)
    whole = run_label(configure(source, "whole", *overrides))
    config = configure(source, "out", *overrides)
    if filters:
        (tmp_path / "out" / "_run").mkdir(parents=True)
        settled = (tmp_path / "whole" / "_run" / "bounds.json").read_bytes()
        (tmp_path / "out" / "_run" / "bounds.json").write_bytes(settled)
    fail_on(word)
    failed = run_label(config)
    assert failed["quarantined"] > 2
    monkeypatch.undo()
    assert run_label(config)["quarantined"] == failed["quarantined"]
    summary = run_label(config, retry_quarantined=True)
    assert (summary["documents"], summary["quarantined"]) == (30, 2)
    assert summary["passed"] == whole["passed"]
    assert summary["documents_labelled"] == failed["quarantined"] - 2
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    assert verify_output(str(tmp_path / "out")).broken == []


def test_records_that_fail_again_stay_quarantined_and_nothing_else_is_labelled(
    configure, write_jsonl, pairs, tmp_path, fail_on
):
    config = configure(write_jsonl("pairs.jsonl", pairs(12)), "out", SMALL, "max_quarantined=1")
    fail_on("Prices")
    failed = run_label(config)
    before = bytes_of(tmp_path / "out")
    summary = run_label(config, retry_quarantined=True)
    assert summary["documents_labelled"] == failed["quarantined"] - 2
    assert bytes_of(tmp_path / "out") == before


def test_the_command_takes_the_option(write_jsonl, pairs, tmp_path, capsys, fail_on, monkeypatch):
    source = write_jsonl("pairs.jsonl", pairs(6))
    arguments = [f"input.path={source}", f"output.path={tmp_path / 'out'}", *PAIRS]
    fail_on("Prices")
    assert main(arguments) == 3
    monkeypatch.undo()
    capsys.readouterr()
    assert main([*arguments, "--retry-quarantined", "max_quarantined=0.5"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["documents"], summary["quarantined"]) == (6, 2)


@pytest.mark.parametrize("filters", [(), (PERCENTILE,)], ids=["one pass", "two passes"])
def test_ids_of_several_documents_are_told_before_training_refuses_them(
    configure, write_jsonl, pairs, tmp_path, caplog, filters
):
    records = pairs(8)[:8]
    for place, id_ in {0: "a", 3: 1, 5: "1", 6: "a", 7: None}.items():
        records[place]["id"] = id_
    config = configure(write_jsonl("pairs.jsonl", records), "out", SMALL, *filters)
    summary = run_label(config)
    assert (summary["splits"] > 1, summary["repeated_ids"]) == (True, 2)
    manifest = read_manifest(Storage(str(tmp_path / "out")))
    assert manifest["ids"] == {
        "documents_without_id": 1,
        "repeated_ids": 2,
        "documents_with_repeated_ids": 4,
        "examples": [
            {"id": '"a"', "documents": 2, "first": "pairs.jsonl"},
            {"id": '"1"', "documents": 2, "first": "pairs.jsonl"},
        ],
    }
    assert '2 ids are those of several documents, 4 in all. First: "a" of 2' in caplog.text
    assert "`moos train` refuses labels of which two have one id" in caplog.text
    assert "1 of 8 documents have no id (input.id_column=id)" in caplog.text
    assert "2 ids are those of several documents" in (tmp_path / "out/report.html").read_text()
    assert verify_output(str(tmp_path / "out")).broken == []
    with pytest.raises(DataError, match="was there before"):
        read_labelled(str(tmp_path / "out"))


def test_without_an_id_column_a_place_is_the_id_and_nothing_is_kept(
    configure, write_jsonl, pairs, tmp_path, caplog
):
    records = [{**record, "id": "a"} for record in pairs(4)[:4]]
    source = write_jsonl("pairs.jsonl", records)
    summary = run_label(configure(source, "out", "input.id_column=null"))
    assert summary["repeated_ids"] == 0
    assert "ids" not in read_manifest(Storage(str(tmp_path / "out")))
    assert not (tmp_path / "out" / "_run" / "ids").exists()
    assert len({row["id"] for row in rows_of(tmp_path / "out")}) == 4
    assert "id" not in caplog.text.replace(str(tmp_path), "")
