"""Resume, change and interruption: a run does what is not done, and ends in the same bytes."""

import itertools
import json
import logging
import os
import re
import shutil
import socket
from dataclasses import replace

import pyarrow as pa
import pytest

from moos.errors import ConfigError, DataError, MoosError
from moos.selector import Selector
from moos.storage import Storage
from pipelines.attempts import LOST_DRIVERS, AttemptRecord, attempt
from pipelines.compress import prepare_compress, run_compress
from pipelines.compress_worker import CompressWorker
from pipelines.prefetch import prefetch
from pipelines.run_state import RunState, describe_source, read_plan
from pipelines.verify import verify_output
from pipelines.work import SplitWorker

SPLIT = "input.split_bytes=1KiB"


@pytest.fixture
def worked(monkeypatch):
    """Ids of the splits that were worked, in order."""
    ids = []
    work = SplitWorker.work

    def note(self, split, report, pieces=None):
        ids.append(split.id)
        return work(self, split, report, pieces)

    monkeypatch.setattr(SplitWorker, "work", note)
    return ids


@pytest.fixture
def stop_after(monkeypatch):
    """`stop_after(k)`: the run dies when it is about to work its (k + 1)th split from now."""
    work = SplitWorker.work

    def arm(k):
        calls = itertools.count()

        def die(self, split, report, pieces=None):
            if next(calls) == k:
                raise KeyboardInterrupt
            return work(self, split, report, pieces)

        monkeypatch.setattr(SplitWorker, "work", die)

    yield arm
    monkeypatch.undo()


def test_a_second_run_works_nothing_and_changes_nothing(
    compress, write_jsonl, documents, tmp_path, worked, snapshot
):
    source = write_jsonl("docs.jsonl", documents(40))
    first = compress(source, tmp_path / "out", SPLIT)
    assert len(worked) == first["splits"] > 3
    before = snapshot(tmp_path / "out")
    worked.clear()
    second = compress(source, tmp_path / "out", SPLIT)
    assert worked == []
    assert second["splits_resumed"] == second["splits"]
    assert second["documents"] == 40
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize("after", [pytest.param(0, marks=pytest.mark.slow), 1, 5])
@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_an_interrupted_run_ends_in_the_bytes_of_one_that_was_not(
    compress, write_jsonl, documents, tmp_path, stop_after, snapshot, done_times, after, form
):
    records = [*documents(30), b"nope", {"text": None}, *documents(30, 30), {"text": ""}]
    source = write_jsonl("docs.jsonl", records)
    overrides = (SPLIT, f"output.format={form}", "max_quarantined=1")
    compress(source, tmp_path / "whole", *overrides)
    stop_after(after)
    with pytest.raises(KeyboardInterrupt):
        compress(source, tmp_path / "out", *overrides)
    assert not (tmp_path / "out/_SUCCESS").exists()
    assert not (tmp_path / "out/manifest.json").exists()
    done = done_times(tmp_path / "out")
    assert len(done) == after
    stop_after(10**9)
    summary = compress(source, tmp_path / "out", *overrides)
    assert summary["splits_resumed"] == after
    assert done.items() <= done_times(tmp_path / "out").items()
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


def test_a_run_that_dies_before_its_done_record_does_the_split_again(
    compress, write_jsonl, documents, tmp_path, monkeypatch, snapshot
):
    source = write_jsonl("docs.jsonl", documents(30))
    compress(source, tmp_path / "whole", SPLIT)
    put = Storage.put
    calls = itertools.count()

    def die(self, name, data):
        if "/done/" in name and next(calls) == 2:
            raise KeyboardInterrupt
        put(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "put", die)
        with pytest.raises(KeyboardInterrupt):
            compress(source, tmp_path / "out", SPLIT)
    compress(source, tmp_path / "out", SPLIT)
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


def test_a_run_that_dies_while_it_finishes_is_finished_by_the_next(
    compress, write_jsonl, documents, tmp_path, monkeypatch, snapshot
):
    source = write_jsonl("docs.jsonl", documents(10))
    compress(source, tmp_path / "whole", SPLIT)
    put = Storage.put

    def die(self, name, data):
        if name == "_SUCCESS":
            raise KeyboardInterrupt
        put(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "put", die)
        with pytest.raises(KeyboardInterrupt):
            compress(source, tmp_path / "out", SPLIT)
    with pytest.raises(ConfigError, match="no complete run"):
        verify_output(str(tmp_path / "out"))
    compress(source, tmp_path / "out", SPLIT)
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")
    assert verify_output(str(tmp_path / "out")).broken == []


def test_a_grown_input_works_only_its_new_files(
    compress, write_jsonl, documents, tmp_path, worked, read_rows
):
    write_jsonl("in/a.jsonl", documents(10))
    compress(tmp_path / "in", tmp_path / "out", SPLIT)
    before = list(worked)
    worked.clear()
    write_jsonl("in/0-earlier-by-name.jsonl", documents(10, 10))
    summary = compress(tmp_path / "in", tmp_path / "out", SPLIT)
    assert worked
    assert set(worked).isdisjoint(before)
    assert summary["documents"] == 20
    assert sorted(row["id"] for row in read_rows(tmp_path / "out")) == sorted(
        d["id"] for d in documents(20)
    )
    assert verify_output(str(tmp_path / "out")).broken == []


def test_a_changed_file_is_worked_again_and_its_old_objects_go(
    compress, write_jsonl, documents, tmp_path, worked, read_rows
):
    write_jsonl("in/a.jsonl", documents(10))
    path = write_jsonl("in/b.jsonl", documents(10, 10))
    compress(tmp_path / "in", tmp_path / "out", SPLIT)
    worked.clear()
    write_jsonl("in/b.jsonl", documents(12, 100))
    os.utime(path, (1, 1))
    summary = compress(tmp_path / "in", tmp_path / "out", SPLIT)
    assert worked
    assert all(split.startswith("b-") for split in worked)
    assert summary["documents"] == 22
    ids = {row["id"] for row in read_rows(tmp_path / "out")}
    assert ids == {d["id"] for d in [*documents(10), *documents(12, 100)]}
    assert verify_output(str(tmp_path / "out")).broken == []


def test_a_touched_file_gives_the_same_bytes(
    compress, write_jsonl, documents, tmp_path, worked, snapshot
):
    source = write_jsonl("docs.jsonl", documents(10))
    compress(source, tmp_path / "out", SPLIT)
    before = snapshot(tmp_path / "out")
    os.utime(source, (1, 1))
    worked.clear()
    compress(source, tmp_path / "out", SPLIT)
    assert worked
    assert snapshot(tmp_path / "out") == before


def test_the_outputs_of_a_vanished_file_go(compress, write_jsonl, documents, tmp_path, read_rows):
    write_jsonl("in/a.jsonl", documents(5))
    gone = write_jsonl("in/b.jsonl", [*documents(5, 5), b"nope"])
    compress(tmp_path / "in", tmp_path / "out", "max_quarantined=1")
    gone.unlink()
    summary = compress(tmp_path / "in", tmp_path / "out", "max_quarantined=1")
    assert (summary["documents"], summary["quarantined"]) == (5, 0)
    assert len(list((tmp_path / "out/data").iterdir())) == 1
    assert list((tmp_path / "out/quarantine").iterdir()) == []
    assert verify_output(str(tmp_path / "out")).broken == []


def test_a_file_that_came_back_is_not_worked_twice_in_vain(
    compress, write_jsonl, documents, tmp_path
):
    """Its done record is still there while its objects are gone."""
    write_jsonl("in/a.jsonl", documents(5))
    gone = write_jsonl("in/b.jsonl", documents(5, 5))
    compress(tmp_path / "in", tmp_path / "out")
    shutil.move(gone, tmp_path / "kept-elsewhere")
    compress(tmp_path / "in", tmp_path / "out")
    shutil.move(tmp_path / "kept-elsewhere", gone)  # keeps its time of modification
    assert compress(tmp_path / "in", tmp_path / "out")["documents"] == 10
    assert verify_output(str(tmp_path / "out")).broken == []


def test_a_deleted_data_file_comes_back_on_the_next_run(
    compress, write_jsonl, documents, tmp_path, snapshot
):
    source = write_jsonl("docs.jsonl", documents(20))
    compress(source, tmp_path / "out", SPLIT)
    before = snapshot(tmp_path / "out")
    next((tmp_path / "out/data").iterdir()).unlink()
    compress(source, tmp_path / "out", SPLIT)
    assert snapshot(tmp_path / "out") == before


def test_a_deleted_manifest_comes_back_on_the_next_run(
    compress, write_jsonl, documents, tmp_path, snapshot
):
    source = write_jsonl("docs.jsonl", documents(5))
    compress(source, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    (tmp_path / "out/manifest.json").unlink()
    compress(source, tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("override", "key", "was", "now"),
    [
        ("selection.rate=0.25", "selection.rate", "None", "0.25"),
        ("output.format=jsonl", "output.format", "'parquet'", "'jsonl'"),
        ("input.split_bytes=2KiB", "input.split_bytes", "8388608", "2048"),
        ("scoring.alpha=0.5", "scoring.alpha", "0.9", "0.5"),
        ("input.id_column=id", "input.id_column", "None", "'id'"),
    ],
)
def test_another_config_on_the_same_output_is_refused(
    compress, write_jsonl, documents, tmp_path, snapshot, override, key, was, now
):
    source = write_jsonl("docs.jsonl", documents(5))
    compress(source, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    with pytest.raises(ConfigError) as caught:
        compress(source, tmp_path / "out", override)
    assert f"\n  {key}: was {was}, now {now}\n" in str(caught.value)
    assert str(caught.value).count(": was ") == 1
    assert snapshot(tmp_path / "out") == before


def test_another_checkpoint_on_the_same_output_is_refused(
    compress, copy_checkpoint, write_jsonl, documents, tmp_path
):
    source = write_jsonl("docs.jsonl", documents(5))
    compress(source, tmp_path / "out")
    other = copy_checkpoint(moos={"alpha": 0.5})
    with pytest.raises(ConfigError, match=r"checkpoint_sha256: was"):
        compress(source, tmp_path / "out", f"checkpoint={other}")


@pytest.mark.parametrize("override", ["pool.replicas=1", "max_quarantined=0.5"])
def test_how_a_run_is_worked_may_change(compress, write_jsonl, documents, tmp_path, override):
    source = write_jsonl("docs.jsonl", documents(5))
    compress(source, tmp_path / "out")
    assert compress(source, tmp_path / "out", override)["splits_resumed"] == 1


@pytest.mark.parametrize(
    "name", ["notes.txt", "data/precious.parquet", "quarantine/x", "src/main.py"]
)
def test_a_directory_of_somebody_else_is_refused(compress, write_jsonl, documents, tmp_path, name):
    source = write_jsonl("docs.jsonl", documents(5))
    stranger = tmp_path / "out" / name
    stranger.parent.mkdir(parents=True)
    stranger.write_text("precious")
    with pytest.raises(ConfigError, match=r"output\.path.*no moos run"):
        compress(source, tmp_path / "out")
    assert stranger.read_text() == "precious"
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == [stranger.name]


def test_an_output_that_is_a_file_is_refused(compress, write_jsonl, documents, tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(ConfigError, match=r"output\.path"):
        compress(write_jsonl("docs.jsonl", documents(5)), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "precious"


def test_an_empty_directory_is_taken(compress, write_jsonl, documents, tmp_path):
    (tmp_path / "out").mkdir()
    assert compress(write_jsonl("docs.jsonl", documents(5)), tmp_path / "out")["exit_code"] == 0


def test_objects_that_no_done_record_names_go_at_the_finish(
    compress, write_jsonl, documents, tmp_path, stop_after
):
    source = write_jsonl("docs.jsonl", documents(20))
    out = tmp_path / "out"
    stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        compress(source, out, SPLIT)
    (out / "data/docs-00000000-00000-deadbeef.parquet").write_bytes(b"of a split that died")
    (out / "data/half.parquet.1234abcd.tmp").write_bytes(b"of a write that was killed")
    (out / "quarantine").mkdir()
    (out / "quarantine/docs-deadbeef.jsonl").write_bytes(b"the same")
    stop_after(10**9)
    compress(source, out, SPLIT)
    assert verify_output(str(out)).broken == []
    assert not list((out / "quarantine").iterdir())
    assert not list((out / "data").glob("*deadbeef*"))


def test_a_source_that_changes_after_the_plan_fails_the_run_and_the_next_one_plans_anew(
    compress, config, write_jsonl, documents, tmp_path, monkeypatch
):
    source = write_jsonl("docs.jsonl", documents(20))
    work = SplitWorker.work

    def change(self, split, report, pieces=None):
        if split.start > 0:
            os.utime(source, (1, 1))
        return work(self, split, report, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(SplitWorker, "work", change)
        with pytest.raises(MoosError, match=r"docs\.jsonl changed while the run was on"):
            compress(source, tmp_path / "out", SPLIT)
    assert compress(source, tmp_path / "out", SPLIT)["documents"] == 20
    assert verify_output(str(tmp_path / "out")).broken == []


def test_a_source_that_vanishes_after_the_plan_fails_the_run_with_a_reason(
    compress, write_jsonl, documents, tmp_path, monkeypatch
):
    source = write_jsonl("docs.jsonl", documents(20))
    work = SplitWorker.work

    def remove(self, split, report, pieces=None):
        source.unlink(missing_ok=True)
        return work(self, split, report, pieces)

    monkeypatch.setattr(SplitWorker, "work", remove)
    with pytest.raises(MoosError, match=r"docs\.jsonl"):
        compress(source, tmp_path / "out", SPLIT)


def test_a_checkpoint_that_differs_where_the_work_is_done_is_refused(
    config, copy_checkpoint, write_jsonl, documents, tmp_path, monkeypatch
):
    path = copy_checkpoint()
    source = write_jsonl("docs.jsonl", documents(5))
    settings = config(source, tmp_path / "out", f"checkpoint={path}")
    load = CompressWorker.load.__func__

    def change(cls, spec, **options):
        (path / "moos.json").write_text(json.dumps({"alpha": 0.1}))
        return load(cls, spec, **options)

    monkeypatch.setattr(CompressWorker, "load", classmethod(change))
    with pytest.raises(MoosError, match="is not the one the run was planned with"):
        run_compress(settings)


def test_copies_of_an_input_give_the_same_output_wherever_and_whenever(
    compress, write_jsonl, documents, tmp_path, monkeypatch, snapshot
):
    records = [*documents(20), b"nope"]
    found = []
    for number, name in enumerate(("here", "there")):
        source = write_jsonl(f"{name}/docs.jsonl", records)
        os.utime(source, (number, number))
        monkeypatch.chdir(tmp_path / name)
        compress("docs.jsonl", "out", SPLIT, "max_quarantined=1")
        found.append(snapshot(tmp_path / name / "out"))
    assert found[0] == found[1]


def test_data_and_manifest_tell_no_times_and_no_names_of_hosts(
    compress, write_jsonl, documents, tmp_path, snapshot
):
    source = write_jsonl("docs.jsonl", [*documents(20), b"nope"])
    compress(source, tmp_path / "out", "max_quarantined=1")
    told = (tmp_path / "out/manifest.json").read_text()
    assert "etag" not in json.loads(told)["splits"][0]["source"]
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", told)
    modified = str(int(source.stat().st_mtime)).encode()
    assert not any(modified in data for data in snapshot(tmp_path / "out").values())


def test_the_plan_on_disk_is_the_latest(compress, write_jsonl, documents, tmp_path):
    write_jsonl("in/a.jsonl", documents(5))
    compress(tmp_path / "in", tmp_path / "out")
    write_jsonl("in/b.jsonl", documents(5))
    compress(tmp_path / "in", tmp_path / "out")
    plan = read_plan(Storage(str(tmp_path / "out")))
    assert [split.relative for split in plan] == ["a.jsonl", "b.jsonl"]


def test_preparing_writes_nothing_and_counts_what_is_left(
    config, write_jsonl, documents, tmp_path, stop_after
):
    source = write_jsonl("docs.jsonl", documents(20))
    settings = config(source, tmp_path / "out", SPLIT)
    run = prepare_compress(settings)
    assert not (tmp_path / "out").exists()
    stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        run_compress(settings)
    left = prepare_compress(settings).todo
    assert [split.id for split in left] == [split.id for split in run.todo[2:]]


def test_the_schema_that_a_first_run_settled_holds_for_later_ones(
    compress, write_jsonl, tmp_path, read_rows
):
    write_jsonl("in/a.jsonl", [{"text": "One two.", "n": 1}])
    compress(tmp_path / "in", tmp_path / "out")
    write_jsonl("in/b.jsonl", [{"text": "Three.", "n": "x", "m": True}] * 5)
    compress(tmp_path / "in", tmp_path / "out")
    rows = read_rows(tmp_path / "out")
    assert rows[1]["extra_json"] == '{"n": "x", "m": true}'
    assert verify_output(str(tmp_path / "out")).broken == []


# A corpus rate: every split is scored, then every split is selected.

CORPUS = ("selection.corpus_rate=0.4", "scoring.alpha=1", "max_quarantined=1")


def mixed(documents):
    return [*documents(30), b"nope", {"text": None}, *documents(30, 30), {"text": ""}]


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize(
    "after",
    [pytest.param(0, marks=pytest.mark.slow), 3, "all scored", "half selected"],
)
def test_an_interrupted_corpus_ends_in_the_bytes_of_one_that_was_not(
    compress, write_jsonl, documents, tmp_path, stop_after, snapshot, after, form
):
    source = write_jsonl("docs.jsonl", mixed(documents))
    overrides = (SPLIT, *CORPUS, f"output.format={form}")
    whole = compress(source, tmp_path / "whole", *overrides)
    splits = whole["splits"]
    calls = {"all scored": splits, "half selected": splits + splits // 2}.get(after, after)
    stop_after(calls)
    with pytest.raises(KeyboardInterrupt):
        compress(source, tmp_path / "out", *overrides)
    assert not (tmp_path / "out/_SUCCESS").exists()
    assert (tmp_path / "out/_run/threshold.json").exists() == (calls >= splits)
    stop_after(10**9)
    summary = compress(source, tmp_path / "out", *overrides)
    assert summary["splits_resumed"] == max(0, calls - splits)
    assert (summary["documents_scored"] == 0) == (calls >= splits), "nothing is scored twice"
    assert summary["documents_scored"] < 61 or after == 0
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")
    assert verify_output(str(tmp_path / "out")).broken == []


def test_what_a_corpus_needs_between_its_passes_goes_at_the_finish(
    compress, write_jsonl, documents, tmp_path, stop_after
):
    source = write_jsonl("docs.jsonl", documents(30))
    out = tmp_path / "out"
    stop_after(5)
    with pytest.raises(KeyboardInterrupt):
        compress(source, out, SPLIT, *CORPUS)
    assert len(list(out.glob("_run/scores/*.parquet"))) == 5
    assert len(list(out.glob("_run/scored/*/*.json"))) == 5
    stop_after(10**9)
    compress(source, out, SPLIT, *CORPUS)
    for place in ("scores", "scored", "attempts"):
        assert [path for path in (out / "_run" / place).rglob("*") if path.is_file()] == []


def test_a_second_run_of_a_corpus_works_nothing(
    compress, write_jsonl, documents, tmp_path, worked, snapshot
):
    source = write_jsonl("docs.jsonl", documents(30))
    first = compress(source, tmp_path / "out", SPLIT, *CORPUS)
    assert len(worked) == 2 * first["splits"]
    before = snapshot(tmp_path / "out")
    worked.clear()
    second = compress(source, tmp_path / "out", SPLIT, *CORPUS)
    assert (worked, second["documents_scored"]) == ([], 0)
    assert snapshot(tmp_path / "out") == before


def test_a_grown_corpus_is_selected_by_the_threshold_that_was_settled(
    compress, write_jsonl, documents, tmp_path, read_rows
):
    write_jsonl("in/a.jsonl", documents(30))
    compress(tmp_path / "in", tmp_path / "out", *CORPUS)
    rows = read_rows(tmp_path / "out")
    settled = (tmp_path / "out/_run/threshold.json").read_bytes()
    write_jsonl("in/b.jsonl", [{"id": "x", "text": "A single 7."}] * 20)
    summary = compress(tmp_path / "in", tmp_path / "out", *CORPUS)
    assert (summary["documents"], summary["documents_scored"]) == (50, 20)
    assert (tmp_path / "out/_run/threshold.json").read_bytes() == settled
    assert read_rows(tmp_path / "out")[:30] == rows
    assert verify_output(str(tmp_path / "out")).broken == []


def test_a_corpus_that_missed_its_rate_because_it_grew_says_so(
    compress, write_jsonl, documents, tmp_path, caplog
):
    write_jsonl("in/a.jsonl", documents(30))
    compress(tmp_path / "in", tmp_path / "out", *CORPUS)
    write_jsonl("in/b.jsonl", [{"id": "x", "text": "1 2 3 4 5 6 7"}] * 20)
    caplog.clear()
    compress(tmp_path / "in", tmp_path / "out", *CORPUS)
    assert "not selection.corpus_rate=0.4: its threshold was found on" in caplog.text


def test_a_threshold_that_is_gone_is_not_found_anew_where_rows_were_selected_by_it(
    compress, write_jsonl, documents, tmp_path, snapshot
):
    write_jsonl("in/a.jsonl", documents(10))
    compress(tmp_path / "in", tmp_path / "out", *CORPUS)
    before = snapshot(tmp_path / "out")
    (tmp_path / "out/_run/threshold.json").unlink()
    write_jsonl("in/b.jsonl", documents(10, 10))
    with pytest.raises(MoosError, match=r"threshold\.json is gone"):
        compress(tmp_path / "in", tmp_path / "out", *CORPUS)
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize("place", ["scores/*.parquet", "scored/*/*.json"])
def test_scores_that_are_gone_between_the_passes_come_back(
    compress, write_jsonl, documents, tmp_path, stop_after, snapshot, place
):
    source = write_jsonl("docs.jsonl", documents(30))
    whole = compress(source, tmp_path / "whole", SPLIT, *CORPUS)
    stop_after(whole["splits"])
    with pytest.raises(KeyboardInterrupt):
        compress(source, tmp_path / "out", SPLIT, *CORPUS)
    sorted((tmp_path / "out/_run").glob(place))[1].unlink()
    stop_after(10**9)
    summary = compress(source, tmp_path / "out", SPLIT, *CORPUS)
    assert 0 < summary["documents_scored"] < 30
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


def test_a_source_that_changes_between_the_passes_is_scored_anew(
    compress, write_jsonl, documents, tmp_path, stop_after, read_rows
):
    write_jsonl("in/a.jsonl", documents(10))
    path = write_jsonl("in/b.jsonl", documents(10, 10))
    stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        compress(tmp_path / "in", tmp_path / "out", *CORPUS)
    write_jsonl("in/b.jsonl", documents(12, 100))
    os.utime(path, (1, 1))
    stop_after(10**9)
    summary = compress(tmp_path / "in", tmp_path / "out", *CORPUS)
    assert (summary["documents"], summary["documents_scored"]) == (22, 12)
    ids = [row["id"] for row in read_rows(tmp_path / "out")]
    assert ids == [d["id"] for d in [*documents(10), *documents(12, 100)]]
    assert verify_output(str(tmp_path / "out")).broken == []


# Records that were quarantined and are tried again.


@pytest.fixture
def break_on(monkeypatch):
    """`break_on("word")`: until undone, no document that holds the word can be selected."""
    protect = Selector.protect

    def arm(word):
        def fail(self, texts):
            places = [place for place, text in enumerate(texts.texts) if word in text]
            errors = {place: DataError(f"no {word}") for place in places}
            return replace(protect(self, texts), errors=errors)

        monkeypatch.setattr(Selector, "protect", fail)

    return arm


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize("word", ["committee", "Prices", "17.", "."])
def test_records_that_are_tried_again_join_the_rows_as_if_they_had_never_failed(
    config, write_jsonl, documents, tmp_path, snapshot, break_on, monkeypatch, form, word
):
    source = write_jsonl("docs.jsonl", mixed(documents))
    overrides = (SPLIT, "max_quarantined=1", f"output.format={form}", "input.id_column=id")
    run_compress(config(source, tmp_path / "whole", *overrides))
    settings = config(source, tmp_path / "out", *overrides)
    break_on(word)
    failed = run_compress(settings)
    assert failed["quarantined"] > 2
    monkeypatch.undo()
    assert run_compress(settings)["quarantined"] == failed["quarantined"]
    summary = run_compress(settings, retry_quarantined=True)
    assert (summary["documents"], summary["quarantined"]) == (61, 2)
    assert summary["documents_scored"] == failed["quarantined"] - 2
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")
    assert verify_output(str(tmp_path / "out")).broken == []


def test_rows_that_cannot_be_written_are_quarantined_again_and_the_others_join(
    config, write_parquet, tmp_path, break_on, monkeypatch, read_rows, read_quarantine
):
    days = pa.array([1, 1 << 30, 3, None], pa.int32()).cast(pa.date32())  # one beyond year 9999
    texts = ["A plain text.", "A far day.", "A broken text.", "Another plain text."]
    source = write_parquet("docs.parquet", pa.table({"text": texts, "day": days}))
    overrides = ("max_quarantined=1", "output.format=jsonl")
    settings = config(source, tmp_path / "out", *overrides)
    break_on("broken")
    assert run_compress(settings)["quarantined"] == 2
    monkeypatch.undo()
    summary = run_compress(settings, retry_quarantined=True)
    assert (summary["documents"], summary["quarantined"]) == (3, 1)
    assert [row["text"] for row in read_rows(tmp_path / "out")] == [texts[0], *texts[2:]]
    (left,) = read_quarantine(tmp_path / "out")
    assert left["reason"].startswith("writing raised OverflowError")
    assert verify_output(str(tmp_path / "out")).broken == []


def test_records_of_a_corpus_are_tried_again_under_its_threshold(
    config, write_jsonl, documents, tmp_path, read_rows, break_on, monkeypatch
):
    source = write_jsonl("docs.jsonl", mixed(documents))
    settings = config(source, tmp_path / "out", SPLIT, *CORPUS)
    break_on("Prices")
    failed = run_compress(settings)
    monkeypatch.undo()
    before = {row["id"]: row for row in read_rows(tmp_path / "out")}
    settled = (tmp_path / "out/_run/threshold.json").read_bytes()
    summary = run_compress(settings, retry_quarantined=True)
    assert (summary["documents"], summary["quarantined"]) == (61, 2)
    assert summary["documents_scored"] == failed["quarantined"] - 2 > 0
    assert (tmp_path / "out/_run/threshold.json").read_bytes() == settled
    rows = read_rows(tmp_path / "out")
    assert [row["id"] for row in rows] == [*(d["id"] for d in documents(60)), None]
    assert all(row == before[row["id"]] for row in rows if row["id"] in before)
    assert verify_output(str(tmp_path / "out")).broken == []


@pytest.mark.parametrize("selection", [(), CORPUS], ids=["rate", "corpus rate"])
def test_a_damaged_file_that_was_repaired_in_place_is_tried_again_whole(
    config, write_jsonl, documents, tmp_path, selection
):
    """Nobody can tell from outside that it changed."""
    path = write_jsonl("in/a.jsonl.gz", documents(30))
    sound, status = path.read_bytes(), path.stat()
    path.write_bytes(sound[:-8] + b"\0" * 8)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    settings = config(path.parent, tmp_path / "out", "max_quarantined=1", *selection)
    assert run_compress(settings)["damaged_files"] == 1
    path.write_bytes(sound)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    summary = run_compress(settings, retry_quarantined=True)
    assert (summary["documents"], summary["damaged_files"]) == (30, 0)
    assert verify_output(str(tmp_path / "out")).broken == []


def test_records_that_fail_again_stay_quarantined(
    config, write_jsonl, documents, tmp_path, snapshot, break_on
):
    settings = config(
        write_jsonl("docs.jsonl", mixed(documents)), tmp_path / "out", SPLIT, "max_quarantined=1"
    )
    break_on("Prices")
    run_compress(settings)
    before = snapshot(tmp_path / "out")
    run_compress(settings, retry_quarantined=True)
    assert snapshot(tmp_path / "out") == before


# Attempts: which work has already cost a process its life.


@pytest.fixture
def record(tmp_path):
    state = RunState(Storage(str(tmp_path / "out")), {"a": 1})
    return AttemptRecord(state, "split-0-work", {"path": "a.jsonl", "etag": "1"})


@pytest.fixture
def lose(record):
    """`lose("driver")`: a process begins the work and ends without a word; was it suspect?"""
    begun = []  # held, since a generator that is collected runs to its end

    def run(driver, *, in_driver=False):
        begun.append(attempt(record, driver, in_driver=in_driver))
        return begun[-1].__enter__()

    return run


def test_work_whose_process_ended_is_suspect_to_the_same_driver(lose):
    assert not lose("one")
    assert lose("one")
    assert lose("one")


def test_work_of_drivers_that_ended_is_suspect_when_there_were_several(lose):
    """One driver may have been preempted, with all that its replicas had in hand."""
    found = [lose(f"driver {number}") for number in range(LOST_DRIVERS + 2)]
    assert found == [False] * LOST_DRIVERS + [True] * 2


def test_work_that_the_driver_itself_did_when_it_ended_is_suspect(lose):
    assert not lose("one", in_driver=True)
    assert lose("two", in_driver=True)


@pytest.mark.parametrize("error", [MoosError("m"), OSError("o"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("before", [[], ["earlier"]])
def test_work_that_ends_in_an_exception_is_given_back(record, lose, error, before):
    for driver in before:
        lose(driver)

    def work():
        with attempt(record, "one", in_driver=False):
            assert record.read() == [*before, "one"]
            raise error

    with pytest.raises(type(error)):
        work()
    assert record.read() == before


def test_a_store_that_fails_hides_no_error_of_the_work(record, monkeypatch):
    def fail(self, name, data=b""):
        raise OSError("storage is down")

    def work():
        with attempt(record, "one", in_driver=False):
            monkeypatch.setattr(Storage, "put", fail)
            monkeypatch.setattr(Storage, "remove", fail)
            raise MoosError("what really happened")

    with pytest.raises(MoosError, match="what really happened"):
        work()


@pytest.mark.parametrize("change", [{"key": "split-1-work"}, {"source": {"etag": "2"}}], ids=repr)
def test_attempts_at_some_work_say_nothing_of_other_work(record, lose, change):
    lose("one")
    with attempt(replace(record, **change), "one", in_driver=True) as suspect:
        assert not suspect


@pytest.mark.parametrize("selection", [(), CORPUS], ids=["rate", "corpus rate"])
def test_a_suspect_split_is_worked_apart_to_the_same_bytes(
    compress, config, write_jsonl, documents, tmp_path, snapshot, caplog, selection
):
    source = write_jsonl("docs.jsonl", [*documents(12), b"nope", {"text": None}])
    overrides = (SPLIT, "max_quarantined=1", *selection)
    whole = compress(source, tmp_path / "whole", *overrides)
    run = prepare_compress(config(source, tmp_path / "out", *overrides))
    task = "score" if selection else "compress"
    split = run.todo[1]
    record = AttemptRecord(run.state, f"{split.id}-{task}-work", describe_source(split))
    record.write(["a driver that was killed"])
    caplog.set_level(logging.WARNING)
    summary = compress(source, tmp_path / "out", *overrides)
    assert caplog.text.count("is worked in a process of its own") == 1
    assert f"{run.todo[1].id} is worked in a process of its own" in caplog.text
    assert summary["documents_scored"] == whole["documents_scored"] == 12
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


def test_a_split_that_was_done_before_its_source_changed_is_not_suspect(
    compress, write_jsonl, documents, tmp_path, stop_after, caplog
):
    """Its process did not end over it."""
    write_jsonl("in/a.jsonl", documents(5))
    write_jsonl("in/b.jsonl", documents(5, 5))
    stop_after(1)
    with pytest.raises(KeyboardInterrupt):
        compress(tmp_path / "in", tmp_path / "out")
    os.utime(tmp_path / "in/a.jsonl", (1, 1))
    stop_after(10**9)
    compress(tmp_path / "in", tmp_path / "out")
    assert "is worked in a process of its own" not in caplog.text


def test_prefetch_reads_ahead_a_little_and_in_order():
    read = []

    def source():
        for number in range(10):
            read.append(number)
            yield number

    assert list(prefetch(source(), 2)) == list(range(10))
    ahead = prefetch(source(), 2)
    next(ahead)
    ahead.close()
    assert len(read) < 10 + 6


def test_prefetch_raises_the_readers_error_behind_what_it_read():
    def source():
        yield 1
        raise ValueError("broken")

    ahead = prefetch(source(), 2)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)


def test_numbers_of_the_summary_add_up(compress, write_jsonl, documents, tmp_path, read_rows):
    source = write_jsonl("docs.jsonl", [*documents(25), b"nope", {"text": "\u4f60\u597d"}])
    summary = compress(source, tmp_path / "out", SPLIT, "max_quarantined=1")
    rows = read_rows(tmp_path / "out")
    assert summary["documents"] == len(rows) == 26
    assert summary["tokens"] == sum(row["num_tokens"] for row in rows)
    assert summary["kept_tokens"] == sum(row["num_kept_tokens"] for row in rows)
    assert summary["rate"] == pytest.approx(summary["kept_tokens"] / summary["tokens"], abs=1e-6)
    assert summary["chars"] == sum(len(row["text"]) for row in rows)
    assert summary["input_bytes"] == source.stat().st_size
    assert pa.types.is_floating(pa.infer_type([summary["seconds"]]))
