"""Where splits are worked: in this process, or on Ray.

Both end in `SplitWorker`; they differ in who calls it.
"""

import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from moos.errors import MoosError
from moos.pieces import RunReader
from moos.splits import InputSplit, group_by_file
from pipelines.job_spec import JobSpec
from pipelines.monitor import PassMonitor
from pipelines.notices import name_process
from pipelines.ray_graph import build_graph
from pipelines.resources import Node, Resources

logger = logging.getLogger(__name__)

WAVE_SPLITS = 2000
"""Splits given to Ray Data at once: its scheduler keeps every pending block in memory."""

_EXCEPTION_LINE = re.compile(r"(?!ray\.)[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b")


def work_locally(
    splits: Sequence[InputSplit], spec: JobSpec, monitor: PassMonitor
) -> Iterator[dict[str, Any]]:
    """Work the splits one after the other in this process; records as they come."""
    began = time.monotonic()
    worker = spec.load_worker(in_driver=True)
    worker.notice = monitor.note
    seconds = round(time.monotonic() - began, 3)
    monitor.note("replica_started", replica=name_process(), seconds=seconds, restarted=False)
    try:
        for run in group_by_file(splits):
            column, beat = spec.job.input.text_column, worker.watchdog.beat
            reader = RunReader(worker.source, run, column, beat)
            for split in run:
                yield worker.work(split, monitor, reader.read(split))
    finally:
        worker.close()


def work_on_ray(
    splits: Sequence[InputSplit], spec: JobSpec, resources: Resources, monitor: PassMonitor
) -> Iterator[dict[str, Any]]:
    """Work the splits on the cluster; records as they come.

    Raises:
        MoosError: A replica's work failed for a reason that trying again would not change.
    """
    import ray
    from ray.exceptions import RayError

    set_data_context()
    # A board that its node takes along begins anew, empty; the replicas' handles stay good.
    board = ray.remote(num_cpus=0, max_restarts=-1)(_ProgressBoard).remote()
    fetch = _fetcher(board, monitor)
    monitor.fetch_with(fetch)
    try:
        for start in range(0, len(splits), WAVE_SPLITS):
            wave = splits[start : start + WAVE_SPLITS]
            dataset = build_graph(wave, spec, resources, _BoardReport(board))
            for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                for line in batch.column("record").to_pylist():
                    yield json.loads(line)
        fetch()  # what no look at the board has seen yet
    except RayError as error:
        fetch()  # what the replica said of it
        raise MoosError(f"a replica failed: {_root_message(error)}") from error


def set_data_context() -> None:
    """The settings of Ray Data that a run changes, each with its reason."""
    import ray.data

    context = ray.data.DataContext.get_current()
    # Ray counts blocks; moos shows documents and tokens itself.
    context.enable_progress_bars = False
    # A split of a large compressed file may rightly take hours; the guard sees no difference.
    context.execution_no_progress_timeout_s = -1
    # One row is one block: what a task yields is handed on at once.
    context.target_max_block_size = 1
    # One replica that dies while it loads must not fail the job.
    context.max_consecutive_actor_init_deaths = 3
    logging.getLogger("ray.data").setLevel(_ray_level())


def connect_ray() -> list[Node]:
    """Join the cluster that Ray finds, or start Ray on this machine; the live nodes."""
    import ray

    if not ray.is_initialized():
        _paint_for_terminals_only()
        on_sigterm = signal.getsignal(signal.SIGTERM)
        ray.init(log_to_driver=True, logging_level=_ray_level(), include_dashboard=False)
        # Ray puts its own handler there, which leaves without a word about resuming.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)
    nodes = ray.nodes()  # type: ignore[no-untyped-call]  # not annotated in Ray
    return [
        Node(
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
            node.get("Labels") or {},
        )
        for node in nodes
        if node["Alive"]
    ]


def _ray_level() -> int:
    """What Ray may say of itself: all where moos tells details, errors alone where it is quiet.

    Some of its warnings come with every run, such as that moos shows progress in Ray's stead.
    """
    if logger.isEnabledFor(logging.DEBUG):
        return logging.INFO
    return logging.WARNING if logger.isEnabledFor(logging.INFO) else logging.ERROR


def _paint_for_terminals_only() -> None:
    """Ray colours the lines of its processes, in files too, unless it is told not to."""
    if not sys.stderr.isatty() or os.environ.get("NO_COLOR"):
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")


def describe_cluster(resources: Resources, num_loaded: int) -> list[str]:
    """What the cluster has, beside what the pool wants, in lines for people.

    Args:
        resources: What each replica gets.
        num_loaded: Replicas that have loaded so far, those that ended since among them.
    """
    missing = max(0, resources.min_replicas - num_loaded)
    wants = f"each takes {resources.cpus:g} CPUs and {resources.gpus:g} GPUs"
    lines = [f"{missing} of {resources.min_replicas} replicas to start; {wants}"] if missing else []
    return [*lines, describe_free()]


def describe_free() -> str:
    """What the cluster has free now, for people."""
    import ray

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    has = ", ".join(
        f"{free.get(name, 0.0):g} of {total.get(name, 0.0):g} {name}s free"
        for name in ("CPU", "GPU")
    )
    return f"the cluster: {has}"


class _ProgressBoard:
    """An actor that holds the latest counts of each split in work, and notices in their order."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}
        self._notices: list[dict[str, Any]] = []

    def update(self, split_id: str, counts: dict[str, int]) -> None:
        self._counts[split_id] = counts

    def note(self, notice: dict[str, Any]) -> None:
        self._notices.append(notice)

    def take(self) -> tuple[dict[str, dict[str, int]], list[dict[str, Any]]]:
        taken = self._counts, self._notices
        self._counts, self._notices = {}, []
        return taken


@dataclass(frozen=True, slots=True)
class _BoardReport:
    """A `Report` that a replica can carry: it tells the board and does not wait."""

    board: Any

    def __call__(self, split_id: str, counts: dict[str, int]) -> None:
        self.board.update.remote(split_id, counts)

    def note(self, kind: str, **details: Any) -> None:
        self.board.note.remote({"kind": kind, **details})


def _fetcher(board: Any, monitor: PassMonitor) -> Callable[[], None]:
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    def fetch() -> None:
        try:
            latest, notices = ray.get(board.take.remote(), timeout=5)
        except (RayError, GetTimeoutError):
            return  # Only what is shown is behind; the work does not depend on it.
        for split_id, counts in latest.items():
            monitor(split_id, counts)
        for notice in notices:
            monitor.note(**notice)

    return fetch


def _root_message(error: BaseException) -> str:
    """The innermost cause in one line: Ray wraps errors in tracebacks of several processes.

    A traceback begins with the innermost cause, and an exception's own line is not indented.
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if _EXCEPTION_LINE.match(line)]
    found = (causes or lines[-1:] or [type(error).__name__])[0]
    return found.removeprefix("moos.errors.MoosError: ")
