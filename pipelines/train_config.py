"""Settings of the training job. Imports pydantic only: reading a config must load no Ray."""

from typing import Annotated, Literal

from pydantic import Field

from moos.config import ConfigModel
from moos.training_config import TrainingConfig
from pipelines.config import AUTO_STALL_S, RunOutputConfig, StorageConfig


class LabelledDataConfig(StorageConfig):
    """The labelled documents to learn from."""

    path: str | tuple[str, ...]
    """File, directory or glob, or a list of them: labelled `.parquet`, or `.jsonl`, `.jsonl.gz`
    (columns and fields: `moos.labels`), on any fsspec URL."""

    max_records: Annotated[int, Field(ge=2)] | None = None
    """Learn from so many records only, of whole source documents drawn by a hash of their names: to
    try a recipe. null: all."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths as a tuple."""
        return (self.path,) if isinstance(self.path, str) else self.path


class TrainOutputConfig(RunOutputConfig):
    """Where the checkpoint, the states to resume from and the report go."""

    path: str
    """Directory or fsspec URL: `checkpoint/` is what `moos compress` reads. Run again on it to
    resume; a changed config is a new run beside the old one. Every node must reach it."""


class WorkersConfig(ConfigModel):
    """Ray Train workers and what each one gets."""

    num_workers: Annotated[int, Field(ge=1)] = 1
    """Workers, each with a copy of the model. At most `training.batch_size /
    training.micro_batch_size`."""

    use_gpu: bool = False
    """Give each worker a GPU."""

    cpus_per_worker: Annotated[float, Field(gt=0)] = 1
    """CPUs reserved for a worker."""

    strategy: Literal["ddp", "fsdp2"] = "ddp"
    """`fsdp2` shards the model over the workers, for one that does not fit a device."""

    max_failures: Annotated[int, Field(ge=-1)] = 3
    """Times the workers are started again after one was lost; -1: without end."""


class TrainConfig(ConfigModel):
    """A training run."""

    data: LabelledDataConfig
    """Labelled documents."""

    output: TrainOutputConfig
    """What is written, and where."""

    training: TrainingConfig
    """The recipe."""

    workers: WorkersConfig = WorkersConfig()
    """Who does it."""

    stall_timeout_s: Literal["auto"] | Annotated[float, Field(gt=0)] | None = "auto"
    """Seconds without progress (no step, no part of a validation, no state stored, no answer of a
    store) after which the run says on what it waited and ends with exit code 1; the same command
    goes on from the latest state. `auto`: 1800; null: never, it only warns."""

    @property
    def stall_limit_s(self) -> float | None:
        """Seconds without progress after which the run gives up; None is never."""
        return AUTO_STALL_S if self.stall_timeout_s == "auto" else self.stall_timeout_s
