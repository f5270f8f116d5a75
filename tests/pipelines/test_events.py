"""The log of a run: what it tells, in time and whole, whatever the store does, and no secret."""

import json
import logging
import threading
from datetime import datetime

import pytest

from moos.errors import MoosError
from moos.storage import Storage
from pipelines import events as events_module
from pipelines.events import EventLog, parse_events, read_history, read_run
from pipelines.lease import Lease, LeaseLostError
from pipelines.reasons import OTHER, REASON_KINDS, kind_of_reason
from pipelines.work import SplitWorker


def names(events):
    return [event["event"] for event in events]


def one(events, name):
    (found,) = [event for event in events if event["event"] == name]
    return found


def log_files(output):
    return sorted(path.name for path in (output / "_run" / "events").iterdir())


def test_a_run_tells_what_it_did_from_the_lease_to_the_exit_code(
    compress, write_jsonl, documents, tmp_path
):
    records = [*documents(40), {"text": None}, b"nope"]
    output = tmp_path / "out"
    summary = compress(
        write_jsonl("docs.jsonl", records), output, "input.split_bytes=4KiB", "max_quarantined=1"
    )
    log = read_run(Storage(str(output)))
    assert names(log)[:4] == ["lease_taken", "planned", "started", "pass_began"]
    assert names(log)[-1] == "finished"
    assert {event["run"] for event in log} == {
        json.loads((output / "_run/lease.json").read_text())["owner"]
    }
    assert all(datetime.fromisoformat(event["time"]).utcoffset().seconds == 0 for event in log)
    started, finished = one(log, "started"), one(log, "finished")
    assert (started["splits"], started["splits_done"], started["totals"]) == (2, 0, {})
    done = [event for event in log if event["event"] == "split_done"]
    assert len(done) == started["splits_to_do"] == 2
    assert all(event["seconds"] > 0 and event["final"] for event in done)
    assert sum(event["counts"]["tokens"] for event in done) == summary["tokens"]
    assert sum(event["counts"]["documents"] for event in done) == 40
    assert [(event["path"], event["start"]) for event in done] == [
        ("docs.jsonl", 0),
        ("docs.jsonl", 4096),
    ]
    assert one(log, "quarantined")["by_reason"] == {"not_json": 1, "null": 1}
    assert {key: finished[key] for key in summary} == summary
    assert finished["quarantined_by_reason"] == {"not_json": 1, "null": 1}
    assert read_history(Storage(str(output))) == [started, finished]


def test_a_second_run_says_what_it_found_done(compress, write_jsonl, documents, tmp_path):
    output = tmp_path / "out"
    first = compress(write_jsonl("in/a.jsonl", [*documents(5), {}]), output, "max_quarantined=1")
    write_jsonl("in/b.jsonl", documents(3))
    compress(tmp_path / "in", tmp_path / "other")
    output = tmp_path / "other"
    write_jsonl("in/c.jsonl", documents(2))
    compress(tmp_path / "in", output)
    resumed = one(read_run(Storage(str(output))), "resumed")
    assert (resumed["splits"], resumed["splits_done"], resumed["splits_to_do"]) == (3, 2, 1)
    assert resumed["totals"]["documents"] == 8
    assert resumed["quarantined_by_reason"] == {"text_missing": 1}
    assert first["quarantined_by_reason"] == {"text_missing": 1}
    assert len(log_files(output)) == 2


@pytest.mark.parametrize(
    ("error", "event", "told"),
    [
        (MoosError("the model said no"), "failed", "the model said no"),
        (KeyboardInterrupt(), "interrupted", "interrupted by a signal"),
        (AssertionError(), "failed", "AssertionError"),
    ],
)
def test_a_run_that_ends_early_says_how(
    compress, write_jsonl, documents, tmp_path, monkeypatch, error, event, told
):
    def fail(self, *arguments):
        raise error

    monkeypatch.setattr(SplitWorker, "_check_source", fail)
    with pytest.raises(type(error)):
        compress(write_jsonl("docs.jsonl", documents(3)), tmp_path / "out")
    log = read_run(Storage(str(tmp_path / "out")))
    assert (log[-1]["event"], log[-1]["error"], log[-1]["exit_code"]) == (event, told, 1)
    assert ("split_failed" in names(log)) == (event == "failed")
    assert names(read_history(Storage(str(tmp_path / "out")))) == ["started", event]


def test_who_lost_the_lease_leaves_the_history_to_the_other_run(
    compress, write_jsonl, documents, tmp_path, monkeypatch
):
    def lost(self):
        raise LeaseLostError("out was taken over by another run")

    monkeypatch.setattr(Lease, "confirm", lost)
    with pytest.raises(MoosError, match="taken over by another run"):
        compress(write_jsonl("docs.jsonl", documents(3)), tmp_path / "out")
    output = Storage(str(tmp_path / "out"))
    assert names(read_history(output)) == ["started"]
    assert read_run(output)[-1]["event"] == "failed"


def test_a_long_log_goes_on_in_parts_and_is_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(events_module, "PART_BYTES", 500)
    monkeypatch.setattr(events_module, "FLUSH_EVERY_S", 0.001)
    with EventLog(Storage(str(tmp_path)), "r1") as log:
        for number in range(100):
            log.note("waiting", number=number)  # written at once
            if number % 20 == 0:
                threading.Event().wait(0.02)
    files = log_files(tmp_path)
    assert len(files) > 1
    # What grows is bounded: a part is closed by the write that fills it.
    found = read_run(Storage(str(tmp_path)))
    assert [event["number"] for event in found] == list(range(100))


def test_a_store_that_fails_costs_no_event_and_no_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(events_module, "FLUSH_EVERY_S", 0.001)
    storage = Storage(str(tmp_path))
    put, failures, failed = storage.put, [1, 2], threading.Event()

    def unreliable(name, data):
        if failures:
            failures.pop()
            if not failures:
                failed.set()
            raise OSError("no space left, says s3://somebody:hunter2@bucket")
        put(name, data)

    monkeypatch.setattr(storage, "put", unreliable)
    with caplog.at_level(logging.WARNING, logger="pipelines"), EventLog(storage, "r1") as log:
        log.note("started")
        assert failed.wait(30)
        log.note("finished")
    assert names(read_run(storage)) == ["started", "finished"]
    assert names(read_history(storage)) == ["started", "finished"]
    assert "events were not written: no space left, says s3://***@bucket" in caplog.text


def test_the_logs_of_old_runs_go_and_their_milestones_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(events_module, "RUNS_KEPT", 3)
    storage = Storage(str(tmp_path))
    for number in range(5):
        storage.put(f"_run/events/2020010{number + 1}T000000Z-run{number}-00000.jsonl", b"")
    storage.put("_run/events/20200105T000000Z-run4-00001.jsonl.ab12.tmp", b"left by a kill")
    with EventLog(storage, "now") as log:
        log.note("started")
    assert [name.split("-")[1] for name in log_files(tmp_path)] == ["run3", "run4", "now"]


def test_a_half_written_or_foreign_line_is_passed_over():
    data = b'{"event": "a"}\n[1]\n{"event": 3}\n\xff\n{"event": "b"}\n{"event": "c'
    assert names(parse_events(data)) == ["a", "b"]


def test_no_secret_gets_into_a_log(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    with EventLog(Storage(str(tmp_path)), "r1") as log:
        log.note(
            "failed", error="denied: wJalrXUtnFEMI/K7MDENG", waits_for=[{"a": "Bearer abcdefgh"}]
        )
    text = (tmp_path / "_run/events.jsonl").read_text()
    assert "denied: ***" in text
    assert "Bearer ***" in text
    assert "wJalr" not in text + (tmp_path / "_run/events" / log_files(tmp_path)[0]).read_text()


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("docs.jsonl.gz is damaged: Compressed file ended", "file_damaged"),
        ("line of 300000000 bytes is longer than 268435456; only its first", "line_too_long"),
        ("line is not a JSON object: Expecting value", "not_json"),
        ("line is not valid UTF-8: invalid start byte at byte 3", "invalid_unicode"),
        ("text holds the lone surrogate U+D800 at character 1, which", "invalid_unicode"),
        ("column 'x' is not valid UTF-8: invalid at byte 1", "invalid_unicode"),
        ("key 'rate' is named like a column that moos adds", "key_reserved"),
        ("no key 'text' (input.text_column)", "text_missing"),
        ("'text' is null", "null"),
        ("'short' is null or missing, not a string (teacher.compressed_column)", "null"),
        ("'text' is int, not a string", "wrong_type"),
        ("text of 9 characters is longer than input.max_document_chars=8", "document_too_long"),
        ("protected pattern '(a+)+' took over 5 s on this text", "pattern_too_slow"),
        ("the process that did 'score' hung: no progress in 1 s", "process_hung"),
        ("the process that did 'score' took more than 5 MiB", "process_out_of_memory"),
        ("the process that did 'score' died by signal 9 (SIGKILL)", "process_died"),
        ("processing raised ValueError: line is not a JSON object", "processing_raised"),
        ("writing raised ArrowInvalid: x", "writing_raised"),
        ("the compression is empty, although the text is not", "compression_empty"),
        ("chunk 2 of 3: an answer cut short", "teacher_failed"),
        ("something new", OTHER),
    ],
)
def test_every_reason_has_a_kind(reason, kind):
    assert kind_of_reason(reason) == kind
    assert kind in REASON_KINDS
