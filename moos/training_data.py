"""Which windows each step of a run trains on, and the batches made of them.

Shapes: B windows in the batch, T tokens per window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from moos.engines import EncoderInput
from moos.errors import DataError
from moos.labelled_inputs import LabelledInputs, prepare_inputs
from moos.labels import LabelledDocument, split_documents
from moos.loss import IGNORE
from moos.tokens import TextTokenizer
from moos.training_config import TrainingConfig

# Windows are sorted by length within this many batches: little padding, and batches still vary.
_BATCHES_PER_POOL = 8

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Labelled documents as the encoder reads them, on their sides of the split."""

    training: list[LabelledInputs]
    validation: list[LabelledInputs]


@dataclass(frozen=True, slots=True)
class TrainingWindow:
    """One window and the labels of all its positions, NaN for special tokens, shape (T,).

    Attributes:
        input: What the encoder reads.
        labels: Shape (T,).
        document: Id of the document, for messages.
    """

    input: EncoderInput
    labels: NDArray[np.float32]
    document: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows padded to one length, each (B, T); labels are NaN where there is none."""

    ids: torch.Tensor
    attention: torch.Tensor
    labels: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        return Batch(self.ids.to(device), self.attention.to(device), self.labels.to(device))


def prepare_data(
    documents: Sequence[LabelledDocument], tokenizer: TextTokenizer, config: TrainingConfig
) -> TrainingData:
    """Split documents and cut them into windows.

    Raises:
        DataError: One side of the split has no window, or the training side lacks a class.
    """
    sides = split_documents(
        documents, validation_share=config.validation_share, seed=config.split_seed
    )
    data = TrainingData(*(prepare_inputs(side, tokenizer, config.max_length) for side in sides))
    for name, side in (("training", data.training), ("validation", data.validation)):
        if not any(item.inputs for item in side):
            raise DataError(
                f"the labels leave no {name} document at validation_share="
                f"{config.validation_share} and split_seed={config.split_seed}"
            )
        labels = np.concatenate([item.word_labels for item in side])
        for label, holds in (("preserve", labels >= 0.5), ("discard", labels < 0.5)):
            if not holds.any():
                raise DataError(
                    f"no word of the {name} documents has class {label} (label "
                    f"{'at least' if label == 'preserve' else 'below'} 0.5): nothing to tell apart"
                )
    return data


def label_windows(documents: Sequence[LabelledInputs]) -> list[TrainingWindow]:
    """The documents' windows with the labels of their positions."""
    windows = []
    for document in documents:
        parts = split_by_window(document, document.token_labels)
        for item, part in zip(document.inputs, parts, strict=True):
            labels = np.full(len(item.ids), IGNORE, dtype=np.float32)
            labels[item.own_start : item.own_end] = part
            windows.append(TrainingWindow(item, labels, document.id))
    return windows


def split_by_window(
    document: LabelledInputs, values: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Cut values of shape (T,) into those of the tokens that each window owns."""
    sizes = [item.own_end - item.own_start for item in document.inputs]
    return np.split(values, np.cumsum(sizes)[:-1]) if sizes else []


def plan_epoch(
    lengths: Sequence[int], *, batch_size: int, micro_batch_size: int, seed: int, epoch: int
) -> list[list[Indices]]:
    """The micro-batches of each step of an epoch, as window indices: every window once.

    A pure function of its arguments, of which the number of workers is none: that is what lets a
    run go on from a saved step on any number of them. Windows of a batch are of similar length.

    Args:
        lengths: Tokens in each window.
        batch_size: Windows per step.
        micro_batch_size: Windows per forward pass.
        seed: Seed of the run.
        epoch: Counted from 0.
    """
    generator = np.random.default_rng([seed % 2**63, epoch])
    order = generator.permutation(len(lengths))
    sizes = np.asarray(lengths)
    batches: list[Indices] = []
    for start in range(0, len(order), batch_size * _BATCHES_PER_POOL):
        pool = order[start : start + batch_size * _BATCHES_PER_POOL]
        pool = pool[np.argsort(sizes[pool], kind="stable")]
        batches.extend(pool[at : at + batch_size] for at in range(0, len(pool), batch_size))
    return [
        [batch[at : at + micro_batch_size] for at in range(0, len(batch), micro_batch_size)]
        for batch in (batches[index] for index in generator.permutation(len(batches)))
    ]


def make_batch(windows: Sequence[TrainingWindow]) -> Batch:
    """Pad windows to the length of the longest."""
    ids_BT, attention_BT = pad_windows([window.input for window in windows])
    labels_BT = torch.full(ids_BT.shape, IGNORE)
    for row, window in enumerate(windows):
        labels_BT[row, : len(window.labels)] = torch.from_numpy(window.labels)
    return Batch(ids_BT, attention_BT, labels_BT)


def pad_windows(inputs: Sequence[EncoderInput]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both (B, T) with T the longest window's.

    The pads' ids are 0: attention leaves them out, so that any id serves.
    """
    longest = max(len(item.ids) for item in inputs)
    ids_BT = torch.zeros(len(inputs), longest, dtype=torch.int64)
    attention_BT = torch.zeros(len(inputs), longest, dtype=torch.int64)
    for row, item in enumerate(inputs):
        ids_BT[row, : len(item.ids)] = torch.tensor(item.ids)
        attention_BT[row, : len(item.ids)] = 1
    return ids_BT, attention_BT
