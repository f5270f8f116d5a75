"""`moos compress` as a contestant: a corpus written as JSONL, a run on Ray or in one process."""

import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from moos.benchmark.contestants import StageTimes, Turn
from moos.benchmark.memory import TreePeak, peak_memory
from moos.benchmark.processes import tree_cpu
from moos.config_errors import describe_errors
from moos.errors import ConfigError, MoosError
from pipelines.bench_stages import timed_replicas, timed_worker
from pipelines.config import CompressConfig

SPLITS_PER_REPLICA = 4
SPLIT_BYTES = (1 << 18, 8 << 20)
"""Least and most of a split; the most is the job's default."""

CORES_PER_REPLICA = 4
"""What the job gives a replica, where there are so many."""

WATCH_EVERY_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """The compress job.

    Attributes:
        executor: Where splits are worked.
        checkpoint: As the job takes it.
        engine: As the job takes it; `auto` leaves it out.
        device: `cpu` or `cuda`.
        threads: Cores of the whole job.
        rate: Share of tokens to keep.
    """

    executor: Literal["ray", "local"]
    checkpoint: str
    engine: str
    device: str
    threads: int
    rate: float

    def load(self) -> "JobContestant":
        """Nothing is loaded before the run: loading is part of a job, and told apart."""
        return JobContestant(self)


class JobContestant:
    """A job and its corpus on disk."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        # Goes when the process ends.
        self._directory = tempfile.TemporaryDirectory(prefix="moos-bench-")
        self._input = Path(self._directory.name, "corpus.jsonl")
        self._output = Path(self._directory.name, "out")
        self._ray_peak = 0

    def prepare(self, texts: Sequence[str]) -> dict[str, Any]:
        """Write the corpus as JSONL."""
        lines = (
            json.dumps({"id": str(index), "text": text}, ensure_ascii=False) + "\n"
            for index, text in enumerate(texts)
        )
        with self._input.open("w", encoding="utf-8") as file:
            file.writelines(lines)
        return {"split_bytes": self._split_bytes(), "input_bytes": self._input.stat().st_size}

    def run(self) -> Turn:
        """Run the job once, on an output of its own."""
        turn, _ = self._run()
        return turn

    def _run(self) -> tuple[Turn, dict[int, float]]:
        """Run the job; also the CPU seconds of each process from its first split on."""
        from pipelines.compress import run_compress

        shutil.rmtree(self._output, ignore_errors=True)
        config = self._config()
        began = time.perf_counter()
        with self._ray_up() as is_up:
            starts = {"ray": time.perf_counter() - began} if is_up else {}
            run_began = time.perf_counter()
            with _FirstSplit(self._output) as first:
                summary = run_compress(config)
            took = time.perf_counter() - run_began
            cpu_s = {
                process: seconds - first.cpu_s.get(process, 0.0)
                for process, seconds in tree_cpu(os.getpid()).items()
            }
        starts["replica"] = first.begun - run_began
        if summary["exit_code"] == 1:
            raise MoosError(f"the run ended incomplete: {summary}")
        turn = Turn(
            seconds=took - starts["replica"],
            tokens=summary["encoder_tokens"],
            kept_tokens=summary["kept_tokens"],
            failed_documents=summary["quarantined"],
            starts=starts,
            bytes_written=_sum_sizes(self._output),
            data_bytes=_sum_sizes(self._output / "data"),
        )
        return turn, cpu_s

    def time_stages(self) -> StageTimes | None:
        """The stages of the job's workers, in this process or in replicas."""
        timed = timed_worker if self._spec.executor == "local" else timed_replicas
        with timed(self._output.parent) as workers:
            turn, cpu_s = self._run()
        return workers.describe(turn.seconds, cpu_s)

    def peak_memory(self) -> int:
        """Most bytes held; on Ray by all its processes together."""
        return self._ray_peak or peak_memory()

    def _config(self) -> CompressConfig:
        spec = self._spec
        # A measurement on CPUs stays there whatever else the machine has.
        pool: dict[str, Any] = {"device": spec.device}
        pool["gpus_per_replica"] = "auto" if spec.device == "cuda" else 0
        if spec.executor == "local":
            pool["cpus_per_replica"] = spec.threads
        settings: dict[str, Any] = {
            "input": {"path": str(self._input), "split_bytes": self._split_bytes()},
            "output": {"path": str(self._output)},
            "checkpoint": spec.checkpoint,
            "executor": spec.executor,
            "selection": {"rate": spec.rate},
            "pool": pool,
        }
        if spec.engine != "auto":
            settings["engine"] = spec.engine
        try:
            return CompressConfig.model_validate(settings)
        except ValidationError as error:
            message = describe_errors(error, CompressConfig)
            raise ConfigError(f"the job cannot do that:\n{message}") from error

    def _split_bytes(self) -> int:
        """Small enough for every replica to have several splits, as in a corpus of real size."""
        replicas = max(1, self._spec.threads // CORES_PER_REPLICA)
        least, most = SPLIT_BYTES
        size = self._input.stat().st_size // (SPLITS_PER_REPLICA * replicas)
        return min(max(size, least), most)

    @contextmanager
    def _ray_up(self) -> Iterator[bool]:
        """Ray for the time of one run, if the job needs it: idle, it would take others' time."""
        if self._spec.executor == "local":
            yield False
            return
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        # Its own, also where a cluster runs on this machine.
        ray.init(
            address="local",
            num_cpus=self._spec.threads,
            num_gpus=None if self._spec.device == "cuda" else 0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
        try:
            with TreePeak() as tree:
                yield True
            self._ray_peak = max(self._ray_peak, tree.peak)
        finally:
            ray.shutdown()


def _sum_sizes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


class _FirstSplit:
    """Watches an output for its first attempt record, which a replica writes once it is loaded.

    The record is gone when the run is, so that it has to be seen meanwhile.

    Attributes:
        cpu_s: CPU seconds of this process and all below it by then.
    """

    def __init__(self, output: Path) -> None:
        self._attempts = output / "_run" / "attempts"
        self.cpu_s: dict[int, float] = {}
        self._seen: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="moos-first-split", daemon=True)

    @property
    def begun(self) -> float:
        """When that was, by `time.perf_counter`.

        Raises:
            MoosError: It was not seen.
        """
        if self._seen is None:
            raise MoosError("no split of the run was seen to begin, so its start is not known")
        return self._seen

    def _watch(self) -> None:
        while self._seen is None and not self._stop.wait(WATCH_EVERY_S):
            if next(self._attempts.rglob("*.json"), None) is not None:
                self._seen = time.perf_counter()
                self.cpu_s = tree_cpu(os.getpid())

    def __enter__(self) -> "_FirstSplit":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
