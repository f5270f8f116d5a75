"""From a trained model to a checkpoint directory: weights, constants, settings and model card."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fsspec
import torch
from safetensors.torch import save_file

from moos.checkpoint import INT8_WEIGHTS, OUTLIER_CONSTANTS, MoosJson
from moos.errors import ConfigError
from moos.labels import LabelledDocument, LabelledInputs
from moos.model import TokenClassifier
from moos.model_card import write_card
from moos.outlier import OutlierConstants
from moos.quantize import dequantize, quantize
from moos.training_config import TrainingConfig
from moos.validation import (
    Choice,
    EncodedDocument,
    auc_by_domain,
    choose_scoring,
    encode_documents,
    measure_outlier_constants,
)

# Settings of the run that hold paths of one machine; names and hashes stand in for them.
_PATHS = {"base", "data", "output"}


def check_output(output: Path) -> None:
    """Refuse to replace anything but a checkpoint.

    Raises:
        ConfigError: The path is a file, or a directory that holds something else.
    """
    if output.is_file() or (
        output.is_dir() and any(output.iterdir()) and not (output / "moos.json").exists()
    ):
        raise ConfigError(f"output {output} holds something that is no checkpoint; name another")


def finish_checkpoint(
    model: TokenClassifier,
    config: TrainingConfig,
    documents: tuple[Sequence[LabelledDocument], Sequence[LabelledDocument]],
    inputs: tuple[Sequence[LabelledInputs], Sequence[LabelledInputs]],
    epochs: Sequence[dict[str, float]],
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Quantise the model, choose its scoring settings, and write the directory.

    Everything is measured on the int8 weights, which are those that ship.

    Args:
        model: Trained; its weights become the int8 ones.
        config: The run.
        documents: Training and validation documents.
        inputs: The same, prepared.
        epochs: Figures of each epoch.
        report: Gets one line per progress message.

    Returns:
        The figures.
    """
    weights = quantize(model.model.state_dict())
    model.model.load_state_dict(dequantize(weights))
    training, validation = inputs
    constants = measure_outlier_constants(
        model, [item for document in training for item in document.inputs]
    )
    encoded = encode_documents(model, validation, constants)
    choice = choose_scoring(encoded)
    for name, row in choice.table.items():
        report(f"AUC, {name}: " + ", ".join(f"alpha {a:g} {auc:.4f}" for a, auc in row.items()))
    metrics = collect_metrics(choice, encoded, epochs)
    moos = MoosJson(
        alpha=choice.alpha,
        beta=config.beta,
        outlier_statistics=choice.statistics,
        outlier_reduction="l2",
        word_score="mean",
        max_length=config.max_length,
        label_names=("discard", "preserve"),
        training=describe_training(config, documents),
        metrics=metrics,
    )
    write_directory(model, weights, constants, moos, config)
    return metrics


def collect_metrics(
    choice: Choice, encoded: Sequence[EncodedDocument], epochs: Sequence[dict[str, float]]
) -> dict[str, Any]:
    """What validation measured, rounded to what it can tell."""
    similarities = [value for item in encoded for value in item.similarities]
    mean_similarity = sum(similarities) / len(similarities) if similarities else 0.0
    return {
        "auc": round(choice.auc, 4),
        "auc_alpha_1": round(choice.table[choice.statistics][1.0], 4),
        "auc_by_alpha": {
            name: {f"{alpha:g}": round(auc, 4) for alpha, auc in row.items()}
            for name, row in choice.table.items()
        },
        "auc_by_domain_alpha_1": {k: round(v, 4) for k, v in auc_by_domain(encoded).items()},
        "class_similarity": round(mean_similarity, 4),
        "epochs": list(epochs),
    }


def describe_training(
    config: TrainingConfig,
    documents: tuple[Sequence[LabelledDocument], Sequence[LabelledDocument]],
) -> dict[str, Any]:
    """What the checkpoint was made from; no path, only names, hashes and counts."""
    training, validation = documents
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for document in [*training, *validation]:
        row = rows.setdefault(
            (document.domain, document.source),
            {"domain": document.domain, "source": document.source, "documents": 0, "words": 0},
        )
        row["documents"] += 1
        row["words"] += len(document.labels)
    return {
        "base": config.base_name,
        "base_sha256": _hash_files(sorted(map(str, Path(config.base).glob("*.safetensors")))),
        "labels": config.labels_note,
        "labels_sha256": _hash_files([config.data]),
        "sources": [rows[key] for key in sorted(rows)],
        "num_training_documents": len(training),
        "num_validation_documents": len(validation),
        "num_training_words": sum(len(document.labels) for document in training),
        "num_validation_words": sum(len(document.labels) for document in validation),
        "config": config.model_dump(exclude=_PATHS | {"base_name", "labels_note"}),
    }


def _hash_files(paths: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with fsspec.open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def write_directory(
    model: TokenClassifier,
    weights: dict[str, torch.Tensor],
    constants: OutlierConstants,
    moos: MoosJson,
    config: TrainingConfig,
) -> None:
    """Write the checkpoint beside its place, then move it there: it is whole or absent."""
    output = Path(config.output)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(weights, partial / INT8_WEIGHTS)
    save_file(
        {
            "mean": constants.mean.contiguous(),
            "std": constants.std.contiguous(),
            "range": torch.tensor([constants.low, constants.high]),
        },
        partial / OUTLIER_CONSTANTS,
    )
    model_config = model.model.config.to_dict()
    model_config["architectures"] = [type(model.model).__name__]
    model_config.pop("_name_or_path", None)  # a path of this machine
    _write_json(partial / "config.json", model_config)
    _write_tokenizer(Path(config.base), partial, model_config)
    _write_json(partial / "moos.json", moos.model_dump(mode="json"))
    write_card(partial / "README.md", moos, architecture=model_config["architectures"][0])
    for file in partial.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner can read
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)


def _write_tokenizer(base: Path, directory: Path, model_config: dict[str, Any]) -> None:
    """Copy the base's tokenizer, without the truncation and padding it was last used with."""
    tokenizer = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    _write_json(
        directory / "tokenizer.json",
        {**tokenizer, "truncation": None, "padding": None},
        indent=None,
    )
    path = base / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    settings.pop("name_or_path", None)
    settings.setdefault("model_max_length", model_config.get("max_position_embeddings", 512))
    _write_json(directory / "tokenizer_config.json", settings)


def _write_json(path: Path, value: dict[str, Any], indent: int | None = 2) -> None:
    path.write_text(
        json.dumps(value, indent=indent, ensure_ascii=False, sort_keys=indent is not None) + "\n",
        encoding="utf-8",
    )
