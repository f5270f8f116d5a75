"""A text with everything that selection needs, and nothing of the model that gave it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moos.checkpoint import Scoring
from moos.document import CompressedDocument, WordTable
from moos.engines import TokenScores
from moos.phrases import share_scores
from moos.preparation import PreparedText
from moos.rendering import merge_kept_words, render
from moos.scores import combine_scores, reduce_to_words
from moos.selector import Selector
from moos.words import Words, count_tokens


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A text's words with their scores; columns have the shape (W,).

    Attributes:
        text: The text.
        words: Its words.
        token_counts: The compressor's tokens of each word.
        preserve_probability: Mean (or as configured) over the word's tokens, on the grid of 1/4096.
        outlier_score: The same of the outlier score.
        score: What words are ranked by.
        num_tokens: The compressor's tokens of the whole text.
        num_unknown_tokens: Those that its vocabulary does not know.
        num_non_latin_chars: Letters in scripts other than Latin.
    """

    text: str
    words: Words
    token_counts: NDArray[np.int32]
    preserve_probability: NDArray[np.float32]
    outlier_score: NDArray[np.float32]
    score: NDArray[np.float32]
    num_tokens: int
    num_unknown_tokens: int
    num_non_latin_chars: int


def score_words(part: PreparedText, scores: Sequence[TokenScores], scoring: Scoring) -> ScoredText:
    """Token scores combined, reduced to the text's words, and shared within phrases.

    Args:
        part: The text as the encoder read it.
        scores: The engine's scores of each of its windows, in order.
        scoring: How they are combined.
    """
    probability = _concatenate([item.preserve_probability for item in scores])
    outlier = _concatenate([item.outlier_score for item in scores])
    num_words, owners, how = len(part.words), part.token_words, scoring.word_score
    combined = combine_scores(probability, outlier, scoring.alpha)
    score = reduce_to_words(combined, owners, num_words, how)
    if scoring.phrases:
        score = share_scores(score, part.text, part.words)
    return ScoredText(
        text=part.text,
        words=part.words,
        token_counts=count_tokens(owners, num_words),
        preserve_probability=reduce_to_words(probability, owners, num_words, how),
        outlier_score=reduce_to_words(outlier, owners, num_words, how),
        score=score,
        num_tokens=len(part.tokens),
        num_unknown_tokens=part.num_unknown_tokens,
        num_non_latin_chars=part.num_non_latin_chars,
    )


def compress_scored(
    scored: ScoredText, selector: Selector, protected: NDArray[np.bool_] | None = None
) -> CompressedDocument:
    """Select and render: the rest of a compression once there are scores.

    Args:
        scored: The text.
        selector: What decides.
        protected: The protected words, shape (W,), where they are known already.

    Raises:
        DataError: A protected pattern takes too long on this text.
    """
    selection = selector.select(
        scored.text,
        scored.words,
        scored.score,
        scored.token_counts,
        num_tokens=scored.num_tokens,
        protected=protected,
    )
    spans = merge_kept_words(selection.keep, scored.words, len(scored.text))
    return CompressedDocument(
        text=render(scored.text, spans),
        spans=spans,
        num_tokens=selection.num_tokens,
        num_kept_tokens=selection.num_kept_tokens,
        over_budget=selection.over_budget,
        num_encoder_tokens=scored.num_tokens,
        num_unknown_tokens=scored.num_unknown_tokens,
        num_non_latin_chars=scored.num_non_latin_chars,
        word_table=WordTable(
            scored.words,
            scored.preserve_probability,
            scored.outlier_score,
            scored.score,
            selection.protected,
            selection.keep,
        ),
    )


def _concatenate(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
