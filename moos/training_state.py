"""A run's state on disk, from which it goes on exactly: weights, optimizer, step, figures so far.

A directory of `model.safetensors`, `optimizer.safetensors` and `state.json`, which is written last
and holds the others' hashes: a directory that was cut short or damaged does not pass for a state.
The order of windows and the dropout follow from seed and step, so no generator's state is kept.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import AdamW

from moos.errors import DataError
from moos.model import TokenClassifier

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_FULL = StateDictOptions(full_state_dict=True)
# Off the device, it is gathered on rank 0 alone.
_SAVED = StateDictOptions(full_state_dict=True, cpu_offload=True)
_SEPARATOR = "|"  # in no parameter's name


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Where a run stands.

    Attributes:
        step: Steps done.
        history: Figures of each validation so far.
        curve: Training loss and its parts, each row the mean of a few steps.
        model: The model's weights, on the CPU.
        optimizer: AdamW's tensors, named `parameter|tensor`.
    """

    step: int
    history: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)
    model: dict[str, torch.Tensor] = field(default_factory=dict)
    optimizer: dict[str, torch.Tensor] = field(default_factory=dict)


def collect_state(
    model: TokenClassifier,
    optimizer: AdamW,
    *,
    step: int,
    history: list[dict[str, Any]],
    curve: list[dict[str, float]],
) -> TrainingState:
    """The state of a run, which all ranks must ask for; the tensors come on rank 0 only."""
    weights: dict[str, Any] = get_model_state_dict(model, options=_SAVED)
    tensors: Any = get_optimizer_state_dict(model, optimizer, options=_SAVED).get("state", {})
    flat = {
        f"{name}{_SEPARATOR}{kind}": tensor.clone()
        for name, kinds in tensors.items()
        for kind, tensor in kinds.items()
    }
    # On a CPU the tensors gathered are the live ones, which training goes on to change.
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    return TrainingState(step, list(history), list(curve), weights, flat)


def restore_state(state: TrainingState, model: TokenClassifier, optimizer: AdamW) -> None:
    """Put a state into a model and its optimizer, however many ranks share them.

    Raises:
        DataError: It is of another architecture.
    """
    expected = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    held = {name: tuple(t.shape) for name, t in state.model.items()}
    if held != expected:
        differing = sorted(
            n for n in held.keys() | expected.keys() if held.get(n) != expected.get(n)
        )
        raise DataError(
            f"the state to resume from is of another architecture: {differing[0]} is "
            f"{held.get(differing[0])} there and {expected.get(differing[0])} here"
        )
    weights: dict[str, Any] = dict(state.model)
    set_model_state_dict(model, weights, options=_FULL)
    current: dict[str, Any] = get_optimizer_state_dict(model, optimizer, options=_FULL)
    nested: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in state.optimizer.items():
        name, _, kind = key.partition(_SEPARATOR)
        nested.setdefault(name, {})[kind] = tensor
    current["state"] = nested
    set_optimizer_state_dict(model, optimizer, current, options=_FULL)


def save_state(state: TrainingState, directory: Path) -> None:
    """Write a state into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for name, tensors in ((MODEL, state.model), (OPTIMIZER, state.optimizer)):
        save_file({key: t.contiguous() for key, t in tensors.items()}, directory / name)
        hashes[name] = _hash(directory / name)
    body = {
        "step": state.step,
        "history": state.history,
        "curve": state.curve,
        "sha256": hashes,
    }
    (directory / STATE).write_text(json.dumps(body), encoding="utf-8")


def load_state(directory: Path) -> TrainingState:
    """Read a state back.

    Raises:
        DataError: A file is missing, damaged, or not the one that was written.
    """
    try:
        body = json.loads((directory / STATE).read_text(encoding="utf-8"))
        for name, sha256 in body["sha256"].items():
            if _hash(directory / name) != sha256:
                raise DataError(f"{directory / name} is damaged: its sha256 is not {sha256}")
        tensors = [load_file(directory / name) for name in (MODEL, OPTIMIZER)]
        return TrainingState(
            int(body["step"]), list(body["history"]), list(body["curve"]), *tensors
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise DataError(f"no state can be read from {directory}: {error}") from error


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
