"""Labelled documents as the encoder reads them: windows, and a label for every token."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moos.engines import EncoderInput
from moos.joined_texts import group_by_chars
from moos.labels import LabelledDocument
from moos.preparation import prepare_texts
from moos.tokens import TextTokenizer
from moos.words import Words


@dataclass(frozen=True, slots=True)
class LabelledInputs:
    """A labelled document as the encoder reads it.

    Attributes:
        id: Name of the record.
        domain: Kind of text.
        inputs: The document's windows, which own each of its T tokens once, in order.
        token_words: The word that owns each token, shape (T,).
        word_labels: Label of each moos word, NaN where there is none, shape (W,).
    """

    id: str
    domain: str
    inputs: list[EncoderInput]
    token_words: NDArray[np.int32]
    word_labels: NDArray[np.float32]

    @property
    def token_labels(self) -> NDArray[np.float32]:
        """Each token has the label of its word, shape (T,)."""
        if len(self.word_labels) == 0:
            return np.full(len(self.token_words), np.nan, dtype=np.float32)
        return self.word_labels[self.token_words]


def label_words(document: LabelledDocument, words: Words) -> NDArray[np.float32]:
    """The label of each moos word: that of the first white-space word it overlaps, shape (W,).

    A moos word is never wider, but may be narrower: `end.` is two, and both get the one label.
    """
    labels = np.full(len(words), np.nan, dtype=np.float32)
    owner = np.searchsorted(document.ends, words.starts, side="right")
    overlaps = owner < len(document.ends)
    overlaps[overlaps] = document.starts[owner[overlaps]] < words.ends[overlaps]
    labels[overlaps] = document.labels[owner[overlaps]]
    return labels


def prepare_inputs(
    documents: Sequence[LabelledDocument], tokenizer: TextTokenizer, max_length: int
) -> list[LabelledInputs]:
    """Cut documents into words, tokens and windows, the same way as `Compressor` does.

    Args:
        documents: What to prepare.
        tokenizer: The encoder's.
        max_length: Most tokens per window, special tokens included.
    """
    all_texts = [document.text for document in documents]
    parts = (
        part
        for texts in group_by_chars(all_texts, [len(text) for text in all_texts])
        for part in prepare_texts(texts, tokenizer, max_length=max_length)
    )
    return [
        LabelledInputs(
            document.id,
            document.domain,
            part.inputs,
            part.token_words,
            label_words(document, part.words),
        )
        for document, part in zip(documents, parts, strict=True)
    ]
