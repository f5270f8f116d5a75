"""Where a job's time goes: the stages of its worker, in this process or in replicas on Ray.

A replica cannot be reached from outside. It is replaced by one that times itself, and leaves what
it measured in a file.
"""

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moos.benchmark.contestants import StageTimes
from moos.benchmark.stage_clock import LIBRARY_STAGES, Place, StageClock
from pipelines import ray_graph
from pipelines.job_spec import JobSpec
from pipelines.notices import Report
from pipelines.work import SplitWorker

SPLIT = "begin and leave a split"
"""The stage that a worker's whole call for a split is: its own time is what no other stage took."""

JOB_STAGES: tuple[Place, ...] = (
    *LIBRARY_STAGES,
    ("moos.pieces", "RunReader.read", "read"),
    ("moos.record_parser", "RecordParser.parse", "parse"),
    ("pipelines.stages", "compress_scored", "render"),
    ("pipelines.sinks", "RowSink.add", "write"),
    ("pipelines.sinks", "RowSink.commit", "commit"),
    ("pipelines.run_state", "RunState.write_done", "commit"),
    ("pipelines.work", "prefetch", "wait for a group ahead"),
    ("pipelines.work", "SplitWorker._work_here", "wait for a group behind"),
    ("pipelines.work", "SplitWorker.work", SPLIT),
)


@dataclass(frozen=True, slots=True)
class WorkerTimes:
    """What one worker measured.

    Attributes:
        process: Its process.
        seconds: Of each stage, over all its threads.
        in_turn: Of each stage in the thread that works splits.
        between_s: From its first split to its last one, seconds in which it had none.
        cpu_s: CPU seconds of its process from its first split to its last one.
    """

    process: int
    seconds: dict[str, float]
    in_turn: dict[str, float]
    between_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class TimedWorkers:
    """The workers of a run, once it is over.

    Attributes:
        read: Gives what they measured.
    """

    read: Callable[[], Sequence[WorkerTimes]]

    def describe(self, wall_s: float, cpu_s: Mapping[int, float]) -> StageTimes:
        """The stages of the run.

        Args:
            wall_s: Seconds from the first split's begin to the run's end.
            cpu_s: CPU seconds meanwhile of every process that lived at the end, by its id.
        """
        workers = self.read()
        seconds = _sum_stages(worker.seconds for worker in workers)
        in_turn = _sum_stages(worker.in_turn for worker in workers)
        in_turn["wait for a split"] = sum(worker.between_s for worker in workers)
        in_turn["finish the run"] = wall_s * len(workers) - sum(in_turn.values())
        others = dict(cpu_s)
        for worker in workers:
            others.pop(worker.process, None)
        by_whom = {"workers": sum(worker.cpu_s for worker in workers)}
        driver = others.pop(os.getpid(), None)
        if driver is not None:
            by_whom |= {"driver": driver, "Ray's own": sum(others.values())}
        return StageTimes(wall_s, seconds, in_turn, by_whom)


def _sum_stages(workers: Iterable[Mapping[str, float]]) -> dict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    for stages in workers:
        for stage, seconds in stages.items():
            sums[stage] += seconds
    return dict(sums)


class WorkerClock:
    """Times the stages of this process's worker while it is entered."""

    def __init__(self, on_left: Callable[["WorkerClock"], None] = lambda clock: None) -> None:
        """Not begun.

        Args:
            on_left: Called after each split.
        """
        self._clock = StageClock(JOB_STAGES)
        self._on_left = on_left
        self._began: float | None = None
        self._ended = 0.0
        self._cpu_s = 0.0

    def __enter__(self) -> "WorkerClock":
        self._clock.__enter__()
        self._timed: Any = SplitWorker.work
        clock, timed = self, self._timed

        def work(*args: Any, **kwargs: Any) -> Any:
            if clock._began is None:
                clock._began, clock._cpu_s = time.monotonic(), -time.process_time()
            record = timed(*args, **kwargs)
            clock._ended = time.monotonic()
            clock._on_left(clock)
            return record

        SplitWorker.work = work  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        SplitWorker.work = self._timed  # type: ignore[method-assign]
        self._clock.__exit__(*error)

    def read(self) -> WorkerTimes:
        """What was measured until the last split was left."""
        assert self._began is not None, "a split was worked"
        in_turn = self._clock.seconds_within(SPLIT)
        return WorkerTimes(
            process=os.getpid(),
            seconds=self._clock.seconds,
            in_turn=in_turn,
            between_s=self._ended - self._began - sum(in_turn.values()),
            cpu_s=self._cpu_s + time.process_time(),
        )


@contextmanager
def timed_worker(directory: Path) -> Iterator[TimedWorkers]:
    """Meanwhile, the worker of this process is timed; needs no directory."""
    with WorkerClock() as clock:
        yield TimedWorkers(lambda: [clock.read()])


@contextmanager
def timed_replicas(directory: Path) -> Iterator[TimedWorkers]:
    """Meanwhile, replicas that are started time themselves.

    Args:
        directory: Holds the run's output, and nothing of its kind yet.
    """
    before = ray_graph.SplitReplica
    ray_graph.SplitReplica = TimedReplica  # type: ignore[misc]
    try:
        yield TimedWorkers(
            lambda: [
                WorkerTimes(**json.loads(path.read_text(encoding="utf-8")))
                for path in sorted(directory.glob(_file_name("*")))
            ]
        )
    finally:
        ray_graph.SplitReplica = before  # type: ignore[misc]


def _file_name(process: int | str) -> str:
    return f"replica-{process}.json"


class TimedReplica(ray_graph.SplitReplica):
    """Actor: a replica that times its stages, and writes the figures beside the output."""

    def __init__(self, spec: JobSpec, report: Report) -> None:
        """Load the model."""
        path = Path(spec.job.output.path).parent / _file_name(os.getpid())

        def write(clock: WorkerClock) -> None:
            path.write_text(json.dumps(asdict(clock.read())), encoding="utf-8")

        WorkerClock(write).__enter__()  # until the process ends
        super().__init__(spec, report)
