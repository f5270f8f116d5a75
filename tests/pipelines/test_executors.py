"""Where work runs: what a replica gets, and that Ray and one process give the same bytes."""

import os

import pytest

from moos.config import load_config
from moos.errors import ConfigError, MoosError
from pipelines import compress as compress_module
from pipelines.compress import prepare_compress, run_compress
from pipelines.config import CompressConfig, PoolConfig
from pipelines.executors import (
    Resources,
    _root_message,
    build_compress,
    local_resources,
    resolve_resources,
)
from pipelines.verify import verify_output
from pipelines.work import WorkSpec

LAPTOP = [{"CPU": 8.0, "memory": 1e9}]
GPU_BOX = [{"CPU": 16.0, "GPU": 4.0}]
CLUSTER = [{"CPU": 4.0}, {"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 2.0}]


@pytest.mark.parametrize(
    ("pool", "nodes", "expected"),
    [
        ({}, LAPTOP, Resources(2, 2, 4.0, 0.0)),
        ({}, [{"CPU": 2.0}], Resources(1, 1, 2.0, 0.0)),
        ({}, [{"CPU": 1.0}], Resources(1, 1, 1.0, 0.0)),
        ({}, GPU_BOX, Resources(4, 4, 1.0, 1.0)),
        ({}, CLUSTER, Resources(4, 4, 1.0, 1.0)),
        ({"gpus_per_replica": 0}, GPU_BOX, Resources(4, 4, 4.0, 0.0)),
        ({"gpus_per_replica": 0.25}, GPU_BOX, Resources(16, 16, 1.0, 0.25)),
        ({"gpus_per_replica": 0.3}, GPU_BOX, Resources(12, 12, 1.0, 0.3)),  # 3 to a GPU
        ({"gpus_per_replica": 0.5, "cpus_per_replica": 3}, GPU_BOX, Resources(5, 5, 3.0, 0.5)),
        ({"gpus_per_replica": 2}, CLUSTER, Resources(2, 2, 1.0, 2.0)),
        ({"gpus_per_replica": 0.6}, [{"CPU": 9, "GPU": 2}], Resources(2, 2, 1.0, 0.6)),
        ({"cpus_per_replica": 0.5}, [{"CPU": 2.0}], Resources(4, 4, 0.5, 0.0)),
        ({"cpus_per_replica": 0.1}, [{"CPU": 1.0}], Resources(10, 10, 0.1, 0.0)),
        ({"cpus_per_replica": 3}, CLUSTER, Resources(4, 4, 3.0, 1.0)),
        ({"replicas": 1}, LAPTOP, Resources(1, 1, 4.0, 0.0)),
        ({"replicas": 3}, CLUSTER, Resources(3, 3, 1.0, 1.0)),
        ({"replicas": {"min": 1, "max": 8}}, LAPTOP, Resources(1, 8, 4.0, 0.0)),  # may autoscale
        ({"replicas": {"min": 2, "max": 2}}, LAPTOP, Resources(2, 2, 4.0, 0.0)),
    ],
)
def test_what_a_replica_gets(pool, nodes, expected):
    assert resolve_resources(PoolConfig.model_validate(pool), nodes) == expected


@pytest.mark.parametrize(
    ("pool", "nodes", "told"),
    [
        ({"replicas": 3}, LAPTOP, "pool.replicas=3 .* cannot be scheduled: 2 fit on 1 node"),
        ({"replicas": 5}, CLUSTER, "pool.replicas=5 .*: 4 fit on 3 node.*16 CPUs and 2 GPUs"),
        ({"cpus_per_replica": 9}, LAPTOP, "cpus_per_replica=9 .* 0 fit on 1 node"),
        ({"gpus_per_replica": 1}, LAPTOP, "gpus_per_replica=1 cannot be scheduled: 0 fit"),
        ({"gpus_per_replica": 4}, CLUSTER, "gpus_per_replica=4 cannot be scheduled: 0 fit"),
        ({"cpus_per_replica": 20}, CLUSTER, "cpus_per_replica=20"),  # enough in sum, on no node
        ({"replicas": {"min": 5, "max": 9}}, GPU_BOX, "pool.replicas.min=5 .* 4 fit"),
        ({"replicas": {"min": 2, "max": 1}}, GPU_BOX, "pool.replicas.max=1 is below .*min=2"),
        ({}, [], "0 fit on 0 node"),
    ],
)
def test_what_can_never_be_scheduled_is_refused_with_the_key_and_the_number(pool, nodes, told):
    with pytest.raises(ConfigError, match=told):
        resolve_resources(PoolConfig.model_validate(pool), nodes)


@pytest.mark.parametrize(
    "override",
    [
        "pool.gpus_per_replica=1.5",
        "pool.cpus_per_replica=0",
        "pool.replicas=0",
        "pool.replicas=many",
        "pool.replicas={min: 1}",
        "pool.gpus_per_replica=-1",
    ],
)
def test_a_pool_that_makes_no_sense_is_refused(override):
    with pytest.raises(ConfigError, match=override.split("=")[0]):
        load_config(CompressConfig, None, ["input.path=a", "output.path=b", override])


def test_torch_threads_of_a_replica_are_its_whole_cpus():
    assert [Resources(1, 1, cpus, 0).threads for cpus in (0.5, 1.0, 2.9, 8.0)] == [1, 1, 2, 8]


def test_one_process_uses_the_cpus_it_may_use():
    found = local_resources(PoolConfig(gpus_per_replica=0))
    assert found == Resources(1, 1, float(len(os.sched_getaffinity(0))), 0.0)
    assert local_resources(PoolConfig(cpus_per_replica=3, gpus_per_replica=0)).threads == 3


def test_the_innermost_cause_is_told_in_one_line():
    traceback = """ray::MapWorker() (pid=1)
  File "work.py", line 1, in work
OSError: [Errno 28] No space left on device

The above exception was the direct cause of the following exception:

ray::MapWorker() (pid=1)
ray.exceptions.UserCodeException: UDF failed to process a data block.
"""
    assert _root_message(RuntimeError(traceback)) == "OSError: [Errno 28] No space left on device"
    assert _root_message(RuntimeError("The actor died.\nIt was killed.")) == "It was killed."
    assert _root_message(KeyError()) == "KeyError"


@pytest.fixture
def on_ray(config):
    def make(source, output, *overrides):
        ray_pool = ("executor=ray", "pool.gpus_per_replica=0", "pool.replicas=2")
        return config(source, output, *ray_pool, *overrides)

    return make


@pytest.mark.ray
def test_building_the_graph_runs_nothing(ray_cluster, config, write_jsonl, documents, tmp_path):
    source = write_jsonl("docs.jsonl", documents(5))
    run = prepare_compress(config(source, tmp_path / "out"))
    gone = run.config.model_copy(update={"checkpoint": str(tmp_path / "no-checkpoint")})
    schema = run.plan.input_schema.serialize().to_pybytes()
    spec = WorkSpec(gone, run.state.signature, schema, "cpu", 1)
    for resources in (Resources(1, 1, 1.0, 0.0), Resources(2, 4, 1.0, 0.5)):
        build_compress(run.plan.splits, spec, resources, print)
    assert not (tmp_path / "out").exists()
    dataset = build_compress(run.plan.splits, spec, Resources(1, 1, 1.0, 0.0), print)
    with pytest.raises(Exception, match="no-checkpoint"):
        dataset.take_all()


@pytest.mark.ray
def test_ray_and_one_process_give_the_same_bytes(
    ray_cluster, compress, on_ray, write_jsonl, documents, tmp_path, snapshot
):
    records = [*documents(60), b"nope", {"text": None}, {"text": ""}]
    source = write_jsonl("docs.jsonl", records)
    overrides = ("input.split_bytes=2KiB", "max_quarantined=1")
    compress(source, tmp_path / "local", *overrides)
    summary = run_compress(on_ray(source, tmp_path / "ray", *overrides))
    assert summary["documents"] == 61
    assert snapshot(tmp_path / "ray") == snapshot(tmp_path / "local")
    assert verify_output(str(tmp_path / "ray")).broken == []


@pytest.mark.ray
def test_a_replicas_error_is_told_with_the_splits_reason(
    ray_cluster, on_ray, write_jsonl, documents, tmp_path, monkeypatch
):
    source = write_jsonl("docs.jsonl", documents(20))
    work = compress_module._work

    def change(run, todo, resources):
        os.utime(source, (1, 1))  # between the plan and the work
        return work(run, todo, resources)

    monkeypatch.setattr(compress_module, "_work", change)
    with pytest.raises(MoosError, match=r"docs\.jsonl changed while the run was on") as caught:
        run_compress(on_ray(source, tmp_path / "out"))
    assert "\n" not in str(caught.value)


@pytest.mark.ray
def test_too_many_replicas_are_refused_before_anything_is_written(
    ray_cluster, on_ray, write_jsonl, documents, tmp_path
):
    source = write_jsonl("docs.jsonl", documents(2))
    with pytest.raises(ConfigError, match=r"pool\.replicas=99"):
        run_compress(on_ray(source, tmp_path / "out", "pool.replicas=99"))
    assert not (tmp_path / "out").exists()
