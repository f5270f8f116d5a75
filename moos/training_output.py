"""From a trained model to a checkpoint directory: weights, constants, settings and model card."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from moos.checkpoint import MoosJson
from moos.checkpoint_files import INT8_WEIGHTS, OUTLIER_CONSTANTS
from moos.labels import LabelledDocument
from moos.model import TokenClassifier
from moos.model_card import write_card
from moos.outlier import OutlierConstants
from moos.quantize import dequantize, quantize
from moos.training import best_row
from moos.training_config import Metric, TrainingConfig
from moos.training_data import TrainingData
from moos.validation import (
    Choice,
    EncodedDocument,
    auc_by_domain,
    choose_scoring,
    encode_documents,
    measure_outlier_constants,
)


def finish_checkpoint(
    model: TokenClassifier,
    config: TrainingConfig,
    documents: Sequence[LabelledDocument],
    data: TrainingData,
    history: Sequence[dict[str, Any]],
    directory: Path,
) -> dict[str, Any]:
    """Quantise the model, choose its scoring settings, and write a checkpoint directory.

    Everything is measured on the int8 weights, which are those that ship.

    Args:
        model: Trained, on any device; its weights become the int8 ones.
        config: The run.
        documents: All labelled documents.
        data: The same, split and prepared.
        history: Figures of each validation.
        directory: Where to write; empty or absent.

    Returns:
        The figures, as in `moos.json`.
    """
    device = next(model.parameters()).device
    weights = quantize({name: t.cpu() for name, t in model.model.state_dict().items()})
    model.model.load_state_dict(dequantize(weights))
    model.to(device)
    constants = measure_outlier_constants(
        model, [item for document in data.training for item in document.inputs]
    )
    encoded = encode_documents(model, data.validation, constants)
    choice = choose_scoring(encoded)
    metrics = collect_metrics(choice, encoded, config.best_metric, history)
    moos = MoosJson(
        alpha=choice.alpha,
        beta=config.beta,
        outlier_statistics=choice.statistics,
        outlier_reduction="l2",
        word_score="mean",
        phrases=config.phrases,
        max_length=config.max_length,
        label_names=("discard", "preserve"),
        training=describe_training(config, documents, data),
        metrics=metrics,
    )
    write_directory(model, weights, constants, moos, config, directory)
    return metrics


def collect_metrics(
    choice: Choice,
    encoded: Sequence[EncodedDocument],
    metric: Metric,
    history: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """What validation measured, rounded to what it can tell."""
    best = best_row(history, metric)
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
        "best_step": best["step"],
        "validations": [_round(row) for row in history],
    }


def _round(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [round(item, 4) for item in value] if isinstance(value, list) else round(value, 4)
        for name, value in row.items()
    }


def describe_training(
    config: TrainingConfig, documents: Sequence[LabelledDocument], data: TrainingData
) -> dict[str, Any]:
    """What the checkpoint was made from; no path, only names, hashes and counts."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for document in documents:
        key = (document.domain, document.source, document.licence)
        row = rows.setdefault(
            key,
            {
                "domain": document.domain,
                "source": document.source,
                "licence": document.licence,
                "documents": 0,
                "words": 0,
            },
        )
        row["documents"] += 1
        row["words"] += len(document.labels)
    held_out = {item.id for item in data.validation}
    words = [
        sum(len(d.labels) for d in documents if (d.id in held_out) is s) for s in (False, True)
    ]
    return {
        "base": config.base_name,
        "base_sha256": hash_base(config.base),
        "labels": config.labels_note or _name_teachers(documents),
        "card": config.card.model_dump(mode="json"),
        "labels_sha256": hash_labels(documents),
        "sources": [rows[key] for key in sorted(rows)],
        "num_training_documents": len(data.training),
        "num_validation_documents": len(data.validation),
        "num_training_words": words[0],
        "num_validation_words": words[1],
        "config": config.model_dump(exclude={"base", "base_name", "labels_note", "card"}),
    }


def _name_teachers(documents: Sequence[LabelledDocument]) -> str:
    teachers = sorted({document.teacher for document in documents})
    return f"by {'; '.join(teachers[:5])}{' and others' if len(teachers) > 5 else ''}"


def hash_base(base: str) -> str:
    """The sha256 of the base's weights and tokenizer."""
    digest = hashlib.sha256()
    for path in [*sorted(Path(base).glob("*.safetensors")), Path(base) / "tokenizer.json"]:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def hash_labels(documents: Sequence[LabelledDocument]) -> str:
    """A hash of texts and labels that does not depend on files or their order."""
    digests = sorted(
        hashlib.sha256(
            b"\0".join(
                [
                    document.id.encode(),
                    document.document.encode(),
                    document.text.encode(),
                    document.starts.tobytes(),
                    document.ends.tobytes(),
                    document.labels.tobytes(),
                    *([] if document.split is None else [document.split.encode()]),
                ]
            )
        ).digest()
        for document in documents
    )
    return hashlib.sha256(b"".join(digests)).hexdigest()


def write_directory(
    model: TokenClassifier,
    weights: dict[str, torch.Tensor],
    constants: OutlierConstants,
    moos: MoosJson,
    config: TrainingConfig,
    directory: Path,
) -> None:
    """Write the files of a checkpoint."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file(weights, directory / INT8_WEIGHTS)
    save_file(
        {
            "mean": constants.mean.contiguous(),
            "std": constants.std.contiguous(),
            "range": torch.tensor([constants.low, constants.high]),
        },
        directory / OUTLIER_CONSTANTS,
    )
    model_config = model.model.config.to_dict()
    model_config["architectures"] = [type(model.model).__name__]
    model_config.pop("_name_or_path", None)  # a path of this machine
    _write_json(directory / "config.json", model_config)
    _write_tokenizer(Path(config.base), directory, model_config)
    _write_json(directory / "moos.json", moos.model_dump(mode="json"))
    write_card(directory / "README.md", moos, architecture=model_config["architectures"][0])
    for file in directory.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner can read


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
