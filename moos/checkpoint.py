"""What a checkpoint directory holds, read and checked without loading torch.

A directory with `config.json`, `tokenizer.json` and safetensors weights: any Hugging Face token
classifier with two labels. `moos.json` beside them carries what only moos knows: alpha, outlier
settings, window, label names, training data and figures. Weights are either plain Hugging Face
safetensors or `weights.int8.safetensors` (see `moos.quantize`).
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from moos.checkpoint_files import (
    ADAPTER_CONFIG,
    OUTLIER_CONSTANTS,
    adapter_error,
    check_files,
    locate,
)
from moos.config import ConfigModel, ScoringConfig, UnitInterval, WindowConfig
from moos.config_errors import describe_errors
from moos.errors import ModelError

DEFAULT_MAX_LENGTH = 512

_PRESERVE_NAMES = {"preserve", "keep", "kept", "true"}
_DISCARD_NAMES = {"discard", "drop", "dropped", "remove", "false"}


class MoosJson(ConfigModel):
    """The contents of a checkpoint's `moos.json`; a checkpoint without one has these defaults."""

    format_version: Literal[1] = 1
    alpha: UnitInterval = 1.0
    beta: float | None = None
    outlier_statistics: Literal["window", "checkpoint"] = "window"
    outlier_reduction: Literal["l2", "mean_abs", "max"] = "l2"
    word_score: Literal["mean", "max", "first"] = "mean"
    phrases: bool = False
    max_length: Annotated[int, Field(ge=8)] | None = None
    context_tokens: Annotated[int, Field(ge=0)] = 0
    label_names: tuple[str, str] | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scoring:
    """Scoring and window settings in force: the config's where set, else the checkpoint's."""

    alpha: float
    outlier_statistics: Literal["window", "checkpoint"]
    outlier_reduction: Literal["l2", "mean_abs", "max"]
    word_score: Literal["mean", "max", "first"]
    phrases: bool
    max_length: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that passed its checks.

    Attributes:
        path: Local directory.
        config: Contents of `config.json`.
        moos: Contents of `moos.json`, or its defaults.
        preserve_index: Class index that means "preserve".
        sha256: Hash over the names and contents of all files that decide the output.
    """

    path: Path
    config: dict[str, Any]
    moos: MoosJson
    preserve_index: int
    sha256: str

    @property
    def tokenizer_path(self) -> Path:
        """The fast tokenizer's file."""
        return self.path / "tokenizer.json"

    @property
    def pad_id(self) -> int:
        """Token id that fills a window up; attention never sees it."""
        return int(self.config.get("pad_token_id") or 0)


def read_checkpoint(location: str, preserve_label: str | None = None) -> Checkpoint:
    """Find a checkpoint and check that it can serve as a compressor.

    Args:
        location: `default`, a directory, an fsspec URL of a directory, or a hub id.
        preserve_label: Name or index of the class that means "preserve", for a checkpoint whose
            config does not say.

    Raises:
        ModelError: Nothing is there, weights are pickled, missing or come with an adapter, there is
            no fast tokenizer, there are not two labels, or the order of the labels is unclear.
    """
    path = locate(location)
    if (path / ADAPTER_CONFIG).exists():
        raise adapter_error(location)
    config = _read_json(path / "config.json", location)
    check_files(path, location)
    _check_head(config, location)
    try:
        moos_path = path / "moos.json"
        moos = MoosJson.model_validate(
            _read_json(moos_path, location) if moos_path.exists() else {}
        )
    except ValidationError as error:
        raise ModelError(f"{path}/moos.json is not valid:\n{describe_errors(error)}") from error
    names = moos.label_names or _label_names(config)
    return Checkpoint(
        path, config, moos, _preserve_index(names, preserve_label, location), _hash(path)
    )


def resolve_scoring(
    checkpoint: Checkpoint, scoring: ScoringConfig, window: WindowConfig
) -> Scoring:
    """The settings in force: each key of the config where set, else the checkpoint's.

    Raises:
        ModelError: `max_length` exceeds what the encoder was built for, or the checkpoint's outlier
            constants are asked for and it has none.
    """
    moos, outlier = checkpoint.moos, scoring.outlier
    limit = _position_limit(checkpoint)
    max_length = window.max_length or min(moos.max_length or DEFAULT_MAX_LENGTH, limit)
    if max_length > limit:
        raise ModelError(
            f"window.max_length={max_length} exceeds the {limit} positions of the encoder in "
            f"{checkpoint.path}"
        )
    context = moos.context_tokens if window.context_tokens is None else window.context_tokens
    statistics = outlier.statistics or moos.outlier_statistics
    if statistics == "checkpoint" and not (checkpoint.path / OUTLIER_CONSTANTS).exists():
        raise ModelError(
            f"scoring.outlier.statistics=checkpoint needs {OUTLIER_CONSTANTS}, which "
            f"{checkpoint.path} does not have; use statistics=window"
        )
    return Scoring(
        alpha=moos.alpha if scoring.alpha is None else scoring.alpha,
        outlier_statistics=statistics,
        outlier_reduction=outlier.reduction or moos.outlier_reduction,
        word_score=scoring.word_score or moos.word_score,
        phrases=moos.phrases if scoring.phrases is None else scoring.phrases,
        max_length=max_length,
        context_tokens=context,
    )


def _read_json(path: Path, location: str) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"checkpoint {location!r}: {path} cannot be read: {error}") from error
    if not isinstance(loaded, dict):
        raise ModelError(f"checkpoint {location!r}: {path} must hold a JSON object")
    return loaded


def _check_head(config: dict[str, Any], location: str) -> None:
    architectures = config.get("architectures") or []
    if not any("TokenClassification" in str(name) for name in architectures):
        raise ModelError(
            f"checkpoint {location!r} is no token classifier (architectures: {architectures}); "
            "fine-tune it first"
        )
    num_labels = len(_label_names(config))
    if num_labels != 2:
        raise ModelError(
            f"checkpoint {location!r} has {num_labels} labels {list(_label_names(config))}; "
            "a compressor needs two: discard and preserve"
        )


def _label_names(config: dict[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label")
    if isinstance(names, dict):
        return tuple(str(names[key]) for key in sorted(names, key=int))
    return tuple(f"LABEL_{index}" for index in range(int(config.get("num_labels", 2))))


def _preserve_index(names: tuple[str, ...], preserve_label: str | None, location: str) -> int:
    if preserve_label is not None:
        if preserve_label in names:
            return names.index(preserve_label)
        if preserve_label in ("0", "1"):
            return int(preserve_label)
        raise ModelError(
            f"scoring.preserve_label={preserve_label!r} is none of the labels {list(names)} of "
            f"checkpoint {location!r}"
        )
    if names == ("LABEL_0", "LABEL_1"):
        return 1  # the layout of LLMLingua-2's published checkpoints
    lowered = [name.lower() for name in names]
    for index in (0, 1):
        if lowered[index] in _PRESERVE_NAMES or lowered[1 - index] in _DISCARD_NAMES:
            return index
    raise ModelError(
        f"checkpoint {location!r} does not say which of its labels {list(names)} means preserve; "
        "set scoring.preserve_label"
    )


def _position_limit(checkpoint: Checkpoint) -> int:
    """Longest input in tokens: positions in the config, less the offset that padding ids take."""
    config = checkpoint.config
    limit = int(config.get("max_position_embeddings", DEFAULT_MAX_LENGTH))
    tokenizer_config = checkpoint.path / "tokenizer_config.json"
    if tokenizer_config.exists():
        declared = _read_json(tokenizer_config, str(checkpoint.path)).get("model_max_length")
        if isinstance(declared, int | float) and declared < limit:
            limit = int(declared)
    # RoBERTa-like encoders count positions from padding_idx + 1; 514 positions hold 512 tokens.
    if limit > 2 and (limit - 2).bit_count() == 1:
        limit -= 2
    return limit


def _hash(path: Path) -> str:
    """sha256 over the files that decide the output; README and the like are left out."""
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if re.search(r"\.(json|safetensors)$", file.name):
            content = hashlib.sha256()
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    content.update(block)
            digest.update(f"{file.name}\0{content.hexdigest()}\n".encode())
    return digest.hexdigest()
