"""Checkpoints of larger encoders with random weights, for speed only: what they keep is noise."""

import json
import shutil
from pathlib import Path
from typing import Literal

import torch
import transformers
from transformers import BertConfig, BertForTokenClassification

from moos.checkpoint import read_checkpoint

Geometry = Literal["xlm-roberta-base", "xlm-roberta-large"]

_LAYERS_AND_HIDDEN = {"xlm-roberta-base": (12, 768), "xlm-roberta-large": (24, 1024)}
_MAX_LENGTH = 512


def write_geometry(geometry: Geometry, directory: Path, *, seed: int = 0) -> None:
    """Write a checkpoint with the layers of that encoder and the default checkpoint's tokenizer.

    A layer of XLM-RoBERTa computes what BERT's does, and a vocabulary's size costs no operation;
    with one tokenizer for all, a token is the same everywhere.
    """
    default = read_checkpoint("default")
    num_layers, hidden_size = _LAYERS_AND_HIDDEN[geometry]
    config = BertConfig(
        vocab_size=int(default.config["vocab_size"]),
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 64,
        intermediate_size=4 * hidden_size,
        max_position_embeddings=_MAX_LENGTH,
        id2label={0: "discard", 1: "preserve"},
        label2id={"discard": 0, "preserve": 1},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertForTokenClassification(config)
    transformers.utils.logging.disable_progress_bar()
    model.train(False).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(default.path / name, directory / name)
    # The default checkpoint's scoring, so that the same work is done around the encoder.
    settings = {
        "alpha": default.moos.alpha,
        "phrases": default.moos.phrases,
        "outlier_statistics": "window",
        "max_length": _MAX_LENGTH,
    }
    (directory / "moos.json").write_text(json.dumps(settings), encoding="utf-8")
