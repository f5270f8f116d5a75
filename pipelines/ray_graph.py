"""The Ray Data graphs that work splits; building one does nothing.

One row is one block is one call: a split, or the splits of a file that one task must read in turn.

* `stages: fused`:  [feed ->] replica
* `stages: split`:  [feed ->] prepare (tasks) -> replica scores -> commit (tasks)
* a pass that needs no model, such as the second of a corpus rate:  [feed ->] tasks
"""

import json
import pickle
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pyarrow as pa

from moos.pieces import RunReader, pack_pieces, unpack_pieces
from moos.splits import InputSplit, group_by_file
from moos.storage import Storage
from pipelines.compress_worker import CompressWorker
from pipelines.job_spec import JobSpec
from pipelines.notices import Report, Throttle, name_process
from pipelines.resources import Resources
from pipelines.work import SplitWorker
from pipelines.work_spec import WorkSpec

FEED_SPLITS = 4
"""A compressed file of more splits is read once, by a task that feeds the others. Each of fewer
splits reads its way to its range by itself."""

FEEDERS = 4
"""Such tasks at once."""

FEED_MEMORY = 256 << 20
TASK_MEMORY = 512 << 20
"""Logical memory of tasks. It differs, so that Ray does not fuse one stage into the next."""


def plan_rows(splits: Sequence[InputSplit]) -> list[list[InputSplit]]:
    """The splits of each row: one, or those of a large compressed file together."""
    rows: list[list[InputSplit]] = []
    for run in group_by_file(splits):
        if run[0].compression is not None and len(run) > FEED_SPLITS:
            rows.append(run)
        else:
            rows.extend([split] for split in run)
    return rows


def build_graph(
    splits: Sequence[InputSplit], spec: JobSpec, resources: Resources, report: Report
) -> Any:
    """The lazy Ray dataset whose rows are the records of the splits, as JSON in column `record`."""
    import ray.data

    rows = plan_rows(splits) if spec.reads_source else [[split] for split in splits]
    dataset: Any = ray.data.from_items(
        [{"splits": [split.to_json() for split in row]} for row in rows],
        override_num_blocks=len(rows),
    )
    if any(len(row) > 1 for row in rows):
        # It waits for those it feeds: a CPU of its own might be the one that they wait for.
        feed = {**_tasks(spec, FEED_MEMORY, report=report), "num_cpus": 0}
        strategy = ray.data.TaskPoolStrategy(size=min(FEEDERS, len(rows)))
        dataset = dataset.map_batches(feed_splits, compute=strategy, **feed)
    if not spec.needs_model:
        return dataset.map_batches(work_in_task, **_tasks(spec, TASK_MEMORY, report=report))
    replicas = _replicas(len(splits), spec, resources, report)
    if not (isinstance(spec, WorkSpec) and spec.in_stages):
        return dataset.map_batches(SplitReplica, **replicas)
    prepare, commit = replace(spec, role="prepare"), replace(spec, role="commit")
    dataset = dataset.map_batches(prepare_in_task, **_tasks(prepare, TASK_MEMORY, report=report))
    dataset = dataset.map_batches(SplitScorer, **replicas)
    return dataset.map_batches(commit_in_task, **_tasks(commit, TASK_MEMORY, report=report))


def _tasks(spec: JobSpec, memory: int, **arguments: Any) -> dict[str, Any]:
    """The arguments of a stage of tasks."""
    return {
        "batch_size": 1,
        "batch_format": "pyarrow",
        "fn_kwargs": {"spec": pickle.dumps(spec), **arguments},
        "num_cpus": spec.job.cpu_stages.cpus_per_task,
        "label_selector": spec.job.cpu_stages.labels or None,
        "memory": memory,
    }


def _replicas(
    num_splits: int, spec: JobSpec, resources: Resources, report: Report
) -> dict[str, Any]:
    """The arguments of the stage that holds the model."""
    import ray.data

    # More replicas than splits would load the model for nothing.
    least = min(resources.min_replicas, num_splits)
    most = min(resources.max_replicas, num_splits)
    strategy = (
        # Splits go to whichever replica is free next. Ray's own 2 would let one wait behind a long
        # split while another replica is idle; a pool that grows needs them, to see that it should.
        ray.data.ActorPoolStrategy(size=most, max_tasks_in_flight_per_actor=1)
        if least == most
        else ray.data.ActorPoolStrategy(min_size=least, max_size=most)
    )
    return {
        "batch_size": 1,
        "batch_format": "pyarrow",
        "compute": strategy,
        "fn_constructor_args": (spec, report),
        "num_cpus": resources.cpus,
        "num_gpus": resources.gpus or None,
        "label_selector": spec.job.pool.labels or None,
    }


def feed_splits(batch: Any, spec: bytes, report: Report) -> Iterator[Any]:
    """Task: the splits of a row one by one, those of a large compressed file with their pieces."""
    settings = pickle.loads(spec).job.input
    for lines in batch.column("splits").to_pylist():
        splits = [InputSplit.from_json(line) for line in lines]
        source = Storage(settings.paths[0], settings.storage_options, retries=settings.retries)
        alive = Throttle(lambda: report.note("alive"))
        reader = RunReader(source, splits, settings.text_column, alive)
        for split in splits:
            pieces = pack_pieces(list(reader.read(split))) if len(splits) > 1 else None
            yield pa.table(
                {
                    "splits": pa.array([[split.to_json()]]),
                    "pieces": pa.array([pieces], pa.large_binary()),
                }
            )


class SplitReplica:
    """Actor: a loaded worker that takes splits and gives records."""

    def __init__(self, spec: JobSpec, report: Report) -> None:
        """Load the model."""
        self._worker = _load_in_actor(spec, report)
        self._report = report

    def __call__(self, batch: Any) -> Any:
        """Work each split of a batch."""
        return _work_batch(self._worker, batch, self._report)


class SplitScorer:
    """Actor: a loaded model that takes prepared splits and gives scored ones."""

    def __init__(self, spec: WorkSpec, report: Report) -> None:
        """Load the model."""
        worker = _load_in_actor(replace(spec, role="score"), report)
        assert isinstance(worker, CompressWorker), "only compressing is done in three stages"
        self._worker = worker
        self._report = report

    def __call__(self, batch: Any) -> Any:
        """Score each split of a batch."""
        packed = [self._worker.score(p.as_py(), self._report) for p in batch.column("packed")]
        return pa.table({"packed": pa.array(packed, pa.large_binary())})


def _load_in_actor(spec: JobSpec, report: Report) -> SplitWorker:
    """The worker of an actor; the driver hears of it."""
    import ray

    began = time.monotonic()
    worker = spec.load_worker()
    worker.notice = report.note
    with warnings.catch_warnings():
        # Ray asks for the actor's id by a way that it has deprecated itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        restarted = ray.get_runtime_context().was_current_actor_reconstructed
    report.note(
        "replica_started",
        replica=name_process(),
        seconds=round(time.monotonic() - began, 3),
        restarted=restarted,
    )
    return worker


def work_in_task(batch: Any, spec: bytes, report: Report) -> Any:
    """Task: splits whole, where that needs no model."""
    worker = _load(spec)
    worker.notice = report.note
    return _work_batch(worker, batch, report)


def prepare_in_task(batch: Any, spec: bytes, report: Report) -> Any:
    """Task: splits read and tokenised."""
    worker = _load_compressor(spec, report)
    packed = [worker.prepare(split, pieces) for split, pieces in _iterate_splits(batch)]
    return pa.table({"packed": pa.array(packed, pa.large_binary())})


def commit_in_task(batch: Any, spec: bytes, report: Report) -> Any:
    """Task: scored splits selected, written and committed."""
    worker = _load_compressor(spec, report)
    return _to_table([worker.commit(packed.as_py()) for packed in batch.column("packed")])


@lru_cache(maxsize=1)
def _load(spec: bytes) -> SplitWorker:
    """The worker of a task's process, kept for the next task there."""
    settings: JobSpec = pickle.loads(spec)
    return settings.load_worker()


def _load_compressor(spec: bytes, report: Report) -> CompressWorker:
    worker = _load(spec)
    worker.notice = report.note
    assert isinstance(worker, CompressWorker), "only compressing is done in three stages"
    return worker


def _work_batch(worker: SplitWorker, batch: Any, report: Report) -> Any:
    return _to_table(
        [worker.work(split, report, pieces) for split, pieces in _iterate_splits(batch)]
    )


def _iterate_splits(batch: Any) -> Iterator[tuple[InputSplit, Any]]:
    """The splits of a batch, each with its pieces where they were fed."""
    fed = batch.column("pieces") if "pieces" in batch.column_names else None
    for row, (line,) in enumerate(batch.column("splits").to_pylist()):
        packed = None if fed is None else fed[row].as_py()
        yield InputSplit.from_json(line), None if packed is None else unpack_pieces(packed)


def _to_table(records: list[dict[str, Any]]) -> Any:
    return pa.table({"record": pa.array([json.dumps(record) for record in records])})
