"""From labelled documents to labels on words and tokens, and the split that holds some out.

A labels file is JSONL, one record per document or stretch of one: `id`, `domain`, `text`, and
`soft`, which holds for each white-space-separated word of the text the teacher's probability of
keeping it, or null where the teacher never reached it. `document` names the source document that
several records are cut from (default: the record's own id); `source` says where the text is from.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from moos.engines import EncoderInput
from moos.errors import DataError
from moos.preparation import prepare_text
from moos.tokens import TextTokenizer, check_text
from moos.words import Words

# The standard library's \s agrees with str.split, by which teachers count words; regex's does not.
_SPACED_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class LabelledDocument:
    """A text with a label on each of its white-space-separated words.

    Attributes:
        id: Unique name of the record.
        document: The source document; records of one document never part in a split.
        domain: Kind of text, for figures per domain.
        source: Where the text is from, with its licence.
        text: The text.
        starts: First character of each word, in code points, shape (W,).
        ends: One past the last character of each word, shape (W,).
        labels: Probability that the word is to be kept, NaN where there is no label, shape (W,).
    """

    id: str
    document: str
    domain: str
    source: str
    text: str
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    labels: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LabelledInputs:
    """A labelled document as the encoder reads it.

    Attributes:
        domain: Kind of text.
        inputs: The document's windows, which own each of its T tokens once, in order.
        token_words: The word that owns each token, shape (T,).
        word_labels: Label of each moos word, NaN where there is none, shape (W,).
    """

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


def read_labelled(path: str) -> list[LabelledDocument]:
    """Read a labels file, `.jsonl` or `.jsonl.gz`, from any fsspec URL. Blank lines are skipped.

    Raises:
        DataError: The file cannot be read or holds no record, or a record lacks a field, has
            another number of labels than words, a label outside [0, 1], or an id that was there
            before. The message names the line.
    """
    documents: dict[str, LabelledDocument] = {}
    try:
        with fsspec.open(path, "rt", encoding="utf-8", compression="infer") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                document = _parse_record(line, f"{path}, line {number}")
                if document.id in documents:
                    raise DataError(f"{path}, line {number}: id {document.id!r} was there before")
                documents[document.id] = document
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"labels {path} cannot be read: {error}") from error
    if not documents:
        raise DataError(f"labels {path} hold no record")
    return list(documents.values())


def _parse_record(line: str, where: str) -> LabelledDocument:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{where}: not a JSON object")
    for name in ("id", "domain", "text"):
        if not isinstance(record.get(name), str):
            raise DataError(f"{where}: {name} must be a string, not {record.get(name)!r}")
    text = record["text"]
    check_text(text)
    spans = [match.span() for match in _SPACED_WORD.finditer(text)]
    bounds = np.array(spans, dtype=np.int32).reshape(-1, 2)
    return LabelledDocument(
        id=record["id"],
        document=str(record.get("document", record["id"])),
        domain=record["domain"],
        source=str(record.get("source", "not stated")),
        text=text,
        starts=bounds[:, 0].copy(),
        ends=bounds[:, 1].copy(),
        labels=_parse_labels(record.get("soft"), len(spans), f"{where}, id {record['id']!r}"),
    )


def _parse_labels(soft: Any, num_words: int, where: str) -> NDArray[np.float32]:
    if not isinstance(soft, list):
        raise DataError(f"{where}: soft must be a list with one label per word")
    if len(soft) != num_words:
        raise DataError(f"{where}: {len(soft)} labels for {num_words} words")
    for position, label in enumerate(soft):
        is_number = isinstance(label, int | float) and not isinstance(label, bool)
        if label is not None and not (is_number and 0.0 <= label <= 1.0):
            raise DataError(f"{where}: label {position} is {label!r}, not in [0, 1] and not null")
    return np.array([np.nan if label is None else label for label in soft], dtype=np.float32)


def split_documents(
    documents: Sequence[LabelledDocument], *, validation_share: float, seed: int
) -> tuple[list[LabelledDocument], list[LabelledDocument]]:
    """Training and validation documents, each in the order given.

    Which side a document falls on depends on its name and the seed alone: not on the order, nor on
    the other documents. So the share is met on average, and a grown file keeps its split.
    """
    training: list[LabelledDocument] = []
    validation: list[LabelledDocument] = []
    for document in documents:
        digest = hashlib.sha256(f"{seed}\0{document.document}".encode()).digest()
        held_out = int.from_bytes(digest[:8], "big") < validation_share * 2**64
        (validation if held_out else training).append(document)
    return training, validation


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
    prepared = []
    all_tokens = tokenizer.tokenize([document.text for document in documents])
    for document, tokens in zip(documents, all_tokens, strict=True):
        part = prepare_text(document.text, tokens, tokenizer, max_length=max_length)
        labels = label_words(document, part.words)
        prepared.append(LabelledInputs(document.domain, part.inputs, part.token_words, labels))
    return prepared
