"""Where splits are worked: in this process, or by a pool of replicas on Ray.

Both call `SplitWorker.work`; they differ in who calls it.
"""

import json
import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from moos.errors import ConfigError, MoosError
from moos.splits import InputSplit
from pipelines.config import PoolConfig, ReplicaRange
from pipelines.progress import ProgressReport
from pipelines.work import ProgressCallback, SplitWorker, WorkSpec

logger = logging.getLogger(__name__)

WAVE_SPLITS = 2000
"""Splits given to Ray Data at once: its scheduler keeps every pending block in memory."""

AUTO_CPUS = 4
"""Most CPUs that `auto` gives a replica: beyond it a small model gains little per core."""


_EXCEPTION_LINE = re.compile(r"(?!ray\.)[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b")


@dataclass(frozen=True, slots=True)
class Resources:
    """What a replica gets, and how many replicas there are."""

    min_replicas: int
    max_replicas: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Torch threads of a replica: its whole CPUs."""
        return max(1, int(self.cpus))


def resolve_resources(pool: PoolConfig, nodes: Sequence[dict[str, float]]) -> Resources:
    """Fill in `auto` from the nodes at hand, and refuse what they cannot hold.

    Ray would wait without a word for resources that never come, so this check says which number
    to change.

    Args:
        pool: The pool as configured.
        nodes: Resources of each live node, with keys such as `CPU` and `GPU`.

    Raises:
        ConfigError: A replica fits no node, or fewer replicas fit than must.
    """
    cpus_by_node = [node.get("CPU", 0.0) for node in nodes]
    gpus_by_node = [node.get("GPU", 0.0) for node in nodes]
    gpus = pool.gpus_per_replica
    if gpus == "auto":
        gpus = 1.0 if sum(gpus_by_node) >= 1 else 0.0
    cpus = pool.cpus_per_replica
    if cpus == "auto":
        cpus = 1.0 if gpus else float(max(1, min(AUTO_CPUS, int(max(cpus_by_node, default=1)))))
    room = sum(
        _fits(node_cpus, node_gpus, cpus, gpus)
        for node_cpus, node_gpus in zip(cpus_by_node, gpus_by_node, strict=True)
    )
    wanted = pool.replicas
    least = 1 if wanted == "auto" else wanted.min if isinstance(wanted, ReplicaRange) else wanted
    if room < least:
        key = "pool.replicas.min" if isinstance(wanted, ReplicaRange) else "pool.replicas"
        shown = ", ".join(
            f"{c:g} CPUs and {g:g} GPUs" for c, g in zip(cpus_by_node, gpus_by_node, strict=True)
        )
        raise ConfigError(
            f"{key}={least} with cpus_per_replica={cpus:g} and gpus_per_replica={gpus:g} cannot be "
            f"scheduled: {room} fit on {len(nodes)} node(s) with {shown}. Lower {key}, "
            "pool.cpus_per_replica or pool.gpus_per_replica, or add nodes"
        )
    most = room if wanted == "auto" else wanted.max if isinstance(wanted, ReplicaRange) else wanted
    if most < least:
        raise ConfigError(f"pool.replicas.max={most} is below pool.replicas.min={least}")
    return Resources(least if wanted != "auto" else most, most, float(cpus), float(gpus))


def _fits(node_cpus: float, node_gpus: float, cpus: float, gpus: float) -> int:
    by_cpu = int(node_cpus / cpus + 1e-9)
    if gpus == 0:
        return by_cpu
    if gpus < 1:
        return min(by_cpu, int(node_gpus) * int(1 / gpus + 1e-9))
    return min(by_cpu, int(node_gpus / gpus + 1e-9))


def local_resources(pool: PoolConfig) -> Resources:
    """One replica in this process with its CPUs, on CUDA where there is one."""
    import torch

    gpus = pool.gpus_per_replica
    if gpus == "auto":
        gpus = 1.0 if torch.cuda.is_available() else 0.0
    cpus = pool.cpus_per_replica
    if cpus == "auto":
        cpus = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    return Resources(1, 1, float(cpus), float(gpus))


def work_locally(
    splits: Sequence[InputSplit], spec: WorkSpec, progress: ProgressReport
) -> Iterator[dict[str, Any]]:
    """Work the splits one after the other in this process; done records as they come."""
    worker = SplitWorker.load(spec)
    for split in splits:
        yield worker.work(split, progress.update)


class SplitCompressor:
    """The Ray actor: a loaded worker that takes splits and gives done records, as JSON."""

    def __init__(self, spec: WorkSpec, report: ProgressCallback) -> None:
        """Load the compressor."""
        self._worker = SplitWorker.load(spec)
        self._report = report

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Work each split of a batch."""
        splits = [InputSplit.from_json(str(line)) for line in batch["split"]]
        return {"done": [json.dumps(self._worker.work(s, self._report)) for s in splits]}


def build_compress(
    splits: Sequence[InputSplit], spec: WorkSpec, resources: Resources, report: ProgressCallback
) -> Any:
    """The lazy Ray dataset that works the splits: one row, one block and one call per split."""
    import ray.data

    items = [{"split": split.to_json()} for split in splits]
    # More replicas than splits would load the model for nothing.
    least = min(resources.min_replicas, len(items))
    most = min(resources.max_replicas, len(items))
    strategy = (
        ray.data.ActorPoolStrategy(size=most)
        if least == most
        else ray.data.ActorPoolStrategy(min_size=least, max_size=most)
    )
    return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        SplitCompressor,
        batch_size=1,
        compute=strategy,
        fn_constructor_args=(spec, report),
        num_cpus=resources.cpus,
        num_gpus=resources.gpus or None,
    )


def work_on_ray(
    splits: Sequence[InputSplit], spec: WorkSpec, resources: Resources, progress: ProgressReport
) -> Iterator[dict[str, Any]]:
    """Work the splits on a pool of replicas; done records as they come.

    Raises:
        MoosError: A replica's work failed for a reason that trying again would not change.
    """
    import ray
    from ray.exceptions import RayError

    set_data_context()
    board = ray.remote(num_cpus=0)(_ProgressBoard).remote()
    progress.poll_with(_poller(board, progress))
    try:
        for start in range(0, len(splits), WAVE_SPLITS):
            wave = splits[start : start + WAVE_SPLITS]
            dataset = build_compress(wave, spec, resources, _BoardReport(board))
            for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                for line in batch.column("done").to_pylist():
                    yield json.loads(line)
    except RayError as error:
        raise MoosError(f"a replica failed: {_root_message(error)}") from error


def set_data_context() -> None:
    """The settings of Ray Data that a run changes, each with its reason."""
    import ray.data

    context = ray.data.DataContext.get_current()
    # Ray counts blocks; moos shows documents and tokens itself.
    context.enable_progress_bars = False
    # A split of a large compressed file may rightly take hours; the guard sees no difference.
    context.execution_no_progress_timeout_s = -1
    # One replica that dies while it loads must not fail the job.
    context.max_consecutive_actor_init_deaths = 3
    logging.getLogger("ray.data").setLevel(logging.WARNING)


def connect_ray() -> list[dict[str, float]]:
    """Join the cluster that Ray finds, or start Ray on this machine; resources of each node."""
    import ray

    if not ray.is_initialized():
        on_sigterm = signal.getsignal(signal.SIGTERM)
        ray.init(log_to_driver=True, logging_level=logging.WARNING, include_dashboard=False)
        # Ray puts its own handler there, which leaves without a word about resuming.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)
    nodes = ray.nodes()  # type: ignore[no-untyped-call]  # not annotated in Ray
    return [node["Resources"] for node in nodes if node["Alive"]]


class _ProgressBoard:
    """An actor that holds the latest counts of each split in work."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}

    def update(self, split_id: str, counts: dict[str, int]) -> None:
        self._counts[split_id] = counts

    def take(self) -> dict[str, dict[str, int]]:
        taken, self._counts = self._counts, {}
        return taken


@dataclass(frozen=True, slots=True)
class _BoardReport:
    """A progress callback that a replica can carry: it tells the board and does not wait."""

    board: Any

    def __call__(self, split_id: str, counts: dict[str, int]) -> None:
        self.board.update.remote(split_id, counts)


def _poller(board: Any, progress: ProgressReport) -> Callable[[], None]:
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    def poll() -> None:
        try:
            latest = ray.get(board.take.remote(), timeout=5)
        except (RayError, GetTimeoutError):
            return  # Only the display is behind; the work does not depend on it.
        for split_id, counts in latest.items():
            progress.update(split_id, counts)

    return poll


def _root_message(error: BaseException) -> str:
    """The innermost cause in one line: Ray wraps errors in tracebacks of several processes.

    A traceback begins with the innermost cause, and an exception's own line is not indented.
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if _EXCEPTION_LINE.match(line)]
    found = (causes or lines[-1:] or [type(error).__name__])[0]
    return found.removeprefix("moos.errors.MoosError: ")
