"""Loading a checkpoint's weights, and what its encoder and head compute.

Shapes: B windows in the micro-batch, T tokens per window, D hidden size, C classes (2).
"""

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification

from moos.checkpoint import Checkpoint
from moos.checkpoint_files import INT8_WEIGHTS, OUTLIER_CONSTANTS
from moos.errors import ModelError
from moos.outlier import OutlierConstants
from moos.pretrained import load_config, load_token_classifier
from moos.quantize import dequantize

# Everything of a checkpoint but its config and weights.
CARRIED_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "moos.json",
    OUTLIER_CONSTANTS,
)


class TokenClassifier(torch.nn.Module):
    """A Hugging Face token classifier that also returns its encoder's last hidden states."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._hidden_BTD: torch.Tensor | None = None
        # A hook, rather than output_hidden_states=True: that would keep every layer's activations.
        model.base_model.register_forward_hook(self._keep_hidden)

    def _keep_hidden(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        self._hidden_BTD = output[0]

    def forward(
        self, ids_BT: torch.Tensor, attention_BT: torch.Tensor | None, layer: int | None = -1
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, T, C) and a layer's hidden states (B, T, D).

        Args:
            ids_BT: Token ids.
            attention_BT: 1 for tokens, 0 for padding; None where there is none.
            layer: -1 is the last layer, 0 the embeddings; None gives the embeddings and every layer
                together, shape (L, B, T, D).
        """
        every = layer != -1
        output = self.model(
            input_ids=ids_BT, attention_mask=attention_BT, output_hidden_states=every
        )
        hidden_BTD = self._hidden_BTD
        self._hidden_BTD = None
        assert hidden_BTD is not None, "the base model did not run"
        if layer is None:
            return output.logits, torch.stack(output.hidden_states)
        return output.logits, output.hidden_states[layer] if every else hidden_BTD


def load_model(checkpoint: Checkpoint) -> TokenClassifier:
    """Load a checkpoint's weights in fp32, in evaluation mode, on the CPU.

    Raises:
        ModelError: The weights cannot be read, do not fit the config, or lack the head.
    """
    transformers.utils.logging.disable_progress_bar()
    try:
        model = _load_weights(checkpoint)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(f"checkpoint {checkpoint.path} cannot be loaded: {error}") from error
    return TokenClassifier(model.eval())


def _load_weights(checkpoint: Checkpoint) -> Any:
    path = checkpoint.path
    if (path / INT8_WEIGHTS).exists():
        config = load_config(path)
        model = AutoModelForTokenClassification.from_config(config, dtype=torch.float32)
        model.load_state_dict(dequantize(load_file(path / INT8_WEIGHTS)), strict=True)
        return model
    model, info = load_token_classifier(path, dtype=torch.float32, output_loading_info=True)
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise ModelError(f"checkpoint {path} lacks weights of its token classifier: {missing}")
    return model


def load_outlier_constants(path: Path) -> OutlierConstants:
    """Read a checkpoint directory's outlier constants.

    Raises:
        ModelError: The file cannot be read or lacks a tensor.
    """
    try:
        tensors = load_file(path / OUTLIER_CONSTANTS)
        low, high = tensors["range"].tolist()
        return OutlierConstants(tensors["mean"], tensors["std"], low, high)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path / OUTLIER_CONSTANTS} cannot be read: {error}") from error


def save_plain(checkpoint: Checkpoint, directory: Path) -> None:
    """Write a checkpoint as plain Hugging Face safetensors, tokenizer and `moos.json` beside it.

    Raises:
        ModelError: The directory is the checkpoint's own.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if directory.samefile(checkpoint.path):
        raise ModelError(f"{directory} is the checkpoint's own directory; save to another")
    load_model(checkpoint).model.save_pretrained(directory)
    for name in CARRIED_FILES:
        if (checkpoint.path / name).exists():
            shutil.copyfile(checkpoint.path / name, directory / name)
