"""Stages of a job's workers: all of their time is accounted for, also in replicas."""

import time

import pytest

from pipelines import ray_graph
from pipelines.bench_stages import (
    SPLIT,
    TimedWorkers,
    WorkerTimes,
    timed_replicas,
    timed_worker,
)
from pipelines.ray_graph import SplitReplica
from pipelines.work import SplitWorker

EVERY_STAGE = {"read", "parse", "tokenise", "score", "select", "render", "write", "commit"}


def test_what_workers_did_comes_to_the_time_they_had():
    workers = [
        WorkerTimes(7, {"score": 6.0, "read": 1.0}, {"score": 6.0, SPLIT: 1.0}, 0.5, 9.0),
        WorkerTimes(8, {"score": 5.0}, {"score": 5.0, SPLIT: 2.0}, 0.0, 8.0),
    ]
    times = TimedWorkers(lambda: workers).describe(10.0, {7: 99.0, 1: 3.0})
    assert times.seconds == {"score": 11.0, "read": 1.0}
    assert times.in_turn == {
        "score": 11.0,
        SPLIT: 3.0,
        "wait for a split": 0.5,
        "finish the run": 5.5,
    }
    assert times.cpu_s == {"workers": 17.0}


@pytest.mark.parametrize(
    ("executor", "timed"),
    [("local", timed_worker), pytest.param("ray", timed_replicas, marks=pytest.mark.ray)],
)
def test_a_run_is_timed_where_its_splits_are_worked(
    executor, timed, request, compress, write_jsonl, documents, tmp_path
):
    if executor == "ray":
        request.getfixturevalue("ray_cluster")
    source = write_jsonl("docs.jsonl", documents(40))
    before = SplitWorker.work
    pool = ("pool.gpus_per_replica=0", "pool.replicas=2") if executor == "ray" else ()
    splits = "input.split_bytes=2KiB"
    with timed(tmp_path) as workers:
        began = time.monotonic()
        summary = compress(source, tmp_path / "out", f"executor={executor}", splits, *pool)
        took = time.monotonic() - began
    assert summary["exit_code"] == 0
    assert summary["splits"] > 2
    found = workers.read()
    assert 1 <= len(found) <= 2
    assert SplitWorker.work is before
    times = workers.describe(took, {})
    assert set(times.seconds) >= EVERY_STAGE
    # Reading ahead is another thread's; the worker's own waits for it.
    assert "read" not in times.in_turn
    assert {"score", "commit", "wait for a group ahead", SPLIT} <= set(times.in_turn)
    assert all(worker.between_s >= 0 for worker in found)
    assert times.in_turn["finish the run"] > 0
    assert sum(times.in_turn.values()) == pytest.approx(took * len(found))


def test_replicas_are_themselves_again_afterwards(tmp_path):
    with timed_replicas(tmp_path):
        assert ray_graph.SplitReplica is not SplitReplica
    assert ray_graph.SplitReplica is SplitReplica
