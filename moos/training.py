"""The training loop of one worker, alone or among others: steps, validation, states to resume from.

Plain torch: it knows nothing of Ray. What happens to a state is the caller's affair.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from moos.errors import ConfigError, ModelError
from moos.model import TokenClassifier
from moos.pretrained import load_token_classifier
from moos.ranks import Ranks, Strategy
from moos.training_config import Metric, TrainingConfig
from moos.training_data import TrainingData, TrainingWindow, label_windows, make_batch, plan_epoch
from moos.training_state import TrainingState, collect_state, restore_state
from moos.training_step import StepFigures, build_optimizer, learning_rate, train_step
from moos.training_validation import validate

LABEL_NAMES = ("discard", "preserve")
CURVE_POINTS = 100
"""About as many points has the curve of the training loss."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is, for people.

    Attributes:
        step: Steps done.
        num_steps: Steps in all.
        loss: Of the latest step.
        tokens_per_second: Of all workers, since the run began or went on.
        eta_s: Seconds left at this pace; validations come on top.
    """

    step: int
    num_steps: int
    loss: float
    tokens_per_second: float
    eta_s: float


def run_training(
    config: TrainingConfig,
    data: TrainingData,
    *,
    ranks: Ranks,
    on_validated: Callable[[TrainingState], None],
    on_progress: Callable[[Progress], None] = lambda progress: None,
    resumed: TrainingState | None = None,
    strategy: Strategy = "ddp",
) -> list[dict[str, Any]]:
    """Train from the start or from a state to the end.

    Args:
        config: The run.
        data: Both sides of the split, the same on every rank.
        ranks: This worker's place.
        on_validated: Gets the state after each validation, on every rank; its last history row
            holds the figures.
        on_progress: Called after each step, and with the same again as its validation goes on, on
            every rank.
        resumed: State to go on from.
        strategy: How the model is spread over the workers.

    Returns:
        Figures of each validation: those of `validate`, and mean training loss and parts since the
        one before as `train_loss`, `train_cross_entropy`, `train_similarity`; `step`, `epoch`.

    Raises:
        ConfigError: There are more workers than micro-batches in a step.
        ModelError: The base cannot be loaded, or the loss stopped being a number; the message
            names the step and its documents. The states handed on before are good.
    """
    check_workers(config, ranks.world_size)
    torch.manual_seed(config.seed)
    model = load_base(config.base, config.max_length)
    check_layer(config, model)
    network = ranks.wrap(model, strategy)
    optimizer = build_optimizer(network, config)
    resumed = resumed or TrainingState(0)
    first, history, curve = resumed.step, list(resumed.history), list(resumed.curve)
    if first:
        restore_state(resumed, model, optimizer)
    windows = label_windows(data.training)
    steps = _Steps(config, windows)
    every = config.validate_every or steps.per_epoch
    since: list[StepFigures] = []
    point = max(1, steps.total // CURVE_POINTS)
    began, num_tokens = time.monotonic(), 0
    for step in range(first, steps.total):
        micro_batches = steps.micro_batches(step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps.total, config)
        network.train()
        batches = [make_batch([windows[i] for i in part]) for part in micro_batches]
        try:
            figures = train_step(network, batches, optimizer, config, step=step, ranks=ranks)
        except ModelError as error:
            names = sorted({windows[i].document for part in micro_batches for i in part})
            shown = ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
            raise ModelError(
                f"step {step + 1} (epoch {step // steps.per_epoch + 1}), documents {shown}: {error}"
            ) from error
        since.append(figures)
        num_tokens += sum(int(batch.attention.sum()) for batch in batches)
        seconds = max(time.monotonic() - began, 1e-9)
        left = seconds / (step + 1 - first) * (steps.total - step - 1)
        told = Progress(step + 1, steps.total, figures.loss, num_tokens / seconds, left)
        on_progress(told)
        if (step + 1) % point == 0:
            curve.append({"step": step + 1, **_mean(since[-point:])})
        if (step + 1) % every == 0 or step + 1 == steps.total:
            row = {"step": step + 1, "epoch": (step + 1) / steps.per_epoch, **_mean(since)}
            go_on = partial(on_progress, told)
            history.append({**row, **validate(model, data.validation, config, ranks, go_on)})
            since = []
            on_validated(
                collect_state(model, optimizer, step=step + 1, history=history, curve=curve)
            )
    return history


class _Steps:
    """The micro-batches of every step of a run; the plan of one epoch is kept at a time."""

    def __init__(self, config: TrainingConfig, windows: list[TrainingWindow]) -> None:
        self._config = config
        self._lengths = [len(window.input.ids) for window in windows]
        self._epoch, self._plan = -1, [[]]  # type: ignore[var-annotated]
        self.per_epoch = -(-len(windows) // config.batch_size)
        self.total = self.per_epoch * config.epochs

    def micro_batches(self, step: int) -> list[Any]:
        epoch, within = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._plan = plan_epoch(
                self._lengths,
                batch_size=self._config.batch_size,
                micro_batch_size=self._config.micro_batch_size,
                seed=self._config.seed,
                epoch=epoch,
            )
        return self._plan[within]


def check_workers(config: TrainingConfig, num_workers: int) -> None:
    """Refuse workers that would have nothing to do.

    Raises:
        ConfigError: A step has fewer micro-batches than there are workers.
    """
    if num_workers > config.micro_batches_per_step:
        raise ConfigError(
            f"{num_workers} workers share {config.micro_batches_per_step} micro-batches per step "
            f"(batch_size={config.batch_size}, micro_batch_size={config.micro_batch_size}); lower "
            "micro_batch_size or num_workers, or raise batch_size"
        )


def check_layer(config: TrainingConfig, model: TokenClassifier) -> None:
    """Refuse a layer that the encoder does not have.

    Raises:
        ConfigError: There is none of that number.
    """
    num_layers = int(model.model.config.num_hidden_layers)
    if not -num_layers - 1 <= config.similarity_layer <= num_layers:
        raise ConfigError(
            f"similarity_layer={config.similarity_layer}: the encoder has layers 1 to {num_layers} "
            "(0: the embeddings; -1: the last)"
        )


def best_row(history: Sequence[dict[str, Any]], metric: Metric) -> dict[str, Any]:
    """The validation whose weights are to ship; of equals the earliest."""
    sign = -1.0 if metric == "loss" else 1.0
    return max(
        history, key=lambda row: -math.inf if math.isnan(row[metric]) else sign * row[metric]
    )


def _mean(steps: list[StepFigures]) -> dict[str, float]:
    rows = [asdict(step) for step in steps]
    names = ("loss", "cross_entropy", "similarity")
    return {f"train_{name}": sum(row[name] for row in rows) / len(rows) for name in names}


def load_base(base: str, max_length: int) -> TokenClassifier:
    """Load an encoder with a fresh head of two classes, drawn from torch's global generator.

    Raises:
        ModelError: The directory cannot be loaded, or the encoder is built for shorter windows.
    """
    # It reports the missing head and loads behind a progress bar; both are as they should be.
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        model = load_token_classifier(
            base,
            num_labels=2,
            id2label=dict(enumerate(LABEL_NAMES)),
            label2id={name: index for index, name in enumerate(LABEL_NAMES)},
            local_files_only=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(f"base {base} cannot be loaded: {error}") from error
    positions = int(getattr(model.config, "max_position_embeddings", max_length))
    if positions < max_length:
        raise ModelError(
            f"max_length={max_length} exceeds the {positions} positions of the encoder in {base}"
        )
    return TokenClassifier(model)
