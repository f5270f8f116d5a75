"""One optimizer step, whose outcome does not depend on how its micro-batches are dealt out.

Shapes: B windows in the micro-batch, T tokens per window, D hidden size, C classes (0 discard,
1 preserve).
"""

import contextlib
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from moos.errors import ModelError
from moos.loss import LossCounts, combined_loss, count_labels
from moos.ranks import Ranks
from moos.training_config import TrainingConfig
from moos.training_data import Batch


@dataclass(frozen=True, slots=True)
class StepFigures:
    """What one step measured, over all its micro-batches: the loss before it, and its parts."""

    loss: float
    cross_entropy: float
    similarity: float
    gradient_norm: float


def build_optimizer(model: nn.Module, config: TrainingConfig) -> AdamW:
    """AdamW without decay on biases and layer norms."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate)


def learning_rate(step: int, num_steps: int, config: TrainingConfig) -> float:
    """The rate of a step, counted from 0: it rises linearly, then falls linearly to 0."""
    num_warmup = int(num_steps * config.warmup_share)
    if step < num_warmup:
        return config.learning_rate * (step + 1) / num_warmup
    return config.learning_rate * max(0.0, (num_steps - step) / max(1, num_steps - num_warmup))


def train_step(
    network: nn.Module,
    micro_batches: Sequence[Batch],
    optimizer: AdamW,
    config: TrainingConfig,
    *,
    step: int,
    ranks: Ranks,
) -> StepFigures:
    """Update the weights once, by this rank's share of the step's micro-batches.

    Micro-batch i belongs to rank i modulo the number of ranks; its dropout is drawn from (seed,
    step, i). The loss's denominators are those of the whole step, summed over ranks.

    Args:
        network: A `TokenClassifier`, as `Ranks.wrap` returns it.
        micro_batches: All micro-batches of the step.
        optimizer: Its learning rate set.
        config: The run's.
        step: Counted from 0.
        ranks: This rank's place.

    Raises:
        ModelError: Loss or gradient is no number, on every rank alike; no weight was changed.
    """
    optimizer.zero_grad()
    mine = list(range(ranks.rank, len(micro_batches), ranks.world_size))
    counts = _sum_counts([micro_batches[index] for index in mine], ranks)
    parts_3 = torch.zeros(3, device=ranks.device)
    # A rank without a share runs one micro-batch for nothing: the others wait for its gradients.
    for index in mine or [0]:
        torch.manual_seed(_dropout_seed(config.seed, step, index))
        batch = micro_batches[index].to(ranks.device)
        with _accumulated(network, is_last=index == (mine or [0])[-1]):
            with precision_of(config, ranks.device):
                logits_BTC, hidden_BTD = network(
                    batch.ids, batch.attention, config.similarity_layer
                )
            loss = combined_loss(
                logits_BTC, hidden_BTD, batch.labels, beta=config.beta, counts=counts
            )
            # Gradients are averaged over ranks, and the parts of the loss are to be added up.
            weight = ranks.world_size if mine else 0
            (loss.total * weight).backward()  # type: ignore[no-untyped-call]
        if mine:
            parts_3 += torch.stack([loss.total, loss.cross_entropy, loss.similarity]).detach()
    # The gradient exists only now: clipping any earlier would clip the step before.
    norm = nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    total, cross_entropy, similarity = ranks.sum(parts_3).tolist()
    figures = StepFigures(total, cross_entropy, similarity, float(norm))
    _check_finite(figures, config)
    optimizer.step()
    return figures


def _check_finite(figures: StepFigures, config: TrainingConfig) -> None:
    for name, value in (("loss", figures.loss), ("gradient's norm", figures.gradient_norm)):
        if not math.isfinite(value):
            raise ModelError(
                f"the {name} is {value}; lower learning_rate (now {config.learning_rate}) or "
                f"clip_norm (now {config.clip_norm})"
            )


def _sum_counts(batches: Sequence[Batch], ranks: Ranks) -> LossCounts:
    """The denominators of the whole step."""
    counts_2 = torch.zeros(2, dtype=torch.int64)
    for batch in batches:
        counts = count_labels(batch.labels)
        counts_2 += torch.stack([counts.labelled, counts.both])
    labelled, both = ranks.sum(counts_2.to(ranks.device))
    return LossCounts(labelled, both)


def _dropout_seed(seed: int, step: int, micro_batch: int) -> int:
    digest = hashlib.sha256(f"{seed}/{step}/{micro_batch}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def _accumulated(network: nn.Module, *, is_last: bool) -> contextlib.AbstractContextManager[None]:
    """Exchange gradients with other ranks in the last backward pass of a step only."""
    if isinstance(network, DistributedDataParallel) and not is_last:
        return network.no_sync()
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(is_last)
    return contextlib.nullcontext()


def precision_of(
    config: TrainingConfig, device: torch.device
) -> contextlib.AbstractContextManager[None]:
    """The arithmetic of a forward pass: `precision` on this device."""
    use_bf16 = config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=use_bf16)
