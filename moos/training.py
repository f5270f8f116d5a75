"""Training a compressor's classifier in plain torch: batches, one step, and the loop around it.

Knows nothing of Ray: `train_step` is what any loop around it calls.

Shapes: B windows in the batch, T tokens per window, D hidden size, C classes (0 discard,
1 preserve).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForTokenClassification

from moos.engines import EncoderInput
from moos.errors import DataError, ModelError
from moos.labels import LabelledInputs, prepare_inputs, read_labelled, split_documents
from moos.loss import IGNORE, LossParts, combined_loss
from moos.model import TokenClassifier
from moos.tokens import TextTokenizer
from moos.training_config import TrainingConfig
from moos.training_output import check_output, finish_checkpoint
from moos.validation import pad_windows, preserve_auc, split_by_window

LABEL_NAMES = ("discard", "preserve")
# Windows are sorted by length within this many batches: little padding, and batches still vary.
_BATCHES_PER_POOL = 8


@dataclass(frozen=True, slots=True)
class TrainingWindow:
    """One window and the labels of all its positions, NaN for special tokens, shape (T,)."""

    input: EncoderInput
    labels: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows padded to one length, each (B, T); labels are NaN where there is none."""

    ids: torch.Tensor
    attention: torch.Tensor
    labels: torch.Tensor


def train(config: TrainingConfig, report: Callable[[str], None]) -> dict[str, Any]:
    """Train as configured and write the checkpoint directory.

    Args:
        config: The run.
        report: Gets one line per progress message.

    Returns:
        The run's figures, as in the checkpoint's `moos.json`.

    Raises:
        ConfigError: The output directory holds something else than a checkpoint.
        DataError: The labels file breaks its contract, or one side of the split is empty.
        ModelError: The base cannot be loaded, or the loss stopped being a number.
    """
    check_output(Path(config.output))
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    tokenizer = TextTokenizer.from_file(Path(config.base) / "tokenizer.json")
    documents = read_labelled(config.data)
    sides = split_documents(
        documents, validation_share=config.validation_share, seed=config.split_seed
    )
    training, validation = (prepare_inputs(side, tokenizer, config.max_length) for side in sides)
    for name, side in (("training", training), ("validation", validation)):
        if not any(item.inputs for item in side):
            raise DataError(
                f"{config.data} leaves no {name} document at validation_share="
                f"{config.validation_share} and split_seed={config.split_seed}"
            )
    report(f"{len(training)} documents to train on, {len(validation)} held out")
    torch.manual_seed(config.seed)
    model = load_base(config.base, config.max_length)
    epochs = fit(model, training, validation, config, report)
    return finish_checkpoint(model, config, sides, (training, validation), epochs, report)


def load_base(base: str, max_length: int) -> TokenClassifier:
    """Load an encoder with a fresh head of two classes, drawn from torch's global generator.

    Raises:
        ModelError: The directory cannot be loaded, or the encoder is built for shorter windows.
    """
    # It reports the missing head and loads behind a progress bar; both are as they should be.
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        model = AutoModelForTokenClassification.from_pretrained(
            base,
            num_labels=2,
            id2label=dict(enumerate(LABEL_NAMES)),
            label2id={name: index for index, name in enumerate(LABEL_NAMES)},
            use_safetensors=True,
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


def fit(
    model: TokenClassifier,
    training: Sequence[LabelledInputs],
    validation: Sequence[LabelledInputs],
    config: TrainingConfig,
    report: Callable[[str], None],
) -> list[dict[str, float]]:
    """Train the model in place; it ends with the weights of the epoch of best validation AUC.

    Returns:
        Figures of each epoch: mean loss and its parts, and validation AUC.

    Raises:
        ModelError: The loss stopped being a number; the message names the step.
    """
    windows = label_windows(training)
    generator = np.random.default_rng(config.seed)
    steps_per_epoch = -(-len(windows) // config.batch_size)
    optimizer, schedule = build_optimizer(model, config, steps_per_epoch * config.epochs)
    epochs: list[dict[str, float]] = []
    best_auc = -math.inf
    best_state: dict[str, torch.Tensor] = {}
    for epoch in range(1, config.epochs + 1):
        model.train()
        parts = []
        for batch in iterate_batches(windows, config.batch_size, generator):
            parts.append(train_step(model, batch, optimizer, config))
            check_loss(parts[-1], (epoch - 1) * steps_per_epoch + len(parts), epoch, config)
            schedule.step()
        auc = preserve_auc(model, validation)
        figures = {"epoch": epoch, **mean_parts(parts), "auc": auc}
        epochs.append({name: round(value, 4) for name, value in figures.items()})
        report(", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
        if not best_state or auc > best_auc:
            best_auc = auc
            best_state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(best_state)
    return epochs


def check_loss(loss: LossParts, step: int, epoch: int, config: TrainingConfig) -> None:
    """Refuse a loss that is no number, of which nothing can be learnt.

    Raises:
        ModelError: It is not; the message names the step.
    """
    value = float(loss.total)
    if not math.isfinite(value):
        raise ModelError(
            f"the loss is {value} at step {step} (epoch {epoch}); lower learning_rate (now "
            f"{config.learning_rate}) or clip_norm (now {config.clip_norm})"
        )


def mean_parts(parts: Sequence[LossParts]) -> dict[str, float]:
    """Mean of each part of the loss over the steps."""
    return {
        "loss": float(torch.stack([part.total for part in parts]).mean()),
        "cross_entropy": float(torch.stack([part.cross_entropy for part in parts]).mean()),
        "similarity": float(torch.stack([part.similarity for part in parts]).mean()),
    }


def label_windows(documents: Sequence[LabelledInputs]) -> list[TrainingWindow]:
    """The documents' windows with the labels of their positions."""
    windows = []
    for document in documents:
        parts = split_by_window(document, document.token_labels)
        for item, part in zip(document.inputs, parts, strict=True):
            labels = np.full(len(item.ids), IGNORE, dtype=np.float32)
            labels[item.own_start : item.own_end] = part
            windows.append(TrainingWindow(item, labels))
    return windows


def iterate_batches(
    windows: Sequence[TrainingWindow], batch_size: int, generator: np.random.Generator
) -> Iterator[Batch]:
    """Every window once, in random order, each batch of windows of similar length."""
    order = generator.permutation(len(windows)).tolist()
    pool_size = batch_size * _BATCHES_PER_POOL
    batches: list[list[int]] = []
    for start in range(0, len(order), pool_size):
        pool = sorted(order[start : start + pool_size], key=lambda i: len(windows[i].input.ids))
        batches.extend(pool[at : at + batch_size] for at in range(0, len(pool), batch_size))
    for position in generator.permutation(len(batches)):
        yield make_batch([windows[index] for index in batches[position]])


def make_batch(windows: Sequence[TrainingWindow]) -> Batch:
    """Pad windows to the length of the longest."""
    ids_BT, attention_BT = pad_windows([window.input for window in windows])
    labels_BT = torch.full(ids_BT.shape, IGNORE)
    for row, window in enumerate(windows):
        labels_BT[row, : len(window.labels)] = torch.from_numpy(window.labels)
    return Batch(ids_BT, attention_BT, labels_BT)


def build_optimizer(
    model: TokenClassifier, config: TrainingConfig, num_steps: int
) -> tuple[AdamW, LambdaLR]:
    """AdamW without decay on biases and layer norms; the rate rises linearly, then falls to 0."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = AdamW(groups, lr=config.learning_rate)
    num_warmup = int(num_steps * config.warmup_share)

    def factor(step: int) -> float:
        if step < num_warmup:
            return (step + 1) / num_warmup
        return max(0.0, (num_steps - step) / max(1, num_steps - num_warmup))

    return optimizer, LambdaLR(optimizer, factor)


def train_step(
    model: TokenClassifier, batch: Batch, optimizer: AdamW, config: TrainingConfig
) -> LossParts:
    """One update; returns the loss before it. A loss that is no number updates nothing."""
    optimizer.zero_grad()
    logits_BTC, hidden_BTD = model(batch.ids, batch.attention)
    loss = combined_loss(logits_BTC, hidden_BTD, batch.labels, beta=config.beta)
    if torch.isfinite(loss.total):
        loss.total.backward()  # type: ignore[no-untyped-call]
        # The gradient exists only now: clipping any earlier would clip the step before.
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
    return LossParts(loss.total.detach(), loss.cross_entropy.detach(), loss.similarity.detach())
