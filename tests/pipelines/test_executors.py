"""Where work runs: Ray and one process give the same bytes, by whatever graph."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from moos.errors import ConfigError, MoosError
from moos.splits import InputSplit
from pipelines import compress as compress_module
from pipelines.compress import prepare_compress, run_compress
from pipelines.executors import _root_message
from pipelines.ray_graph import FEED_SPLITS, build_graph, plan_rows
from pipelines.resources import Resources
from pipelines.verify import verify_output
from pipelines.work_spec import WorkSpec


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


def splits_of(name, count, compression=None):
    return [
        InputSplit(f"{name}-{i}", f"/{name}", name, "jsonl", compression, i, i + 1, 1, 9, "e")
        for i in range(count)
    ]


def test_only_a_large_compressed_file_is_read_by_one_task_for_all_its_splits():
    plain = splits_of("a.jsonl", FEED_SPLITS + 3)
    small = splits_of("b.jsonl.gz", FEED_SPLITS, "gz")
    large = splits_of("c.jsonl.gz", FEED_SPLITS + 1, "gz")
    other = splits_of("d.jsonl.zst", FEED_SPLITS + 2, "zst")
    rows = plan_rows([*plain, *small, *large, *other])
    assert rows == [*([split] for split in [*plain, *small]), large, other]
    assert plan_rows([]) == []


@pytest.fixture
def on_ray(config):
    def make(source, output, *overrides):
        ray_pool = ("executor=ray", "pool.gpus_per_replica=0", "pool.replicas=2")
        return config(source, output, *ray_pool, *overrides)

    return make


@pytest.fixture
def spec_of():
    """`spec_of(run, config)`: what a prepared run would give its replicas, for another config."""

    def make(run, config):
        return WorkSpec(
            config=config,
            signature=run.state.signature,
            input_schema=run.plan.input_schema.serialize().to_pybytes(),
            task="compress",
            role="all",
            driver="d",
            device="cpu",
            threads=1,
        )

    return make


@pytest.mark.ray
@pytest.mark.parametrize("stages", ["fused", "split"])
def test_building_the_graph_runs_nothing(
    ray_cluster, config, write_jsonl, documents, tmp_path, spec_of, stages
):
    source = write_jsonl("docs.jsonl", documents(5))
    run = prepare_compress(config(source, tmp_path / "out"))
    update = {"checkpoint": str(tmp_path / "no-checkpoint"), "stages": stages}
    spec = spec_of(run, run.config.model_copy(update=update))
    for resources in (Resources(1, 1, 1.0, 0.0, "cpu"), Resources(2, 4, 1.0, 0.5, "cuda")):
        for task in ("compress", "score", "select"):
            build_graph(run.plan.splits, replace(spec, task=task), resources, print)
    assert not (tmp_path / "out").exists()
    dataset = build_graph(run.plan.splits, spec, Resources(1, 1, 1.0, 0.0, "cpu"), print)
    with pytest.raises(Exception, match="no-checkpoint"):
        dataset.take_all()


@pytest.mark.ray
def test_no_split_waits_for_a_replica_while_another_is_free(
    ray_cluster, config, write_jsonl, documents, tmp_path, spec_of
):
    """A pool of one size gives a replica one split at a time; one that grows must see a queue."""
    source = write_jsonl("docs.jsonl", documents(60))
    run = prepare_compress(config(source, tmp_path / "out", "input.split_bytes=2KiB"))
    assert len(run.plan.splits) > 4
    for most, in_flight in ((2, 1), (4, None)):
        resources = Resources(2, most, 1.0, 0.0, "cpu")
        dataset = build_graph(run.plan.splits, spec_of(run, run.config), resources, print)
        compute = dataset._logical_plan.dag.compute
        assert (compute.min_size, compute.max_size) == (2, most)
        assert compute.max_tasks_in_flight_per_actor == in_flight


SPLITS = "input.split_bytes=2KiB"
SPLIT_STAGES = "stages=split"
CORPUS = ("selection.corpus_rate=0.4", "scoring.alpha=1")


@pytest.mark.ray
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("docs.jsonl", [SPLITS]),
        pytest.param("docs.jsonl", [SPLITS, SPLIT_STAGES], marks=pytest.mark.slow),
        pytest.param("docs.jsonl", [SPLITS, *CORPUS], marks=pytest.mark.slow),
        # Enough splits to be fed by one task.
        pytest.param("docs.jsonl.gz", [SPLITS], marks=pytest.mark.slow),
        # One CPU is left for three kinds of task.
        pytest.param(
            "docs.jsonl.zst", [SPLITS, SPLIT_STAGES, "pool.replicas=3"], marks=pytest.mark.slow
        ),
        pytest.param("docs.jsonl.gz", [SPLITS, SPLIT_STAGES, *CORPUS], marks=pytest.mark.slow),
        pytest.param(
            "in/lang=en/docs.jsonl",
            [SPLITS, SPLIT_STAGES, "output.chunks.tokens=16"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_ray_and_one_process_give_the_same_bytes(
    ray_cluster, compress, on_ray, write_jsonl, documents, tmp_path, read_rows, snapshot, name,
    overrides,
):  # fmt: skip
    records = [*documents(60), b"nope", {"text": None}, {"text": ""}]
    write_jsonl(name, records)
    source = tmp_path / Path(name).parts[0]
    overrides = (*overrides, "max_quarantined=1")
    local = [o for o in overrides if o != SPLIT_STAGES and not o.startswith("pool.")]
    alone = compress(source, tmp_path / "local", *local)
    summary = run_compress(on_ray(source, tmp_path / "ray", *overrides))
    assert alone["splits"] > FEED_SPLITS
    assert summary["documents"] == summary["documents_scored"] == 61
    if "lang" in name:
        row = read_rows(tmp_path / "ray")[0]
        assert (row["lang"], len(row["chunks"]) > 0) == ("en", True)
    assert snapshot(tmp_path / "ray") == snapshot(tmp_path / "local")
    assert verify_output(str(tmp_path / "ray")).broken == []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("stages", ["fused", "split"])
def test_parquet_rows_and_a_damaged_file_pass_through_every_stage(
    ray_cluster, compress, on_ray, write_parquet, documents, tmp_path, snapshot, stages
):
    columns = {"id": range(60), "text": [record["text"] for record in documents(60)]}
    columns["id"] = list(columns["id"])
    columns["text"][7] = None
    path = write_parquet("in/a.parquet", columns, row_group_size=40)
    (path.parent / "b.parquet").write_bytes(path.read_bytes()[:-9])
    overrides = ("input.split_bytes=1KiB", "max_quarantined=1")
    compress(path.parent, tmp_path / "local", *overrides)
    config = on_ray(path.parent, tmp_path / "ray", *overrides, f"stages={stages}")
    summary = run_compress(config)
    assert (summary["exit_code"], summary["documents"], summary["damaged_files"]) == (3, 59, 1)
    assert snapshot(tmp_path / "ray") == snapshot(tmp_path / "local")
    assert verify_output(str(tmp_path / "ray")).broken == []


@pytest.mark.ray
@pytest.mark.slow
def test_a_replicas_error_is_told_with_the_splits_reason(
    ray_cluster, on_ray, write_jsonl, documents, tmp_path, monkeypatch
):
    source = write_jsonl("docs.jsonl", documents(20))
    work = compress_module._Work.run

    def change(self, todo):
        os.utime(source, (1, 1))  # between the plan and the work
        return work(self, todo)

    monkeypatch.setattr(compress_module._Work, "run", change)
    with pytest.raises(MoosError, match=r"docs\.jsonl changed while the run was on") as caught:
        run_compress(on_ray(source, tmp_path / "out"))
    assert "\n" not in str(caught.value)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("pool.replicas=99", r"pool\.replicas=99"),
        ("pool.labels={role: nowhere}", r"pool\.labels=\{'role': 'nowhere'\}"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_before_anything_is_written(
    ray_cluster, on_ray, write_jsonl, documents, tmp_path, override, told
):
    source = write_jsonl("docs.jsonl", documents(2))
    with pytest.raises(ConfigError, match=told):
        run_compress(on_ray(source, tmp_path / "out", override))
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
def test_a_task_that_fits_nowhere_is_refused_before_anything_is_written(
    ray_cluster, on_ray, write_jsonl, documents, tmp_path
):
    source = write_jsonl("docs.jsonl", documents(2))
    overrides = (SPLIT_STAGES, "cpu_stages.cpus_per_task=99")
    with pytest.raises(ConfigError, match=r"cpu_stages\.cpus_per_task=99"):
        run_compress(on_ray(source, tmp_path / "out", *overrides))
    assert not (tmp_path / "out").exists()
