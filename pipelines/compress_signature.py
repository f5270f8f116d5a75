"""The compress job's signature: what tells one run's output from another's."""

import hashlib
from pathlib import Path
from typing import Any

from moos.checkpoint import Checkpoint, Scoring
from pipelines.config import CompressConfig
from pipelines.run_state import CONTRACT_VERSION


def sign_run(config: CompressConfig, checkpoint: Checkpoint, scoring: Scoring) -> dict[str, Any]:
    """Everything that decides the output's bytes, as dotted keys.

    Where work runs, and how much of it may fail, is not part of it.
    """
    selection = config.selection
    signature: dict[str, Any] = {
        "contract_version": CONTRACT_VERSION,
        "checkpoint": config.checkpoint,
        "checkpoint_sha256": checkpoint.sha256,
        "engine": config.engine,
        "input.path": list(config.input.paths),
        "input.text_column": config.input.text_column,
        "input.id_column": config.input.id_column,
        "input.split_bytes": int(config.input.split_bytes),
        "input.max_document_chars": config.input.max_document_chars,
        "output.format": config.output.format,
        "output.annotations": config.output.annotations,
        "preserve_index": checkpoint.preserve_index,
    }
    if config.input.partitioning != "auto":
        signature["input.partitioning"] = config.input.partitioning
    if config.output.chunks.tokens is not None:  # else as it was before there were chunks
        signature["output.chunks.tokens"] = config.output.chunks.tokens
        signature["output.chunks.overlap"] = config.output.chunks.overlap
    for name in ("alpha", "outlier_statistics", "outlier_reduction", "word_score", "phrases"):
        signature[f"scoring.{name}"] = getattr(scoring, name)
    for name in ("max_length", "context_tokens"):
        signature[f"window.{name}"] = getattr(scoring, name)
    for name, value in selection.model_dump(mode="json").items():
        signature[f"selection.{name}"] = value
    if selection.budget_tokenizer is not None:
        reader = Path(selection.budget_tokenizer).read_bytes()
        signature["selection.budget_tokenizer"] = hashlib.sha256(reader).hexdigest()
    return signature
