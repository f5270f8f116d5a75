"""What a process needs to label splits: settings that travel, and the teacher they load."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from moos.alignment import PairBounds
from moos.errors import DataError
from moos.label_config import LocalTeacherConfig
from moos.labelling import (
    Labeller,
    LocalLabeller,
    Report,
    TeacherInput,
    WordLabels,
    load_labeller,
)
from moos.storage import Storage
from pipelines.job_spec import JobSpec
from pipelines.label_config import LabelConfig

if TYPE_CHECKING:
    from pipelines.label_worker import LabelWorker

LabelTask = Literal["label", "filter", "retry"]
"""What is made of a split: labelled rows; such rows of an earlier pass, filtered; or labelled rows
of what was quarantined, among the rows that are there."""

HARMLESS = TeacherInput("A harmless text of five words.", "harmless text of five words.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSpec(JobSpec):
    """What a process needs to label splits; plain settings, loaded where the work is done.

    Attributes:
        config: The run's config.
        task: What is made of a split.
        bounds: What the filters come to; None before the corpus has told.
    """

    config: LabelConfig
    task: LabelTask
    bounds: PairBounds | None

    @property
    def job(self) -> LabelConfig:
        """The run's config."""
        return self.config

    @property
    def pass_name(self) -> str:
        """What is made of a split, for the names of attempts."""
        return self.task

    @property
    def is_final(self) -> bool:
        """The pass leaves done records; otherwise labelled rows for a later pass."""
        return self.bounds is not None

    @property
    def needs_model(self) -> bool:
        """Splits are worked by replicas that hold a teacher; otherwise by tasks."""
        return self.task != "filter"

    @property
    def reads_source(self) -> bool:
        """Splits are read from the input; otherwise from what an earlier pass left."""
        return self.task != "filter"

    def load_stages(self, on_progress: Callable[[], None]) -> tuple["LabelStages", dict[str, Any]]:
        """The teacher as a stage, and what its labels depend on besides the plan."""
        if self.task == "filter":
            return LabelStages(None), {}
        output = Storage(
            self.config.output.path,
            self.config.output.storage_options,
            retries=self.config.output.retries,
        )
        teacher = self.config.teacher
        if isinstance(teacher, LocalTeacherConfig):
            import torch

            torch.set_num_threads(self.threads)
        labeller = load_labeller(teacher, output, self.device, on_progress)
        return LabelStages(labeller), _describe_numerics(labeller, self)

    def load_worker(self, *, in_driver: bool = False) -> "LabelWorker":
        """A worker with all that the pass needs."""
        from pipelines.label_worker import LabelWorker  # it imports this module

        return LabelWorker.load(self, in_driver=in_driver)


@dataclass(slots=True)
class LabelStages:
    """What is done to documents in this process; what a document can make fail is here.

    Attributes:
        labeller: The teacher; None in a process that only filters.
        num_scored: Documents given to the teacher so far.
        report: Told how far the teacher is with what it was given last.
    """

    labeller: Labeller | None
    num_scored: int = 0
    report: Report | None = None

    def label(self, inputs: Sequence[TeacherInput]) -> list[WordLabels | DataError]:
        """Label documents."""
        assert self.labeller is not None, "a task that labels has a teacher"
        self.num_scored += len(inputs)
        return self.labeller.label(inputs, self.report)

    def probe(self) -> None:
        """Label a harmless text; raises where that fails."""
        if self.labeller is not None:
            self.labeller.label([HARMLESS])


def _describe_numerics(labeller: Labeller, spec: LabelSpec) -> dict[str, Any]:
    """Everything besides the plan that the labels may depend on."""
    numerics = {"pyarrow": pa.__version__}
    if not isinstance(labeller, LocalLabeller):
        return numerics
    import torch
    import transformers

    if spec.device.startswith("cuda"):
        hardware = torch.cuda.get_device_name(spec.device)
    else:
        hardware = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        **numerics,
        "device": spec.device.split(":")[0],
        "dtype": labeller.dtype,
        "hardware": hardware,
        "threads": str(spec.threads),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
