"""Whether word scores rank what people kept above what they deleted, sentence by sentence.

Units are the tokens that white space parts. A reference is aligned to its sentence character by
character; a token counts as kept by it if more than half of its characters are, and as kept at all
if at least half of the references keep it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

from moos.errors import DataError
from moos.evaluation.tasks.sources import read_records
from moos.validation import area_under_curve
from moos.words import cut_words

KEPT_AT = 0.5
"""Share of a sentence's references that must keep a token."""

_TOKEN = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class DeletionExample:
    """A sentence and what people left of it.

    Attributes:
        text: The sentence.
        summaries: Its references, at least one: words of it deleted, the others in their order.
    """

    text: str
    summaries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeletionFigures:
    """How well scores agree with deletions.

    Attributes:
        auc: Chance that a kept token scores above a deleted one, over all sentences together; a
            tie is half.
        sentence_auc: Mean of the same within each sentence, over those with both.
        num_sentences: Sentences.
        num_tokens: Tokens.
        kept_share: Share of them that people kept.
    """

    auc: float
    sentence_auc: float
    num_sentences: int
    num_tokens: int
    kept_share: float


def read_deletions(path: str) -> list[DeletionExample]:
    """Read JSONL of `text` and `summaries`, also `.gz`, a local file or fsspec URL.

    Raises:
        ConfigError: It cannot be opened.
        DataError: It is damaged, or a record lacks a field.
    """
    return [
        DeletionExample(record.text("text"), record.texts("summaries"))
        for record in read_records(path)
    ]


def measure_deletions(
    examples: Sequence[DeletionExample], word_scores: Sequence[NDArray[np.float32]]
) -> DeletionFigures:
    """Agreement of word scores with deletions; NaN where no two tokens can be compared.

    Args:
        examples: The sentences.
        word_scores: For each sentence a score per word, as `cut_words` cuts it and `ScoredText`
            has it; a token's score is the mean of its words'.

    Raises:
        DataError: A sentence has another number of words than of scores.
    """
    labels = [label_tokens(example) for example in examples]
    scores = [
        score_tokens(example.text, values)
        for example, values in zip(examples, word_scores, strict=True)
    ]
    by_sentence = [
        area_under_curve(values, kept) for values, kept in zip(scores, labels, strict=True)
    ]
    comparable = [auc for auc in by_sentence if not np.isnan(auc)]
    all_labels = np.concatenate([np.zeros(0, dtype=np.bool_), *labels])
    all_scores = np.concatenate([np.zeros(0), *scores])
    nan = float("nan")
    return DeletionFigures(
        auc=area_under_curve(all_scores, all_labels),
        sentence_auc=float(np.mean(comparable)) if comparable else nan,
        num_sentences=len(examples),
        num_tokens=len(all_labels),
        kept_share=float(all_labels.mean()) if len(all_labels) else nan,
    )


def label_tokens(example: DeletionExample) -> NDArray[np.bool_]:
    """True for each white-space-separated token that people kept."""
    spans = _token_spans(example.text)
    shares = np.zeros(len(spans))
    for summary in example.summaries:
        kept = np.concatenate([[0], np.cumsum(align_characters(example.text, summary))])
        # Counted doubled, so that exactly half is not most.
        shares += 2 * (kept[spans[:, 1]] - kept[spans[:, 0]]) > spans[:, 1] - spans[:, 0]
    is_kept: NDArray[np.bool_] = shares >= KEPT_AT * len(example.summaries)
    return is_kept


def align_characters(text: str, summary: str) -> NDArray[np.bool_]:
    """True for each character of a text that its summary has, by difflib on lower case."""
    matcher = SequenceMatcher(None, _lower(text), _lower(summary), autojunk=False)
    kept = np.zeros(len(text), dtype=np.bool_)
    for block in matcher.get_matching_blocks():
        kept[block.a : block.a + block.size] = True
    return kept


def score_tokens(text: str, word_scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each white-space-separated token's score: the mean of its words', 0 without any.

    Raises:
        DataError: There are more or fewer scores than words.
    """
    words, spans = cut_words(text), _token_spans(text)
    if len(word_scores) != len(words):
        raise DataError(f"{len(word_scores)} scores for the {len(words)} words of {text!r:.80}")
    # A word is never wider than the token that it is in.
    owners = np.searchsorted(spans[:, 1], words.starts, side="right")
    counts = np.bincount(owners, minlength=len(spans))[: len(spans)]
    sums = np.bincount(owners, weights=word_scores, minlength=len(spans))[: len(spans)]
    means: NDArray[np.float64] = sums / np.maximum(counts, 1)
    return means


def _token_spans(text: str) -> NDArray[np.int64]:
    spans = [match.span() for match in _TOKEN.finditer(text)]
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _lower(text: str) -> str:
    """In lower case, but for the few characters whose lower case is longer than they are."""
    return "".join(low if len(low := c.lower()) == 1 else c for c in text)
