"""The training job with two gloo workers on a bucket: killed, resumed, its checkpoint used."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import moto.server
import pyarrow.parquet as pq
import pytest
import s3fs

from moos import Compressor
from moos.config import load_config
from moos.errors import ConfigError
from moos.labels import labelled_table, read_labelled
from moos.ranks import Ranks
from moos.storage import Storage
from moos.tokens import TextTokenizer
from moos.training import run_training
from moos.training_data import prepare_data
from moos.training_state import load_state
from pipelines.status import HolderWatch, read_status
from pipelines.train import check_output, name_run
from pipelines.train_config import TrainConfig
from tests.faults.job import Patience

# Ray Train starts several times, a minute each where the machine is busy.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
DEADLINE_S = 100
STALL = "stall_timeout_s=40"
"""Longer than Ray takes to start on a busy machine."""


@pytest.fixture(scope="module")
def environment():
    keys = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    return {**os.environ, **keys, "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def bucket(environment, labelled_jsonl, tmp_path_factory):
    """A bucket that holds labelled Parquet, and the options that lead to it."""
    server = moto.server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    s3fs.S3FileSystem.clear_instance_cache()
    filesystem = s3fs.S3FileSystem(
        key="a", secret="b", endpoint_url=endpoint, use_listings_cache=False
    )
    filesystem.call_s3("create_bucket", Bucket="labels")
    path = tmp_path_factory.mktemp("labels") / "labels.parquet"
    pq.write_table(labelled_table(read_labelled(str(labelled_jsonl))), path)
    filesystem.put_file(str(path), "labels/labels.parquet")
    filesystem.endpoint = endpoint
    yield filesystem
    server.stop()


@pytest.fixture(scope="module")
def settings(bucket, training_base):
    """`settings(name)`: the config of a run, as overrides."""

    def make(name):
        options = json.dumps({"endpoint_url": bucket.endpoint})
        return {
            "data.path": "s3://labels/labels.parquet",
            "data.storage_options": options,
            "output.path": f"s3://labels/{name}",
            "output.storage_options": options,
            "training.base": training_base,
            "training.base_name": "tiny",
            "training.labels_note": "a rule",
            # Few steps, of which 36 take a second: enough to be killed between two states.
            "training.learning_rate": "1e-3",
            "training.epochs": "12",
            "training.batch_size": "4",
            "training.micro_batch_size": "2",
            "training.max_length": "24",
            "training.validate_every": "36",
            "training.threads": "1",
            "workers.num_workers": "2",
            "workers.cpus_per_worker": "0.5",
        }

    return make


@pytest.fixture(scope="module")
def start(settings, environment, tmp_path_factory):
    """`start(name, *overrides)`: the job as a process of its own."""
    started = []

    def run(name, *overrides):
        log = (tmp_path_factory.mktemp("log") / name).open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.train"]
            + [f"{key}={value}" for key, value in settings(name).items()]
            + list(overrides),
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            env={**environment, "MOOS_TEST_RUN": name},
            start_new_session=True,
        )
        process.log = Path(log.name)
        started.append(process)
        log.close()
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def finish(process):
    patience = Patience(DEADLINE_S)
    while True:
        try:
            out, _ = process.communicate(timeout=1)
            break
        except subprocess.TimeoutExpired:
            assert not patience.is_over, process.log.read_text()[-3000:]
    assert process.returncode == 0, process.log.read_text()[-3000:]
    return json.loads(out)


def states(bucket, name):
    return sorted(bucket.glob(f"labels/{name}/runs/*/step-*/state.json"))


def snapshot(bucket, name):
    """What Ray Train knows of the run's states, which is less than what is uploaded."""
    paths = bucket.glob(f"labels/{name}/runs/*/checkpoint_manager_snapshot.json")
    return json.loads(bucket.cat_file(paths[0])) if paths else {"checkpoint_results": []}


def wait_until(process, happened):
    patience = Patience(DEADLINE_S)
    while not happened():
        assert process.poll() is None, process.log.read_text()[-3000:]
        assert not patience.is_over, process.log.read_text()[-3000:]
        time.sleep(0.2)


def last_validation(bucket, name):
    rows = [
        json.loads(line) for line in bucket.cat_file(f"labels/{name}/metrics.jsonl").splitlines()
    ]
    return [row for row in rows if row["kind"] == "validation"][-1]


def worker_pids(name):
    """Ray Train's workers of one run."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes()
            environment = (directory / "environ").read_bytes()
        except OSError:
            continue
        if b"RayTrainWorker" in command and f"MOOS_TEST_RUN={name}".encode() in environment:
            found.append(int(directory.name))
    return found


def assert_same(found, expected, tolerance):
    for key, value in expected.items():
        if key != "kind":
            assert found[key] == pytest.approx(value, abs=tolerance), key


@pytest.fixture(scope="module")
def undisturbed(start, bucket):
    """The summary and the last figures of a run that nothing happened to."""
    summary = finish(start("undisturbed"))
    return summary, last_validation(bucket, "undisturbed")


def test_the_checkpoint_is_one_that_compresses(undisturbed, bucket, tmp_path):
    summary, row = undisturbed
    assert summary["checkpoint"] == "s3://labels/undisturbed/checkpoint"
    assert summary["steps"] == row["step"]
    assert row["auc"] > 0.85
    bucket.get("labels/undisturbed/checkpoint", str(tmp_path / "checkpoint"), recursive=True)
    document = Compressor.load(str(tmp_path / "checkpoint"), threads=1).compress("alice of rome")
    assert document.text
    page = bucket.cat_file("labels/undisturbed/report.html").decode()
    assert "data:image/png;base64," in page
    assert f"{summary['auc']:.4f}" in page
    assert bucket.cat_file("labels/undisturbed/curves.png").startswith(b"\x89PNG")
    assert bucket.glob("labels/undisturbed/tensorboard/*/events.out.tfevents.*")


def test_killed_workers_a_killed_driver_and_a_damaged_state_change_no_figure(
    undisturbed, start, bucket
):
    process = start("killed")
    wait_until(process, lambda: snapshot(bucket, "killed")["checkpoint_results"])
    victims = worker_pids("killed")
    assert len(victims) == 2
    os.kill(victims[0], signal.SIGKILL)
    wait_until(process, lambda: "going on from step" in process.log.read_text())
    wait_until(process, lambda: len(snapshot(bucket, "killed")["checkpoint_results"]) > 1)
    assert not bucket.exists("labels/killed/metrics.jsonl"), "killed while it trains"
    assert worker_pids("killed")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while worker_pids("killed") and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(3)  # Ray's controller outlives the driver a little, and may still note a state
    # The state that Ray Train takes for the latest, and would have us go on from.
    latest = snapshot(bucket, "killed")["latest_checkpoint_result"]["checkpoint_dir_name"]
    (path,) = bucket.glob(f"labels/killed/runs/*/{latest}/state.json")
    bucket.pipe_file(path, b'{"step": 1')
    process = start("killed")
    summary = finish(process)
    assert "a damaged state is passed over" in process.log.read_text()
    assert summary["auc"] == pytest.approx(undisturbed[0]["auc"], abs=1e-6)
    assert_same(last_validation(bucket, "killed"), undisturbed[1], 1e-6)


@pytest.fixture(scope="module")
def run_alone(settings, training_base, labelled_jsonl):
    """`run_alone(resumed=None)`: the last figures of the same run on one worker, without Ray."""

    def run(resumed=None):
        overrides = [f"{key}={value}" for key, value in settings("unused").items()]
        config = load_config(TrainConfig, None, overrides).training
        tokenizer = TextTokenizer.from_file(training_base / "tokenizer.json")
        data = prepare_data(read_labelled(str(labelled_jsonl)), tokenizer, config)
        history = run_training(
            config, data, ranks=Ranks(), on_validated=lambda state: None, resumed=resumed
        )
        return {"kind": "validation", **history[-1]}

    return run


def test_its_status_is_told_by_its_output(undisturbed, bucket, environment, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, environment[name])
    output = Storage("s3://labels/undisturbed", {"endpoint_url": bucket.endpoint})
    status = read_status(output, HolderWatch(output))
    assert (status["job"], status["state"], status["exit_code"]) == ("train", "complete", 0)
    assert status["num_steps"] == undisturbed[0]["steps"]
    assert status["last_event"]["auc"] == undisturbed[0]["auc"]


def test_one_worker_gives_the_run_of_two(undisturbed, run_alone):
    assert_same(run_alone(), undisturbed[1], 1e-3)


def test_one_worker_goes_on_from_a_state_of_two(undisturbed, run_alone, bucket, tmp_path):
    first = states(bucket, "undisturbed")[0].rpartition("/")[0]
    bucket.get(first, str(tmp_path / "state"), recursive=True)
    state = load_state(tmp_path / "state")
    assert 0 < state.step < undisturbed[0]["steps"]
    assert_same(run_alone(state), undisturbed[1], 1e-3)


@pytest.mark.slow
def test_a_worker_that_neither_works_nor_dies_ends_the_run_and_the_same_command_goes_on(
    undisturbed, start, bucket
):
    process = start("stalled", STALL)
    wait_until(process, lambda: snapshot(bucket, "stalled")["checkpoint_results"])
    victims = worker_pids("stalled")
    assert len(victims) == 2
    os.kill(victims[0], signal.SIGSTOP)  # the other waits for it in a collective
    process.communicate(timeout=2 * DEADLINE_S)
    log = process.log.read_text()
    assert process.returncode == 1, log[-3000:]
    assert "error: training has made no progress for" in log
    assert re.search(r"worker 0: (at step \d+ of \d+|hands on the state of step \d+), \d+ s", log)
    assert "the latest stored state is of step 36" in log
    deadline = time.monotonic() + 30
    while worker_pids("stalled") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert worker_pids("stalled") == []
    summary = finish(start("stalled"))
    assert summary["auc"] == pytest.approx(undisturbed[0]["auc"], abs=1e-6)
    assert_same(last_validation(bucket, "stalled"), undisturbed[1], 1e-6)


@pytest.mark.slow
def test_workers_that_no_node_can_hold_end_the_run(start):
    process = start("unplaced", STALL, "workers.cpus_per_worker=512")
    process.communicate(timeout=2 * DEADLINE_S)
    log = process.log.read_text()
    assert process.returncode == 1, log[-3000:]
    assert "error: training has made no progress for" in log
    assert "2 of 2 worker(s) to start; each takes 512 CPUs and 0 GPUs; the cluster: " in log


@pytest.mark.slow
def test_a_sharded_model_trains_like_copies_of_it(undisturbed, start, bucket):
    finish(start("sharded", "workers.strategy=fsdp2"))
    assert_same(last_validation(bucket, "sharded"), undisturbed[1], 1e-3)


def test_a_changed_recipe_is_a_new_run_and_other_workers_are_not(training_base, labelled_jsonl):
    documents = read_labelled(str(labelled_jsonl))

    def name(*overrides):
        base = f"training.base={training_base}"
        config = load_config(TrainConfig, "configs/train.default.yaml", [base, *overrides])
        return name_run(config, documents)

    assert name() == name("workers.num_workers=4", "output.path=x", "training.threads=3")
    assert name() != name("training.beta=0.2")
    assert name() != name("training.seed=1")


def test_an_output_that_holds_something_else_is_refused(tmp_path):
    check_output(Storage(str(tmp_path / "absent")))
    (tmp_path / "checkpoint").mkdir()
    check_output(Storage(str(tmp_path)))
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"holds 'thesis\.tex', which is not of a training run"):
        check_output(Storage(str(tmp_path)))
