"""A training run under faults: its figures must be those of a run that nothing happened to."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import conftest
from tests.faults.job import Job, command_line, descendants
from tests.faults.places import BucketPlace, DiskPlace
from tests.faults.trial import Trial

TOLERANCE = 1e-6
DOCUMENTS = 24
NUM_STATES = 5
"""Of 660 steps, 11 in each epoch: slow enough to be struck in between on a fast machine."""

LOOK_EVERY_S = 0.3
RECIPE = (
    "training.base_name=tiny",
    "training.labels_note=a rule",
    "training.learning_rate=1e-3",
    "training.epochs=60",
    "training.validate_every=132",
    "training.batch_size=4",
    "training.micro_batch_size=2",
    "training.max_length=24",
    "training.threads=1",
    "workers.cpus_per_worker=0.5",
)


class TrainingTrial(Trial):
    """A training run under way; what is done of it are the states that Ray Train noted."""

    hint = "run the same command again to go on"

    def start(self) -> Job:
        """Start the job."""
        return self.start_command(self._arguments(self.place))

    def _arguments(self, place: DiskPlace | BucketPlace) -> list[str]:
        files = self._files
        return [
            "jobs.train",
            f"data.path={files / 'labels.jsonl'}",
            f"training.base={files / 'base'}",
            f"workers.num_workers={self.injection.replicas}",
            f"output.path={place.output}",
            *RECIPE,
            *(option for option in place.options if option.startswith("output.")),
        ]

    @property
    def _files(self) -> Path:
        """A base and labels, written once."""
        files = self.workplace.directory / "training"
        if not files.exists():
            (files / "base").mkdir(parents=True)
            conftest.write_training_base(files / "base")
            conftest.write_labels(files / "labels.jsonl", DOCUMENTS)
        return files

    def _prepare(self) -> None:
        self._looked, self._found = -LOOK_EVERY_S, 0
        self.num_steps = NUM_STATES
        self.expected = self.workplace.run_once(
            f"train-{self.injection.replicas}", self._arguments, forked=False
        )

    def count_done(self) -> int:
        """States that Ray Train has noted."""
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self._looked = time.monotonic()
            self._found = len(self._snapshot().get("checkpoint_results", ()))
        return self._found

    def _snapshot(self) -> dict[str, Any]:
        names = [n for n in self.place.names() if n.endswith("/checkpoint_manager_snapshot.json")]
        try:
            return json.loads(self.place.read_one(names[0])) if names else {}
        except (ValueError, OSError):  # it is being written
            return {}

    def newest_state(self) -> str:
        """Directory of the state that Ray Train would go on from, below the output."""
        name = self._snapshot()["latest_checkpoint_result"]["checkpoint_dir_name"]
        (path,) = (n for n in self.place.names() if n.endswith(f"/{name}/state.json"))
        return path.removesuffix("/state.json")

    def workers(self, job: Job) -> list[int]:
        """Ray Train's workers below a job."""
        found = (process.pid for process in descendants(job.process.pid))
        return [pid for pid in found if "RayTrainWorker" in command_line(pid)]

    def is_under_way(self, job: Job) -> bool:
        """True once a state is noted."""
        return self.count_done() > 0

    def verify(self) -> None:
        """Nothing that `moos verify` knows of."""

    def _check_summary(self, job: Job) -> None:
        lines = job.stdout().splitlines()
        if len(lines) != 1 or "auc" not in json.loads(lines[0]):
            self.outcome.broken.append(f"stdout is not one summary line: {lines}")

    def judge(self) -> None:
        """Compare every figure of every validation, and those of the checkpoint."""
        found, expected = (_figures(objects) for objects in (self.place.read(), self.expected))
        wrong = [
            name
            for name in sorted(found.keys() | expected.keys())
            if not _is_close(found.get(name), expected.get(name))
        ]
        if wrong:
            shown = [f"{n}: {found.get(n)} for {expected.get(n)}" for n in wrong[:3]]
            self.outcome.broken.append(f"{len(wrong)} figures differ: {'; '.join(shown)}")


def _figures(objects: Mapping[str, bytes]) -> dict[str, float]:
    """All numbers that a run ended with, by name."""
    rows = [json.loads(line) for line in objects["metrics.jsonl"].splitlines()]
    rows = [row for row in rows if row["kind"] == "validation"]
    flat: dict[str, float] = {}
    _flatten("validations", rows, flat)
    _flatten("checkpoint", json.loads(objects["checkpoint/moos.json"])["metrics"], flat)
    return flat


def _flatten(name: str, value: Any, flat: dict[str, float]) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _flatten(f"{name}.{key}", item, flat)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _flatten(f"{name}[{index}]", item, flat)
    elif isinstance(value, int | float):
        flat[name] = float(value)


def _is_close(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return False
    both_missing = found != found and expected != expected  # two figures that are no number
    return both_missing or abs(found - expected) <= TOLERANCE
