"""What a process needs to work splits of some job: settings that travel, loaded where work is done.

Executors, graphs and child processes know a job by this alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.config import JobConfig

if TYPE_CHECKING:
    from pipelines.work import SplitWorker


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec(ABC):
    """Plain settings of one pass of a job.

    Attributes:
        signature: The run's signature.
        input_schema: The input's columns, serialised.
        driver: Id of the run that gives out the work.
        device: Device of the model.
        threads: CPU threads of the model.
    """

    signature: dict[str, Any]
    input_schema: bytes
    driver: str
    device: str
    threads: int

    @property
    @abstractmethod
    def job(self) -> JobConfig:
        """The run's config."""

    @property
    @abstractmethod
    def pass_name(self) -> str:
        """What is made of a split, for the names of attempts."""

    @property
    @abstractmethod
    def is_final(self) -> bool:
        """The pass leaves done records; otherwise what a later pass begins with."""

    @property
    @abstractmethod
    def needs_model(self) -> bool:
        """Splits are worked by replicas that hold a model; otherwise by tasks."""

    @property
    def reads_source(self) -> bool:
        """Splits are read from the input; otherwise from what an earlier pass left."""
        return True

    @abstractmethod
    def load_stages(self, on_progress: Callable[[], None]) -> tuple[Any, dict[str, Any]]:
        """The stages, and what their results depend on besides the plan.

        Args:
            on_progress: To be called as work goes on.

        Raises:
            ModelError: The model cannot be loaded.
            MoosError: It is not the one the run was planned with.
        """

    @abstractmethod
    def load_worker(self, *, in_driver: bool = False) -> "SplitWorker":
        """A worker with all that the pass needs.

        Args:
            in_driver: This process is the driver's own.

        Raises:
            ModelError: The model cannot be loaded.
            MoosError: It is not the one the run was planned with.
        """
