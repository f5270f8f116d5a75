"""Planning and finishing that get nowhere say on which call they wait and end in time."""

import itertools
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from jobs.compress import main
from moos import storage as storage_module
from moos.config import load_config
from moos.storage import Storage
from pipelines import compress as compress_module
from pipelines import label as label_module
from pipelines import lease as lease_module
from pipelines.config import CompressConfig
from pipelines.events import read_history
from pipelines.label_config import LabelConfig
from pipelines.lease import Lease, read_lease
from pipelines.phase_watch import PhaseWatch
from pipelines.stall import StalledError

ROOT = Path(__file__).resolve().parents[2]


def wait_for_ever():
    threading.Event().wait(120)
    raise AssertionError("nobody gave up")


@pytest.fixture
def hang_at(monkeypatch):
    """`hang_at("manifest.json")`: from now on, writing a file of that name never ends."""
    write = storage_module.write_whole

    def start(name):
        def hang(path, data):
            if Path(path).name == name:
                wait_for_ever()
            write(path, data)

        monkeypatch.setattr(storage_module, "write_whole", hang)

    yield start
    monkeypatch.undo()


def test_a_phase_that_hangs_names_the_calls_it_waits_for_the_inner_ones_first():
    watch = PhaseWatch(0.3)

    def work():
        with watch.call("an earlier one"):
            pass
        with watch.call("measure a.gz"), watch.call("read bytes 0 to 9 of a.gz"):
            wait_for_ever()

    with pytest.raises(StalledError) as raised, watch.guard("planning"):
        work()
    message = str(raised.value)
    assert message.startswith("planning has made no progress for ")
    assert "over stall_timeout_s=0.3" in message
    assert "waited for: read bytes 0 to 9 of a.gz, for 0 s; measure a.gz, for 0 s." in message


def test_where_no_call_is_out_it_is_work_of_this_machine():
    watch = PhaseWatch(0.2)
    with watch.call("list it"):
        pass
    match = "work on this machine, behind the call: list it"
    with pytest.raises(StalledError, match=match), watch.guard("finishing"):
        wait_for_ever()


@pytest.mark.parametrize("tells", ["calls", "news within a call"])
def test_a_phase_that_goes_on_is_left_alone(tells, caplog):
    watch = PhaseWatch(0.4)
    with caplog.at_level(logging.WARNING, logger="pipelines"), watch.guard("planning"):
        if tells == "calls":
            for _ in range(20):
                with watch.call("read"):
                    time.sleep(0.05)
        else:
            with watch.call("measure"):
                for _ in range(20):
                    watch.go_on()
                    time.sleep(0.05)
    assert caplog.messages == []


def test_a_guard_that_was_left_does_not_count_against_the_next_one():
    watch = PhaseWatch(0.4)
    with watch.guard("planning"):
        pass
    time.sleep(0.6)
    with watch.guard("finishing"):
        time.sleep(0.1)


def test_a_call_to_a_store_is_told_once_however_often_it_is_tried(monkeypatch):
    told = []
    watch = PhaseWatch()
    place = Storage("memory://told", watch=lambda what: told.append(what) or watch.call(what))
    failures = itertools.chain([ConnectionError("reset")] * 2, itertools.repeat(None))

    def answer(path):
        if error := next(failures):
            raise error
        return b"{}"

    monkeypatch.setattr("moos.retries._sleep", lambda seconds: None)
    monkeypatch.setattr(place, "_read_object", answer)
    assert place.get("a.json") == b"{}"
    assert told == ["read /told/a.json"]


@pytest.mark.ray
@pytest.mark.slow
def test_a_wait_for_ray_is_interrupted(ray_cluster):
    task = ray_cluster.remote(num_cpus=0)(lambda: time.sleep(60)).remote()
    began = time.monotonic()
    with pytest.raises(StalledError), PhaseWatch(0.3).guard("waiting"):
        ray_cluster.get(task)
    assert time.monotonic() - began < 20
    ray_cluster.cancel(task, force=True)


@pytest.fixture
def silent_server():
    """The endpoint of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield "http://{}:{}".format(*server.getsockname())


def test_planning_against_a_store_that_never_answers_ends_with_exit_code_1(
    silent_server, aws_credentials, tiny_checkpoint, tmp_path, capsys
):
    began = time.monotonic()
    options = json.dumps({"endpoint_url": silent_server})
    code = main(
        [
            "input.path=s3://bucket/docs.jsonl",
            f"input.storage_options={options}",
            f"output.path={tmp_path / 'out'}",
            f"checkpoint={tiny_checkpoint}",
            "executor=local",
            "document_limits.timeout_s=1",
            "stall_timeout_s=1.5",
        ]
    )
    told = capsys.readouterr().err
    assert code == 1
    assert "error: planning has made no progress for" in told
    assert "over stall_timeout_s=1.5. The run waited for: look up bucket/docs.jsonl, for" in told
    assert "run the same command again to resume" in told
    assert time.monotonic() - began < 30
    assert not (tmp_path / "out").exists()


def test_a_listing_that_never_ends_stops_a_labelling_run(tmp_path, write_jsonl, monkeypatch):
    monkeypatch.setattr("pipelines.input_files.list_sources", lambda *args, **keys: wait_for_ever())
    source = write_jsonl("pairs.jsonl", [{"text": "Some words.", "compressed": "words."}])
    overrides = (f"input.path={source}", "teacher.kind=pairs", "teacher.name=a hand")
    limits = ("document_limits.timeout_s=0.3", "stall_timeout_s=0.4", "executor=local")
    config = load_config(
        LabelConfig, None, [*overrides, f"output.path={tmp_path / 'out'}", *limits]
    )
    with pytest.raises(StalledError, match="planning has made no progress"):
        label_module.run_label(config)


def test_finishing_that_hangs_ends_the_run_and_the_same_command_finishes_it(
    compress, write_jsonl, documents, tmp_path, monkeypatch, hang_at
):
    source, output = write_jsonl("docs.jsonl", documents(30)), tmp_path / "out"
    compress(source, tmp_path / "before")  # so that loading takes no time below
    # Its heartbeats must not pass for progress.
    monkeypatch.setattr(compress_module, "Lease", partial(Lease, heartbeat_s=0.05))
    # Not by `stall_timeout_s`: it must exceed the watchdog's time, and that ends the process.
    monkeypatch.setattr(CompressConfig, "stall_limit_s", 5.0)
    hang_at("manifest.json")
    match = r"finishing has made no progress .* waited for: write \S*/out/manifest\.json, for"
    with pytest.raises(StalledError, match=match):
        compress(source, output)
    assert [e["event"] for e in read_history(Storage(str(output)))] == ["started", "stalled"]
    assert read_lease(Storage(str(output))).released
    assert not (output / "_SUCCESS").exists()
    monkeypatch.undo()
    summary = compress(source, output)
    assert (summary["splits_resumed"], summary["documents_scored"]) == (summary["splits"], 0)
    assert (output / "manifest.json").read_bytes() == (
        tmp_path / "before" / "manifest.json"
    ).read_bytes()


def test_a_lease_whose_store_hangs_is_left_to_expire(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(lease_module, "RELEASE_S", 0.2)
    storage = Storage(str(tmp_path))
    lease = Lease(storage)
    lease.acquire()
    monkeypatch.setattr(storage, "get", lambda name: wait_for_ever())
    began = time.monotonic()
    lease.release()
    assert time.monotonic() - began < 10
    assert "the lease is left to expire: the storage does not answer" in caplog.text


STUBBORN = """
import sys, time
from moos import storage
from pipelines import stall

stall.GRACE_S = 0.3
write = storage.write_whole

def hang(path, data):
    while path.endswith("manifest.json"):
        try:
            time.sleep(60)
        except BaseException:
            pass
    write(path, data)

storage.write_whole = hang
from jobs.compress import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_finishing_that_takes_no_interruption_ends_with_its_process_and_can_be_resumed_at_once(
    compress, write_jsonl, documents, tmp_path, tiny_checkpoint
):
    source, output = write_jsonl("docs.jsonl", documents(30)), tmp_path / "out"
    settings = [f"input.path={source}", f"output.path={output}", f"checkpoint={tiny_checkpoint}"]
    limits = ["executor=local", "stall_timeout_s=10", "document_limits.timeout_s=9", "engine=torch"]
    done = subprocess.run(
        [sys.executable, "-c", STUBBORN, *settings, *limits, "pool.cpus_per_replica=1"],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "error: finishing has made no progress for 1" in done.stderr
    assert not read_lease(Storage(str(output))).released
    began = time.monotonic()
    summary = compress(source, output)
    assert (summary["splits_resumed"], summary["documents_scored"]) == (summary["splits"], 0)
    assert time.monotonic() - began < 25, "it waited for the lease to expire"
