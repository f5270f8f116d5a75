"""A rate over the whole corpus: scored once, selected without the model, resumed in either pass."""

import itertools
import json
import random

import pytest

from moos.compressor import Compressor
from moos.config import load_config
from moos.errors import ConfigError, MoosError
from moos.storage import Storage
from pipelines.config import CompressConfig
from pipelines.outputs import read_manifest
from pipelines.verify import verify_output
from pipelines.work import SplitWorker

RATE = ("selection.corpus_rate=0.5", "scoring.alpha=1", "selection.protect=[numbers, negations]")
SPLIT = "input.split_bytes=1KiB"


@pytest.fixture
def scored(monkeypatch):
    """Texts given to the model, in order."""
    texts = []
    begin = Compressor.begin_score

    def note(self, parts):
        texts.extend(part.text for part in parts)
        return begin(self, parts)

    monkeypatch.setattr(Compressor, "begin_score", note)
    return texts


@pytest.fixture
def mixed(documents):
    """Documents that differ in length, so that one threshold gives each another rate."""
    generator = random.Random(5)

    def make(count, first=0):
        records = documents(count, first)
        for record in records:
            record["text"] = " ".join([record["text"]] * generator.randint(1, 4))
        return records

    return make


def test_the_corpus_meets_the_rate_and_documents_differ(
    compress, write_jsonl, mixed, tmp_path, scored, read_rows
):
    records = mixed(120)
    summary = compress(write_jsonl("docs.jsonl", records), tmp_path / "out", *RATE, SPLIT)
    assert summary["rate"] == pytest.approx(0.5, rel=0.005)
    assert summary["rate"] <= 0.5
    assert sorted(scored) == sorted(record["text"] for record in records)  # each once
    assert summary["documents_scored"] == 120
    rates = [row["rate"] for row in read_rows(tmp_path / "out")]
    assert max(rates) - min(rates) > 0.02
    assert not verify_output(str(tmp_path / "out")).broken


def test_the_library_selects_the_same(
    compress, write_jsonl, mixed, tmp_path, read_rows, tiny_checkpoint
):
    from moos.config import ScoringConfig

    records = mixed(40)
    engine = "engine=openvino"  # whose scores do not depend on what stands in a batch
    compress(write_jsonl("docs.jsonl", records), tmp_path / "out", *RATE, SPLIT, engine)
    compressor = Compressor.load(tiny_checkpoint, scoring=ScoringConfig(alpha=1), device="cpu")
    documents = compressor.compress(
        [record["text"] for record in records],
        corpus_rate=0.5,
        protect=["numbers", "negations"],
    )
    assert [row["compressed_text"] for row in read_rows(tmp_path / "out")] == [
        document.text for document in documents
    ]


@pytest.mark.parametrize(
    ("form", "after"),
    [
        ("parquet", 7),
        ("jsonl", 18),
        *(
            pytest.param(form, after, marks=pytest.mark.slow)
            for form in ("parquet", "jsonl")
            for after in (0, 1, 14, 27)
        ),
    ],
)
def test_a_run_interrupted_in_either_pass_ends_in_the_same_bytes(
    compress, write_jsonl, mixed, tmp_path, monkeypatch, snapshot, scored, after, form
):
    records = [*mixed(40), b"nope", {"text": None}, {"text": "lone \ud800"}, *mixed(20, 40)]
    source = write_jsonl("docs.jsonl", records)
    overrides = (*RATE, SPLIT, f"output.format={form}", "max_quarantined=1")
    whole = compress(source, tmp_path / "whole", *overrides)
    assert 14 <= whole["splits"] < 27
    scored.clear()
    work, calls = SplitWorker.work, itertools.count()

    def die(self, split, report, pieces=None):
        if next(calls) == after:
            raise KeyboardInterrupt
        return work(self, split, report, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(SplitWorker, "work", die)
        with pytest.raises(KeyboardInterrupt):
            compress(source, tmp_path / "out", *overrides)
    assert not (tmp_path / "out/_SUCCESS").exists()
    compress(source, tmp_path / "out", *overrides)
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")
    assert len(scored) == 60  # over both runs
    assert not list((tmp_path / "out/_run/scores").glob("*"))


def test_a_grown_input_keeps_the_threshold_and_tells_the_rate_it_got(
    compress, write_jsonl, mixed, tmp_path, caplog, done_times
):
    source = write_jsonl("in/a.jsonl", mixed(60)).parent
    output = tmp_path / "out"
    compress(source, output, *RATE, SPLIT)
    threshold = (output / "_run/threshold.json").read_bytes()
    before = done_times(output)
    # Nothing but negations, which stay whatever the threshold.
    write_jsonl("in/b.jsonl", [{"id": f"n{i}", "text": "no not never nor " * 20} for i in range(9)])
    summary = compress(source, output, *RATE, SPLIT)
    assert (output / "_run/threshold.json").read_bytes() == threshold
    assert before.items() <= done_times(output).items()
    assert summary["rate"] > 0.51
    assert "not selection.corpus_rate=0.5" in caplog.text
    manifest = read_manifest(Storage(str(output)))
    assert manifest["corpus_threshold"] == json.loads(threshold)
    assert not verify_output(str(output)).broken


def test_protected_words_over_the_budget_stay_and_are_told(
    compress, write_jsonl, tmp_path, caplog, read_rows
):
    texts = [{"text": "never 1 2 3 4 5 6 7 no word"} for _ in range(5)]
    compress(write_jsonl("d.jsonl", texts), tmp_path / "out", *RATE, "selection.corpus_rate=0.1")
    assert "protected tokens alone are" in caplog.text
    assert {row["compressed_text"] for row in read_rows(tmp_path / "out")} == {
        "never 1 2 3 4 5 6 7 no"
    }


def test_a_source_that_changes_between_the_passes_is_not_selected_with_old_scores(
    compress, write_jsonl, mixed, tmp_path, monkeypatch
):
    source = write_jsonl("docs.jsonl", mixed(20))
    work = SplitWorker.work

    def change(self, split, report, pieces=None):
        if self.spec.task == "select":
            source.write_bytes(source.read_bytes().replace(b"committee", b"comm ttee"))
        return work(self, split, report, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(SplitWorker, "work", change)
        with pytest.raises(MoosError, match="changed while the run was on"):
            compress(source, tmp_path / "out", *RATE, SPLIT)


def test_a_lost_threshold_is_not_made_up_anew(compress, write_jsonl, mixed, tmp_path):
    source = write_jsonl("in/a.jsonl", mixed(20)).parent
    compress(source, tmp_path / "out", *RATE, SPLIT)
    (tmp_path / "out/_run/threshold.json").unlink()
    write_jsonl("in/b.jsonl", mixed(5, 20))
    with pytest.raises(MoosError, match=r"threshold.json is gone"):
        compress(source, tmp_path / "out", *RATE, SPLIT)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["selection.corpus_rate=0.5", "selection.rate=0.5"], "set one budget, not 2"),
        (["selection.corpus_rate=0"], "selection.corpus_rate"),
        (["selection.corpus_rate=no"], "must be a number or null"),
        (
            ["selection.corpus_rate=0.5", "selection.budget_tokenizer=t.json"],
            "budget_tokenizer has no effect on corpus_rate",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(overrides, told):
    with pytest.raises(ConfigError, match=told):
        load_config(CompressConfig, None, ["input.path=a", "output.path=b", *overrides])


def test_scores_normalised_per_window_cannot_be_compared(compress, write_jsonl, mixed, tmp_path):
    source = write_jsonl("docs.jsonl", mixed(3))
    window = ("scoring.alpha=0.5", "scoring.outlier.statistics=window")
    with pytest.raises(ConfigError, match=r"corpus_rate=0.5 needs scores that are comparable"):
        compress(source, tmp_path / "out", "selection.corpus_rate=0.5", *window)
