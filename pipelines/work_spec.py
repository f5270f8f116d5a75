"""What a process needs to compress splits: settings that travel, and the parts they load."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from moos.checkpoint import read_checkpoint, resolve_scoring
from moos.chunks import Chunker
from moos.compressor import Compressor
from moos.corpus import CorpusThreshold
from moos.errors import MoosError
from moos.preparation import TextPreparer
from moos.selector import Selector
from moos.storage import Storage
from moos.tokens import TextTokenizer
from pipelines.config import CompressConfig
from pipelines.job_spec import JobSpec
from pipelines.run_selector import read_tokenizer
from pipelines.run_state import BUDGET_TOKENIZER, TOKENIZER
from pipelines.stages import TextStages

if TYPE_CHECKING:
    from pipelines.compress_worker import CompressWorker

Task = Literal["compress", "score", "select", "retry"]
"""What is made of a split: compressed rows; stored scores; compressed rows from such scores; or
compressed rows of what was quarantined, among the rows that are there."""

Role = Literal["all", "prepare", "score", "commit"]
"""The part of a task that a process does: all of it, or one stage of three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSpec(JobSpec):
    """What a process needs to compress splits; plain settings, loaded where the work is done.

    Attributes:
        config: The run's config.
        task: What is made of a split.
        role: The part of it that this process does.
        corpus: The corpus's threshold, where there is one.
    """

    config: CompressConfig
    task: Task
    role: Role
    corpus: CorpusThreshold | None = None

    @property
    def job(self) -> CompressConfig:
        """The run's config."""
        return self.config

    @property
    def pass_name(self) -> str:
        """What is made of a split, for the names of attempts."""
        return self.task

    @property
    def is_final(self) -> bool:
        """The pass leaves done records; otherwise scores for a later pass."""
        return self.task != "score"

    @property
    def needs_model(self) -> bool:
        """Splits are worked by replicas that hold a model; otherwise by tasks."""
        return self.task != "select"

    @property
    def in_stages(self) -> bool:
        """A split goes from tasks that prepare to replicas that score to tasks that commit."""
        return self.config.stages == "split" and self.task in ("compress", "score")

    def load_stages(self, on_progress: Callable[[], None]) -> tuple[TextStages, dict[str, Any]]:
        """The stages with the parts that the role needs, and the numerics of its model."""
        return load_stages(self, on_progress)

    def load_worker(self, *, in_driver: bool = False) -> "CompressWorker":
        """A worker with all that the pass needs."""
        from pipelines.compress_worker import CompressWorker  # it imports this module

        return CompressWorker.load(self, in_driver=in_driver)


def load_stages(
    spec: WorkSpec, on_progress: Callable[[], None]
) -> tuple[TextStages, dict[str, Any]]:
    """The stages with the parts that the spec's role needs, and the numerics of its model.

    Raises:
        ModelError: The checkpoint cannot be loaded.
        MoosError: It is not the one the run was planned with.
    """
    config = spec.config
    preparer, compressor = None, None
    numerics: dict[str, Any] = {}
    if spec.task != "select" and spec.role in ("all", "score"):
        compressor = Compressor.load(
            config.checkpoint,
            scoring=config.scoring,
            window=config.window,
            engine=config.engine,
            device=spec.device,
            threads=spec.threads,
        )
        compressor.engine.on_progress = on_progress
        preparer = compressor.preparer
        _check_checkpoint(compressor.checkpoint.sha256, spec)
        numerics = describe_numerics(compressor, spec)
    elif spec.task != "select" and spec.role == "prepare":
        found = read_checkpoint(config.checkpoint, config.scoring.preserve_label)
        _check_checkpoint(found.sha256, spec)
        scoring = resolve_scoring(found, config.scoring, config.window)
        preparer = TextPreparer(
            TextTokenizer.from_file(found.tokenizer_path),
            scoring.max_length,
            scoring.context_tokens,
        )
    output = Storage(
        config.output.path, config.output.storage_options, retries=config.output.retries
    )
    reader = reader_tokenizer(config, output)
    selector = Selector(config.selection, reader, corpus=spec.corpus)
    chunker = None
    if config.output.chunks.tokens is not None:
        counter = reader or read_tokenizer(output, TOKENIZER)
        chunker = Chunker(counter, config.output.chunks.tokens, config.output.chunks.overlap)
    return TextStages(selector, preparer, compressor, on_progress, chunker), numerics


def _check_checkpoint(sha256: str, spec: WorkSpec) -> None:
    if sha256 != spec.signature["checkpoint_sha256"]:
        raise MoosError(
            f"checkpoint {spec.config.checkpoint!r} on this node is not the one the run was "
            "planned with; give all nodes the same files"
        )


def reader_tokenizer(config: CompressConfig, output: Storage) -> TextTokenizer | None:
    """The reader's tokenizer as the run's output holds it, wherever the replica runs."""
    if config.selection.budget_tokenizer is None:
        return None
    return read_tokenizer(output, BUDGET_TOKENIZER)


def describe_numerics(compressor: Compressor, spec: WorkSpec) -> dict[str, Any]:
    """Everything besides the plan that the output's bytes may depend on."""
    return {
        "engine": compressor.engine.name,
        "device": spec.device.split(":")[0],
        "threads": spec.threads,
        **compressor.engine.numerics,
        "pyarrow": pa.__version__,
    }
