"""Real processes, really killed: `kill -9` on a driver or a replica, then the same command."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moos.config import load_config
from pipelines.compress import run_compress
from pipelines.config import CompressConfig

ROOT = Path(__file__).parents[2]
DEADLINE_S = 150


SPLITS = ("input.split_bytes=2KiB", "max_quarantined=1")


@pytest.fixture(scope="module")
def many_documents(tmp_path_factory, documents):
    """A file of many splits, so that there is time to kill."""
    path = tmp_path_factory.mktemp("many") / "docs.jsonl"
    lines = [json.dumps(record).encode() for record in documents(800)]
    path.write_bytes(b"\n".join([*lines[:400], b"nope", *lines[400:]]) + b"\n")
    return path


@pytest.fixture
def start(tiny_checkpoint, tmp_path):
    """`start(source, output, *overrides)`: the job as a process of its own, killed at the end."""
    started = []

    def run(source, output, *overrides):
        log = (tmp_path / f"log-{len(started)}").open("wb")
        command = (
            f"input.path={source}",
            f"output.path={output}",
            f"checkpoint={tiny_checkpoint}",
            *SPLITS,
            "pool.cpus_per_replica=1",
            "pool.gpus_per_replica=0",
            *overrides,
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.compress", *command],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"},
            start_new_session=True,
        )
        process.log = Path(log.name)
        started.append(process)
        log.close()
        return process

    yield run
    for process in started:
        family = descendants(process.pid)
        process.kill()
        process.wait()
        process.stdout.close()
        for pid in family:
            kill(pid)


def finish(process) -> dict:
    """The summary of a job that must end well."""
    try:
        out, _ = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        pytest.fail(f"not done after {DEADLINE_S} s: {process.log.read_text()[-2000:]}")
    assert process.returncode == 0, process.log.read_text()[-3000:]
    assert out.count(b"\n") == 1, out.decode()[-2000:]
    (line,) = out.decode().splitlines()
    return json.loads(line)


def wait_for(condition, process):
    """The first true value of `condition()`, looked at again and again while the job runs."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        if process.poll() is not None:
            pytest.fail(f"ended before it could be killed: {process.log.read_text()[-2000:]}")
        time.sleep(0.005)
    return pytest.fail(f"waited {DEADLINE_S} s in vain: {process.log.read_text()[-2000:]}")


def done_splits(output: Path) -> int:
    return sum(1 for _ in output.glob("_run/done/*/*.json"))


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def descendants(pid: int) -> list[int]:
    """Every process below one, as Linux tells in /proc."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything.
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


@pytest.fixture(scope="module")
def uninterrupted(many_documents, tiny_checkpoint, snapshot):
    """What a run that nobody disturbs leaves behind."""
    output = many_documents.parent / "uninterrupted"
    overrides = (
        f"input.path={many_documents}",
        f"output.path={output}",
        f"checkpoint={tiny_checkpoint}",
        "executor=local",
        "pool.cpus_per_replica=1",
        *SPLITS,
    )
    assert run_compress(load_config(CompressConfig, None, overrides))["splits"] > 60
    return snapshot(output)


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_the_same_bytes(
    start, many_documents, tmp_path, snapshot, done_times, uninterrupted
):
    output = tmp_path / "out"
    process = start(many_documents, output, "executor=local")
    wait_for(lambda: done_splits(output) >= 10, process)
    process.kill()
    process.wait()
    done = done_times(output)
    assert not (output / "_SUCCESS").exists()
    summary = finish(start(many_documents, output, "executor=local"))
    assert summary["documents"] == 800
    assert summary["splits_resumed"] == len(done)
    assert done.items() <= done_times(output).items()  # what was done was not done again
    assert snapshot(output) == uninterrupted


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_of_three_stages_survives_a_killed_driver(
    start, many_documents, tmp_path, snapshot, done_times, uninterrupted
):
    # The same of one stage is an injection of tests/faults. A CPU is left for tasks, of two.
    on_ray = ("executor=ray", "pool.replicas=2", "stages=split", "pool.cpus_per_replica=0.5")
    output = tmp_path / "out"
    process = start(many_documents, output, *on_ray)
    wait_for(lambda: done_splits(output) >= 5, process)
    family = descendants(process.pid)
    process.kill()
    process.wait()
    # Replicas outlive their driver for a moment and may commit a split more.
    for pid in family:
        kill(pid)
    done = done_times(output)
    assert not (output / "_SUCCESS").exists()

    summary = finish(start(many_documents, output, *on_ray))
    assert summary["documents"] == 800
    assert summary["splits_resumed"] == len(done)
    assert done.items() <= done_times(output).items()
    assert snapshot(output) == uninterrupted


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_preempted_run_says_how_to_resume_and_exits_1(
    start, many_documents, tmp_path, snapshot, done_times, uninterrupted, number
):
    output = tmp_path / "out"
    process = start(many_documents, output, "executor=local")
    wait_for(lambda: done_splits(output) >= 10, process)
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == 1
    assert "run the same command again to resume" in process.log.read_text()
    events = (output / "_run" / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in events] == ["started", "interrupted"]
    done = done_times(output)
    finish(start(many_documents, output, "executor=local"))
    assert done.items() <= done_times(output).items()
    assert snapshot(output) == uninterrupted


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_preempted_on_ray_exits_1(start, many_documents, tmp_path):
    output = tmp_path / "out"
    process = start(many_documents, output, "executor=ray")
    wait_for(lambda: done_splits(output) >= 1, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 1
    assert "run the same command again to resume" in process.log.read_text()
    assert not (output / "_SUCCESS").exists()
