"""Over-smoothing: how alike an encoder's layers make the tokens of the two classes.

Works on checkpoints and on the bare encoders that they were trained from, which have no head yet:
the figures are of hidden states alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from moos.checkpoint import read_checkpoint, resolve_scoring
from moos.compressor import Compressor
from moos.config import ScoringConfig, WindowConfig
from moos.engines.batching import plan_micro_batches
from moos.errors import DataError
from moos.labelled_inputs import prepare_inputs
from moos.labels import LabelledDocument
from moos.loss import count_labels, window_similarity
from moos.model import TokenClassifier, load_model
from moos.preparation import prepare_texts
from moos.tokens import TextTokenizer
from moos.training import load_base
from moos.training_data import label_windows, make_batch
from moos.validation import encode_windows

MAX_LENGTH = 256
"""Tokens per window. The same for all encoders that are compared: a longer window mixes more."""

_MICRO_BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder with its tokenizer.

    Attributes:
        model: The encoder; the head of a bare one is drawn at random.
        tokenizer: Its tokenizer.
        max_length: Tokens per window, special tokens included.
    """

    model: TokenClassifier
    tokenizer: TextTokenizer
    max_length: int


@dataclass(frozen=True, slots=True)
class SmoothingFigures:
    """How alike layers make the tokens of the two classes.

    Attributes:
        layer_similarity: Mean of S (see `moos.loss.window_similarity`) for the embeddings and each
            layer, over windows that hold both classes.
        num_windows: Those windows.
    """

    layer_similarity: tuple[float, ...]
    num_windows: int


@dataclass(frozen=True, slots=True)
class TokenSimilarity:
    """How alike a layer makes the tokens of a text.

    Attributes:
        tokens: The tokens, as they stand in the text.
        cosine: Cosine of each pair's hidden states in the last layer, shape (T, T).
    """

    tokens: tuple[str, ...]
    cosine: NDArray[np.float32]


def load_encoder(location: str, *, max_length: int = MAX_LENGTH) -> Encoder:
    """Load a checkpoint's encoder, or a bare one.

    Args:
        location: As `Compressor.load` takes it, or the directory of a bare encoder.
        max_length: Tokens per window, special tokens included.

    Raises:
        ModelError: It cannot be loaded, or is built for shorter windows.
    """
    if _is_bare(location):
        # The head is drawn from the global generator, which is nobody else's business.
        with torch.random.fork_rng():
            model = load_base(location, max_length)
        tokenizer = TextTokenizer.from_file(Path(location) / "tokenizer.json")
        return Encoder(model, tokenizer, max_length)
    checkpoint = read_checkpoint(location)
    resolve_scoring(checkpoint, ScoringConfig(), WindowConfig(max_length=max_length))
    tokenizer = TextTokenizer.from_file(checkpoint.tokenizer_path)
    return Encoder(load_model(checkpoint), tokenizer, max_length)


def _is_bare(location: str) -> bool:
    """A directory whose config names no token classifier."""
    config = Path(location) / "config.json"
    if not config.is_file():
        return False
    named = json.loads(config.read_text(encoding="utf-8")).get("architectures") or []
    return not any("TokenClassification" in str(name) for name in named)


def label_by_compressor(
    compressor: Compressor, texts: Sequence[str], *, rate: float = 0.5
) -> list[LabelledDocument]:
    """Labels where there are none: what a compressor keeps at a rate is class preserve.

    Nothing is protected. To compare encoders, label by one compressor and measure all on that.

    Raises:
        DataError: A text is not valid Unicode.
    """
    documents = []
    for index, document in enumerate(compressor.compress(texts, rate=rate, protect=())):
        table = document.word_table
        documents.append(
            LabelledDocument(
                id=str(index),
                document=str(index),
                domain="text",
                source="not stated",
                licence="not stated",
                teacher="compressor",
                text=texts[index],
                starts=table.words.starts,
                ends=table.words.ends,
                labels=table.kept.astype(np.float32),
            )
        )
    return documents


@torch.inference_mode()
def measure_smoothing(encoder: Encoder, documents: Sequence[LabelledDocument]) -> SmoothingFigures:
    """S of the embeddings and of each layer, as `moos train` measures it in validation.

    Args:
        encoder: The encoder.
        documents: Labelled texts.

    Raises:
        DataError: No window holds both classes.
    """
    encoder.model.eval()
    windows = label_windows(prepare_inputs(documents, encoder.tokenizer, encoder.max_length))
    sums, num_windows = torch.zeros(()), 0
    lengths = [len(window.input.ids) for window in windows]
    for indices in plan_micro_batches(lengths, _MICRO_BATCH_TOKENS):
        batch = make_batch([windows[index] for index in indices])
        _, hidden = encoder.model(batch.ids, batch.attention, None)
        # A window without both classes has similarity 0.
        by_layer = [window_similarity(layer, batch.labels).sum() for layer in hidden]
        sums = sums + torch.stack(by_layer).double()
        num_windows += int(count_labels(batch.labels).both)
    if num_windows == 0:
        raise DataError("no window of the labelled texts holds both preserve and discard words")
    return SmoothingFigures(tuple((sums / num_windows).tolist()), num_windows)


def measure_token_similarity(encoder: Encoder, text: str) -> TokenSimilarity:
    """Cosines between the tokens of a short text, of its first window if it has several.

    Special tokens are read, but not shown.

    Raises:
        DataError: The text has no tokens, or is not valid Unicode.
    """
    (tokens,) = encoder.tokenizer.tokenize([text])
    (part,) = prepare_texts([text], encoder.tokenizer, max_length=encoder.max_length)
    if not part.inputs:
        raise DataError(f"text {text!r:.80} has no tokens to compare")
    ((_, _, hidden),) = encode_windows(encoder.model, part.inputs[:1])
    unit = functional.normalize(hidden.float(), dim=-1)
    bounds = zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True)
    shown = tuple(text[start:end] for start, end in bounds)[: len(unit)]
    return TokenSimilarity(shown, (unit @ unit.T).numpy())
