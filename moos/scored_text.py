"""A text with everything that selection needs, and nothing of the model that gave it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moos.checkpoint import Scoring
from moos.corpus import ScoreHistogram
from moos.document import CompressedDocument, WordTable
from moos.engines import TokenScores
from moos.errors import DataError
from moos.joined_texts import JoinedTexts, join_texts, split_column
from moos.phrases import share_scores
from moos.preparation import PreparedText
from moos.rendering import render_texts
from moos.scores import combine_scores, reduce_to_words
from moos.selector import Selector
from moos.words import Words, count_tokens


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A text's words with their scores; columns have the shape (W,), and may be views of a group's.

    Attributes:
        text: The text.
        words: Its words.
        token_counts: The compressor's tokens of each word.
        preserve_probability: Mean (or as configured) over the word's tokens, on the grid of 1/4096.
        outlier_score: The same of the outlier score.
        score: What words are ranked by.
        num_tokens: The compressor's tokens of the whole text.
        num_unknown_tokens: Those that its vocabulary does not know.
        num_letters: Letters of any script.
        num_non_latin_letters: Those of scripts other than Latin.
    """

    text: str
    words: Words
    token_counts: NDArray[np.int32]
    preserve_probability: NDArray[np.float32]
    outlier_score: NDArray[np.float32]
    score: NDArray[np.float32]
    num_tokens: int
    num_unknown_tokens: int
    num_letters: int
    num_non_latin_letters: int


def score_words(
    parts: Sequence[PreparedText], scores: Sequence[TokenScores], scoring: Scoring
) -> list[ScoredText]:
    """Token scores combined, reduced to the texts' words, and shared within phrases.

    Args:
        parts: The texts as the encoder read them, a group of them: `group_by_chars`.
        scores: The engine's scores of each of their windows, in order.
        scoring: How they are combined.
    """
    texts = join_texts([part.text for part in parts], [part.words for part in parts])
    token_words = np.concatenate([_NO_WORDS, *(part.token_words for part in parts)])
    first_words = np.repeat(texts.bounds[:-1], [len(part.token_words) for part in parts])
    is_owned = token_words >= 0  # not so in a text without words
    owners = (token_words + first_words)[is_owned].astype(np.int32)
    probability = np.concatenate([_NO_SCORES, *(item.preserve_probability for item in scores)])
    outlier = np.concatenate([_NO_SCORES, *(item.outlier_score for item in scores)])
    probability, outlier = probability[is_owned], outlier[is_owned]
    combined = combine_scores(probability, outlier, scoring.alpha)
    num_words, how = len(texts.words), scoring.word_score
    score = reduce_to_words(combined, owners, num_words, how)
    if scoring.phrases:
        score = share_scores(score, texts)
    columns = (
        count_tokens(owners, num_words),
        reduce_to_words(probability, owners, num_words, how),
        reduce_to_words(outlier, owners, num_words, how),
        score,
    )
    counts, probabilities, outliers, own_scores = (
        split_column(column, texts.bounds) for column in columns
    )
    return [
        ScoredText(
            text=part.text,
            words=part.words,
            token_counts=counts[place],
            preserve_probability=probabilities[place],
            outlier_score=outliers[place],
            score=own_scores[place],
            num_tokens=len(part.token_words),
            num_unknown_tokens=part.num_unknown_tokens,
            num_letters=part.num_letters,
            num_non_latin_letters=part.num_non_latin_letters,
        )
        for place, part in enumerate(parts)
    ]


@dataclass(frozen=True, slots=True)
class ProtectedText:
    """A scored text and which of its words stay whatever the budget, shape (W,)."""

    scored: ScoredText
    protected: NDArray[np.bool_]


def protect_scored(
    texts: Sequence[ScoredText], selector: Selector
) -> list[ProtectedText | DataError]:
    """Each text with its protected words, or an error where a pattern takes too long on it.

    Args:
        texts: The texts, a group of them: `group_by_chars`.
        selector: What decides.
    """
    joined = _join(texts)
    found = selector.protect(joined)
    masks = split_column(found.mask, joined.bounds)
    return [
        found.errors.get(place) or ProtectedText(text, mask)
        for place, (text, mask) in enumerate(zip(texts, masks, strict=True))
    ]


def count_scores(texts: Sequence[ProtectedText]) -> ScoreHistogram:
    """The texts' tokens by the score of their word."""
    histogram = ScoreHistogram()
    histogram.add_text(
        np.concatenate([_NO_SCORES, *(text.scored.score for text in texts)]),
        np.concatenate([_NO_WORDS, *(text.scored.token_counts for text in texts)]),
        np.concatenate([_NO_FLAGS, *(text.protected for text in texts)]),
        num_tokens=sum(text.scored.num_tokens for text in texts),
    )
    return histogram


def compress_scored(
    texts: Sequence[ScoredText], selector: Selector
) -> list[CompressedDocument | DataError]:
    """Select and render: the rest of a compression once there are scores.

    Args:
        texts: The texts, a group of them: `group_by_chars`.
        selector: What decides.

    Returns:
        A document for each text, or an error where a protected pattern takes too long on it.
    """
    joined = _join(texts)
    found = selector.protect(joined)
    documents = _compress(texts, joined, found.mask, selector)
    return [found.errors.get(place) or document for place, document in enumerate(documents)]


def compress_protected(
    texts: Sequence[ProtectedText], selector: Selector
) -> list[CompressedDocument]:
    """`compress_scored` where the protected words are known.

    Args:
        texts: The texts, a group of them: `group_by_chars`.
        selector: What decides.
    """
    scored = [text.scored for text in texts]
    protected = np.concatenate([_NO_FLAGS, *(text.protected for text in texts)])
    return _compress(scored, _join(scored), protected, selector)


def _compress(
    texts: Sequence[ScoredText],
    joined: JoinedTexts,
    protected: NDArray[np.bool_],
    selector: Selector,
) -> list[CompressedDocument]:
    selection = selector.select(
        joined,
        np.concatenate([_NO_SCORES, *(text.score for text in texts)]),
        np.concatenate([_NO_WORDS, *(text.token_counts for text in texts)]),
        num_tokens=[text.num_tokens for text in texts],
        protected=protected,
    )
    return [
        CompressedDocument(
            text=text,
            spans=spans,
            num_tokens=num_tokens,
            num_kept_tokens=num_kept_tokens,
            over_budget=over_budget,
            num_encoder_tokens=scored.num_tokens,
            num_unknown_tokens=scored.num_unknown_tokens,
            num_letters=scored.num_letters,
            num_non_latin_letters=scored.num_non_latin_letters,
            word_table=WordTable(
                scored.words,
                scored.preserve_probability,
                scored.outlier_score,
                scored.score,
                mask,
                keep,
            ),
        )
        for scored, (text, spans), num_tokens, num_kept_tokens, over_budget, mask, keep in zip(
            texts,
            render_texts(joined, selection.keep),
            selection.num_tokens,
            selection.num_kept_tokens,
            selection.over_budget,
            split_column(protected, joined.bounds),
            split_column(selection.keep, joined.bounds),
            strict=True,
        )
    ]


_NO_WORDS = np.zeros(0, dtype=np.int32)
_NO_SCORES = np.zeros(0, dtype=np.float32)
_NO_FLAGS = np.zeros(0, dtype=np.bool_)


def _join(texts: Sequence[ScoredText]) -> JoinedTexts:
    return join_texts([text.text for text in texts], [text.words for text in texts])
