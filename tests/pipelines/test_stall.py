"""A run that gets nowhere says on what it waits and ends in time; one that works is left alone."""

import itertools
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from moos.config import load_config
from moos.errors import MoosError
from moos.splits import WHOLE_FILE, InputSplit
from moos.storage import Storage
from pipelines import notices as notices_module
from pipelines import stall as stall_module
from pipelines.config import CompressConfig
from pipelines.events import read_history, read_run
from pipelines.executors import describe_cluster
from pipelines.notices import Throttle
from pipelines.resources import Resources
from pipelines.split_watch import SplitWatch
from pipelines.stall import StalledError, StallGuard
from pipelines.watchdog import Watchdog
from pipelines.work import SplitWorker

ROOT = Path(__file__).resolve().parents[2]
SPLIT = InputSplit("a-0", "/in/a.jsonl", "a.jsonl", "jsonl", None, 0, 4096, 4096, 4096, "e")
REST = InputSplit("b-0", "/in/b.parquet", "b.parquet", "parquet", None, 7, WHOLE_FILE, 9, 9, "e")


class Log:
    """Keeps events in memory."""

    def __init__(self):
        self.events = []

    def note(self, event, **details):
        self.events.append({"event": event, **details})


@pytest.fixture
def log():
    return Log()


def wait_for_ever():
    threading.Event().wait(120)
    raise AssertionError("nobody gave up")


def look_for_ever():
    threading.Event().wait(120)
    return []


def test_a_wait_without_end_ends_with_an_error_that_names_the_key_and_what_it_waited_for(log):
    watch = SplitWatch([SPLIT, REST])
    watch.look = lambda: ["the cluster: 0 of 4 CPUs free"]
    watch.note("split_began", {"split": "a-0", "stage": "work", "replica": "h:7"})
    with pytest.raises(StalledError) as raised, StallGuard(watch, 0.4, log):
        wait_for_ever()
    message = str(raised.value)
    assert "over stall_timeout_s=0.4" in message
    assert "a.jsonl, bytes 0 to 4096: 'work' at h:7 for" in message
    assert "1 split(s) that no process has begun" in message
    assert "the cluster: 0 of 4 CPUs free" in message
    assert log.events[-1]["event"] == "stalled"
    assert log.events[-1]["exit_code"] == 1


def test_a_thread_that_is_not_the_main_one_is_interrupted_too(log):
    raised = []

    def work():
        try:
            with StallGuard(SplitWatch([SPLIT]), 0.2, log):
                while True:
                    time.sleep(0.01)
        except StalledError as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert len(raised) == 1


def test_an_error_on_the_way_out_does_not_hide_why(log):
    def work():
        try:
            wait_for_ever()
        finally:
            raise OSError("closed")

    with pytest.raises(StalledError), StallGuard(SplitWatch([SPLIT]), 0.2, log):
        work()


@pytest.mark.parametrize(
    "tell",
    [
        lambda watch, i: watch.note("alive", {}),
        lambda watch, i: watch.count("a-0", {"documents": i}),
    ],
    ids=["signs of life", "growing counts"],
)
def test_a_run_that_goes_on_is_left_alone(log, tell):
    watch = SplitWatch([SPLIT])
    with StallGuard(watch, 0.4, log):
        for i in range(20):
            tell(watch, i)
            time.sleep(0.05)
    assert log.events == []


@pytest.mark.parametrize(
    ("kind", "details"),
    [
        ("split_began", {"split": "a-0", "stage": "work", "replica": "h:7"}),
        ("replica_started", {"replica": "h:8", "seconds": 1, "restarted": True}),
        ("split_suspect", {"split": "a-0", "replica": "h:7"}),
    ],
)
def test_what_begins_over_and_over_is_no_progress(log, kind, details):
    watch = SplitWatch([SPLIT])

    def work():
        while True:
            watch.note(kind, details)
            watch.count("a-0", {"documents": 1})
            time.sleep(0.02)

    with pytest.raises(StalledError), StallGuard(watch, 0.3, log):
        work()


def test_without_a_limit_it_only_warns_at_growing_intervals(log, monkeypatch, caplog):
    monkeypatch.setattr(stall_module, "FIRST_WARNING_S", 0.1)
    watch = SplitWatch([REST])
    with caplog.at_level(logging.WARNING, logger="pipelines"), StallGuard(watch, None, log):
        watch.note("split_began", {"split": "b-0", "stage": "prepare", "replica": "h:7"})
        watch.note("split_left", {"split": "b-0", "stage": "prepare", "replica": "h:7"})
        time.sleep(1.5)
        watch.finish("b-0")
    waits = [event["seconds"] for event in log.events if event["event"] == "waiting"]
    assert 2 <= len(waits) <= 4
    assert all(later >= 2 * earlier - 0.1 for earlier, later in itertools.pairwise(waits))
    assert "b.parquet, rows 7 to the end: waits behind stage 'prepare' at h:7" in caplog.text
    assert "gives up never (stall_timeout_s)" in caplog.text


def test_a_cluster_that_does_not_answer_is_said_to_be_silent(log, monkeypatch):
    monkeypatch.setattr(stall_module, "LOOK_S", 0.05)
    watch = SplitWatch([SPLIT])
    watch.look = look_for_ever
    match = "the cluster, which does not say what it has"
    with pytest.raises(StalledError, match=match), StallGuard(watch, 0.2, log):
        wait_for_ever()


def test_what_goes_on_or_ends_during_the_last_look_is_left_alone(log):
    watch, looked = SplitWatch([SPLIT]), threading.Event()

    def look():
        if time.monotonic() - watch.progressed_at > 0.4:  # else it is for a warning
            looked.set()
            time.sleep(0.1)
            watch.note("alive", {})
        return []

    watch.look = look
    with StallGuard(watch, 0.4, log):
        assert looked.wait(60)
        time.sleep(0.2)  # it goes on
        looked.clear()
        assert looked.wait(60)  # it ends
    time.sleep(0.3)
    assert "stalled" not in [event["event"] for event in log.events]


def test_a_thread_that_takes_no_interruption_ends_with_its_process():
    script = (
        "import time\n"
        "from pipelines import phase_watch, stall\n"
        "stall.GRACE_S = 0.3\n"
        "with phase_watch.PhaseWatch(0.2).guard('planning'):\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(60)\n"
        "        except BaseException:\n"
        "            pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert done.returncode == 1
    assert "over stall_timeout_s=0.2" in done.stderr
    assert "run the same command again to resume" in done.stderr


def test_a_store_that_never_answers_ends_the_run_and_the_same_command_goes_on(
    compress, write_jsonl, documents, tmp_path, monkeypatch
):
    source, output = write_jsonl("docs.jsonl", documents(30)), tmp_path / "out"
    check, calls = SplitWorker._check_source, []

    def hang(self, split):
        calls.append(split)
        if len(calls) > 2:  # the second split's
            wait_for_ever()
        check(self, split)

    compress(source, tmp_path / "before")  # so that loading takes no time below
    with monkeypatch.context() as patch:
        # Not by `stall_timeout_s`: it must exceed the watchdog's time, and that ends the process.
        patch.setattr(CompressConfig, "stall_limit_s", 4.0)
        patch.setattr(SplitWorker, "_check_source", hang)
        with pytest.raises(StalledError, match=r"docs\.jsonl, bytes 2048 to \d+: 'work' at"):
            compress(source, output, "input.split_bytes=2KiB")
    log = read_run(Storage(str(output)))
    assert [e["event"] for e in log][-1] == "stalled"
    assert [e["event"] for e in read_history(Storage(str(output)))] == ["started", "stalled"]
    summary = compress(source, output, "input.split_bytes=2KiB")
    assert (summary["documents"], summary["splits_resumed"]) == (30, 1)


def test_the_watchdog_passes_signs_of_life_on_but_not_too_often(monkeypatch):
    told = []
    with Watchdog(60.0, 1 << 60) as dog:
        dog.tell = Throttle(lambda: told.append(1), every_s=0.3)
        for _ in range(30):
            dog.beat()
            time.sleep(0.05)
    assert 1 <= len(told) <= 5
    assert notices_module.ALIVE_EVERY_S < stall_module.FIRST_WARNING_S


@pytest.mark.parametrize(
    ("overrides", "limit"),
    [
        ([], 1800),
        (["document_limits.timeout_s=1000"], 2000),
        (["stall_timeout_s=400"], 400),
        (["stall_timeout_s=null"], None),
    ],
)
def test_the_limit_is_longer_than_any_document_may_take(overrides, limit):
    paths = ["input.path=in", "output.path=out"]
    assert load_config(CompressConfig, None, [*paths, *overrides]).stall_limit_s == limit


def test_a_limit_that_a_document_may_exceed_is_refused():
    with pytest.raises(
        (MoosError, ValidationError), match=r"must exceed document_limits\.timeout_s"
    ):
        load_config(
            CompressConfig, None, ["input.path=in", "output.path=out", "stall_timeout_s=300"]
        )


@pytest.mark.ray
@pytest.mark.slow
def test_what_a_pool_waits_for_is_told_with_what_the_cluster_has(ray_cluster):
    first, second = describe_cluster(Resources(3, 3, 2.0, 1.0, "cuda"), 1)
    assert first == "2 of 3 replicas to start; each takes 2 CPUs and 1 GPUs"
    assert "of 4 CPUs free" in second
    assert describe_cluster(Resources(3, 3, 2.0, 1.0, "cuda"), 3) == [second]
