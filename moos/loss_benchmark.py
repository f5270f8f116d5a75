"""What the similarity term costs of a training step, beside the double sum it stands for.

Shapes: B windows in the batch, T tokens per window, D hidden size, C classes (2).
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import XLMRobertaConfig, XLMRobertaForTokenClassification

from moos.loss import PRESERVE_AT, class_similarity, sum_cross_entropy
from moos.model import TokenClassifier
from moos.training_config import TrainingConfig
from moos.training_step import build_optimizer

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class LossBenchmark:
    """The geometry to measure at; by default XLM-RoBERTa-large's, without its vocabulary.

    Attributes:
        num_layers: Encoder layers.
        hidden_size: D, a multiple of 64.
        length: T.
        windows: B.
        repeats: Steps measured of each kind, after one that is not.
        bf16: Compute the encoder in bf16, as on CUDA.
    """

    num_layers: int = 24
    hidden_size: int = 1024
    length: int = 512
    windows: int = 2
    repeats: int = 3
    bf16: bool = False


def measure_loss(benchmark: LossBenchmark) -> dict[str, Any]:
    """Median seconds of whole steps (forward, backward, update), the kinds in turn.

    Returns:
        Seconds of a step with cross entropy alone, of the two similarity terms alone (forward and
        backward), and the terms' shares of a step that holds them.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    shape = XLMRobertaConfig(
        vocab_size=1000,
        hidden_size=benchmark.hidden_size,
        num_hidden_layers=benchmark.num_layers,
        num_attention_heads=benchmark.hidden_size // 64,
        intermediate_size=4 * benchmark.hidden_size,
        max_position_embeddings=benchmark.length + 2,
    )
    model = TokenClassifier(XLMRobertaForTokenClassification(shape)).to(device).train()
    config = TrainingConfig(base="", base_name="", labels_note="")
    optimizer = build_optimizer(model, config)
    ids_BT = torch.randint(5, 1000, (benchmark.windows, benchmark.length), device=device)
    labels_BT = torch.rand(benchmark.windows, benchmark.length, device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=benchmark.bf16):
            logits_BTC, _ = model(ids_BT, torch.ones_like(ids_BT))
        sum_cross_entropy(logits_BTC, labels_BT).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def term(similarity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        shape = (benchmark.windows, benchmark.length, benchmark.hidden_size)
        hidden_BTD = torch.randn(shape, device=device, requires_grad=True)
        similarity(hidden_BTD, labels_BT).backward()  # type: ignore[no-untyped-call]

    kinds: dict[str, Callable[[], None]] = {
        "step": step,
        "similarity": lambda: term(class_similarity),
        "double_sum": lambda: term(double_sum),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(benchmark.repeats + 1):
        for name, run in kinds.items():
            seconds[name].append(_time(run, device))
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "step_s": round(medians["step"], 4),
        "similarity_s": round(medians["similarity"], 5),
        "double_sum_s": round(medians["double_sum"], 5),
        "similarity_share": round(_share(medians, "similarity"), 4),
        "double_sum_share": round(_share(medians, "double_sum"), 4),
    }


def double_sum(hidden_BTD: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """L_CS by all pairs of each window, as the paper writes it; every window holds both classes."""
    unit_BTD = functional.normalize(hidden_BTD.float(), dim=-1)
    total = hidden_BTD.new_zeros(())
    for unit_TD, labels_T in zip(unit_BTD, labels_BT, strict=True):
        is_preserved_T = labels_T >= PRESERVE_AT
        total = total + (unit_TD[is_preserved_T] @ unit_TD[~is_preserved_T].T).mean()
    return total / len(hidden_BTD)


def _share(medians: dict[str, float], name: str) -> float:
    return medians[name] / (medians["step"] + medians[name])


def _time(run: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
