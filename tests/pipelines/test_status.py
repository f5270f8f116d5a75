"""How far a run is, from its output alone: at work, complete, or ended early in any way."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from moos.errors import ConfigError
from moos.storage import Storage
from pipelines import work
from pipelines.lease import LEASE, Lease
from pipelines.run_state import dump_json
from pipelines.status import HolderWatch, measure_pace, read_status
from pipelines.work import SplitWorker

SPLITS = ("input.split_bytes=2KiB", "max_quarantined=1")


@pytest.fixture
def source(write_jsonl, documents):
    return write_jsonl("docs.jsonl", [*documents(40), b"nope", {"text": None}])


def look(output):
    storage = Storage(str(output))
    return read_status(storage, HolderWatch(storage))


def rewrite_lease(output, **changes):
    path = output / LEASE
    path.write_bytes(dump_json({**json.loads(path.read_text()), **changes}))


def test_a_complete_run_tells_the_figures_of_its_summary(compress, source, tmp_path):
    summary = compress(source, tmp_path / "out", *SPLITS)
    status = look(tmp_path / "out")
    assert (status["state"], status["exit_code"], status["job"]) == ("complete", 0, "compress")
    for name in ("documents", "tokens", "kept_tokens", "quarantined", "rate", "splits"):
        assert status[name] == summary[name]
    assert (status["splits_done"], status["splits_to_do"]) == (summary["splits"], 0)
    assert status["quarantined_by_reason"] == {"not_json": 1, "null": 1}
    assert status["last_event"]["event"] == "finished"
    assert status["holder"] is None


def test_too_much_quarantined_is_exit_code_3(compress, source, tmp_path):
    compress(source, tmp_path / "out", "max_quarantined=0")
    assert (look(tmp_path / "out")["state"], look(tmp_path / "out")["exit_code"]) == ("complete", 3)


def test_a_run_at_work_tells_what_is_done_and_to_do_and_who_works(
    compress, source, tmp_path, monkeypatch
):
    output, seen = tmp_path / "out", []
    check = SplitWorker._check_source

    def observe(self, split):
        if split.start and not seen:
            # What the log's thread writes every few seconds, or at once for a milestone.
            self.notice("replica_started", replica="r", seconds=0.0, restarted=False)
            seen.append(None)
        check(self, split)

    monkeypatch.setattr("pipelines.events.FLUSH_EVERY_S", 0.01)
    monkeypatch.setattr(SplitWorker, "_check_source", observe)
    commit = work.SplitWorker._write

    def commit_and_look(self, sink, num_scored):
        record = commit(self, sink, num_scored)
        if len(seen) == 1:
            seen.append(look(output))
        return record

    monkeypatch.setattr(SplitWorker, "_write", commit_and_look)
    compress(source, output, *SPLITS)
    status = seen[1]
    assert (status["state"], status["exit_code"]) == ("running", 4)
    assert status["splits_done"] == 1
    assert status["splits_to_do"] == status["splits"] - 1 > 0
    assert 0 < status["documents"] < 40
    assert status["tokens"] > status["kept_tokens"] > 0
    assert status["holder"]["host"]
    assert status["pass_name"] == "compress"


@pytest.fixture
def stopped(compress, source, tmp_path, monkeypatch):
    """`stopped(error)`: the output of a run that ended so after its first split."""

    def run(error):
        check = SplitWorker._check_source

        def stop(self, split):
            if split.start:
                raise error
            check(self, split)

        with monkeypatch.context() as patch:
            patch.setattr(SplitWorker, "_check_source", stop)
            with pytest.raises(type(error)):
                compress(source, tmp_path / "out", *SPLITS)
        return tmp_path / "out"

    return run


@pytest.mark.parametrize(
    ("error", "state"),
    [(OSError("no route to host"), "failed"), (KeyboardInterrupt(), "interrupted")],
)
def test_a_run_that_ended_early_tells_what_its_done_records_hold(stopped, error, state):
    output = stopped(error)
    for part in (output / "_run/events").iterdir():  # the last seconds are lost with a process
        part.write_bytes(b"".join(part.read_bytes().splitlines(keepends=True)[:4]))
    log_lost = look(output)
    assert (log_lost["state"], log_lost["exit_code"]) == ("interrupted", 1)
    assert (log_lost["splits_done"], log_lost["documents"] > 0) == (1, True)
    for part in (output / "_run/events").iterdir():
        part.unlink()
    assert look(output)["state"] == state  # the milestones tell


def test_a_killed_run_is_interrupted_once_its_lease_has_expired(stopped):
    output = stopped(KeyboardInterrupt())
    long_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds")
    elsewhere = {"host": "elsewhere", "released": False, "expires_s": 0.2, "heartbeat_s": 0.1}
    rewrite_lease(output, **elsewhere, time=long_ago)
    assert look(output)["state"] == "interrupted"
    # By our clock its heartbeat is fresh.
    rewrite_lease(output, **{**elsewhere, "expires_s": 30.0})
    now = datetime.now(UTC).isoformat(timespec="seconds")
    rewrite_lease(output, time=now)
    events = next((output / "_run/events").iterdir())
    events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:4]))
    assert look(output)["state"] == "running"


def test_a_holder_with_a_clock_of_its_own_lives_as_long_as_its_lease_changes(tmp_path):
    storage = Storage(str(tmp_path))
    watch = HolderWatch(storage)
    with Lease(storage):
        pass
    rewrite_lease(
        tmp_path, host="elsewhere", released=False, time="2001-01-01T00:00:00+00:00", expires_s=0.3
    )
    assert watch.look()[1] is False
    rewrite_lease(tmp_path, beat=99)
    assert watch.look()[1] is True


def test_a_run_whose_guard_warns_waits(stopped):
    output = stopped(KeyboardInterrupt())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    rewrite_lease(output, host="elsewhere", released=False, time=now)
    part = next((output / "_run/events").iterdir())
    lines = part.read_bytes().splitlines(keepends=True)[:-2]
    waiting = {"time": now, "event": "waiting", "run": "x", "seconds": 60, "waits_for": ["a node"]}
    part.write_bytes(b"".join([*lines, json.dumps(waiting).encode()]))
    status = look(output)
    assert (status["state"], status["exit_code"]) == ("waiting", 5)
    assert status["last_event"]["waits_for"] == ["a node"]


def event(second, name, **details):
    return {
        "time": f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}+00:00",
        "event": name,
        **details,
    }


def test_the_pace_is_that_of_the_last_minutes():
    begun = event(0, "started", bytes_to_do=10_000)
    done_by_minute = [*range(0, 1001, 100), *range(1600, 4001, 600)]  # ten slow ones, five fast
    log = [
        begun,
        event(0, "pass_began", pass_name="compress"),
        *(event(60 * i, "progress", tokens=n, bytes=n) for i, n in enumerate(done_by_minute)),
    ]
    assert measure_pace(log, begun, "tokens") == {
        "pass_name": "compress",
        "tokens_per_s": 10.0,
        "eta_s": 600.0,
    }
    done = {"counts": {"tokens": 50, "input_bytes": 5_000}}
    log = [event(0, "pass_began", pass_name="score"), event(10, "split_done", **done)]
    assert measure_pace(log, begun, "tokens")["tokens_per_s"] == 5.0
    assert measure_pace(log, begun, "tokens")["eta_s"] == 10.0
    assert measure_pace(log[:1], begun, "tokens")["eta_s"] is None
    assert measure_pace([begun], begun, "tokens")["pass_name"] is None


def test_where_no_run_is_an_error_says_what_is_missing(tmp_path):
    with pytest.raises(ConfigError, match="holds no moos run"):
        look(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"output\.path of a run"):
        look(tmp_path)


def test_a_trained_checkpoint_is_a_complete_run(tmp_path):
    Storage(str(tmp_path)).put("checkpoint/moos.json", b"{}")
    status = look(tmp_path)
    assert (status["job"], status["state"], status["exit_code"]) == ("train", "complete", 0)
