"""Resume, change and interruption: a run does what is not done, and ends in the same bytes."""

import itertools
import json
import os
import re
import shutil
import socket

import pyarrow as pa
import pytest

from moos.errors import ConfigError, MoosError
from moos.storage import Storage
from pipelines.compress import prepare_compress, run_compress
from pipelines.run_state import read_plan
from pipelines.verify import verify_output
from pipelines.work import SplitWorker, prefetch

SPLIT = "input.split_bytes=1KiB"


@pytest.fixture
def worked(monkeypatch):
    """Ids of the splits that were worked, in order."""
    ids = []
    work = SplitWorker.work

    def note(self, split, report):
        ids.append(split.id)
        return work(self, split, report)

    monkeypatch.setattr(SplitWorker, "work", note)
    return ids


@pytest.fixture
def stop_after(monkeypatch):
    """`stop_after(k)`: the run dies when it is about to work its (k + 1)th split from now."""
    work = SplitWorker.work

    def arm(k):
        calls = itertools.count()

        def die(self, split, report):
            if next(calls) == k:
                raise KeyboardInterrupt
            return work(self, split, report)

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


@pytest.mark.parametrize("after", [0, 1, 5])
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

    def change(self, split, report):
        if split.start > 0:
            os.utime(source, (1, 1))
        return work(self, split, report)

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

    def remove(self, split, report):
        source.unlink(missing_ok=True)
        return work(self, split, report)

    monkeypatch.setattr(SplitWorker, "work", remove)
    with pytest.raises(MoosError, match=r"docs\.jsonl"):
        compress(source, tmp_path / "out", SPLIT)


def test_a_checkpoint_that_differs_where_the_work_is_done_is_refused(
    config, copy_checkpoint, write_jsonl, documents, tmp_path, monkeypatch
):
    path = copy_checkpoint()
    source = write_jsonl("docs.jsonl", documents(5))
    settings = config(source, tmp_path / "out", f"checkpoint={path}")
    load = SplitWorker.load.__func__

    def change(cls, spec):
        (path / "moos.json").write_text(json.dumps({"alpha": 0.1}))
        return load(cls, spec)

    monkeypatch.setattr(SplitWorker, "load", classmethod(change))
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
