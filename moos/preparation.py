"""From a tokenised text to what the encoder reads: the same in training and in use."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from moos.characters import ALPHANUMERIC, NON_LATIN, NUMERAL
from moos.engines import EncoderInput
from moos.errors import DataError
from moos.joined_texts import JoinedTexts, bounds_of, group_by_chars, join_texts, split_column
from moos.tokens import TextTokenizer, Tokens, check_text
from moos.windows import Window, find_sentence_ends, plan_windows, window_capacity
from moos.words import Words, map_tokens


@dataclass(frozen=True, slots=True)
class PreparedText:
    """One text cut into tokens, words and windows; the columns may be views of a group's.

    Attributes:
        text: The text.
        words: Its words.
        token_words: Owning word of each token, -1 in a text without words, shape (T,).
        inputs: The windows as the encoder reads them; together they own each token once, in order.
        num_unknown_tokens: Tokens that the vocabulary does not know.
        num_letters: Letters of any script.
        num_non_latin_letters: Those of scripts other than Latin.
    """

    text: str
    words: Words
    token_words: NDArray[np.int32]
    inputs: list[EncoderInput]
    num_unknown_tokens: int
    num_letters: int
    num_non_latin_letters: int


@dataclass(frozen=True, slots=True)
class TextPreparer:
    """Tokenises texts and cuts them into words and windows; needs no model.

    Attributes:
        tokenizer: The encoder's.
        max_length: Most tokens per window, special tokens included.
        context_tokens: Unscored neighbours to show on each side of a window.
    """

    tokenizer: TextTokenizer
    max_length: int
    context_tokens: int

    def prepare(self, texts: Sequence[str]) -> list[PreparedText | DataError]:
        """Each text prepared, or what is wrong with it, in order."""
        errors = _find_errors(texts)
        sound = [text for text, error in zip(texts, errors, strict=True) if error is None]
        parts = (
            part
            for group in group_by_chars(sound, [len(text) for text in sound])
            for part in prepare_texts(
                group,
                self.tokenizer,
                max_length=self.max_length,
                context_tokens=self.context_tokens,
            )
        )
        return [next(parts) if error is None else error for error in errors]


def _find_errors(texts: Sequence[str]) -> list[DataError | None]:
    try:
        check_text("".join(texts))
    except DataError:
        return [_text_error(text) for text in texts]
    return [None] * len(texts)


def _text_error(text: str) -> DataError | None:
    try:
        check_text(text)
    except DataError as error:
        return error
    return None


def prepare_texts(
    texts: Sequence[str], tokenizer: TextTokenizer, *, max_length: int, context_tokens: int = 0
) -> list[PreparedText]:
    """Cut texts into tokens, words and windows, and put special tokens around each window.

    Args:
        texts: The texts, a group of them: `group_by_chars`.
        tokenizer: The encoder's.
        max_length: Most tokens per window, special tokens included.
        context_tokens: Unscored neighbours to show on each side of a window.

    Raises:
        DataError: A text holds a lone surrogate.
    """
    joined = join_texts(texts)
    words = joined.split_words()
    tokens, bounds = tokenizer.tokenize_group(texts)
    token_words = split_column(_map_tokens(tokens, bounds, joined), bounds)
    plans = _plan(
        joined,
        words,
        token_words,
        max_tokens=max_length - len(tokenizer.prefix_ids) - len(tokenizer.suffix_ids),
        context_tokens=context_tokens,
    )
    inputs = iter(_enclose(tokens.ids, bounds, plans, tokenizer))
    is_letter = joined.classes & (ALPHANUMERIC | NUMERAL) == ALPHANUMERIC
    num_unknown = _count(tokens.ids == tokenizer.unknown_id, bounds[:-1], bounds[1:])
    num_letters = _count(is_letter, joined.starts, joined.ends)
    num_non_latin = _count(joined.classes & NON_LATIN != 0, joined.starts, joined.ends)
    return [
        PreparedText(text, own_words, owners, list(islice(inputs, len(plan))), *counts)
        for text, own_words, owners, plan, *counts in zip(
            texts,
            words,
            token_words,
            plans,
            num_unknown,
            num_letters,
            num_non_latin,
            strict=True,
        )
    ]


def _map_tokens(
    tokens: Tokens, bounds: NDArray[np.int64], joined: JoinedTexts
) -> NDArray[np.int32]:
    """The word that owns each token, counted from its text's first one, as `map_tokens` has it."""
    lengths = np.diff(bounds)
    shift = np.repeat(joined.starts, lengths).astype(np.int32)
    placed = Tokens(tokens.ids, tokens.starts + shift, tokens.ends + shift)
    owners = map_tokens(placed, joined.words)
    # What is behind a text's last word belongs to that, not to the next text's first word. In a
    # text without words this gives -1.
    first = np.repeat(joined.bounds[:-1], lengths)
    last = np.repeat(joined.bounds[1:] - 1, lengths)
    return (np.minimum(owners, last) - first).astype(np.int32)


def _plan(
    joined: JoinedTexts,
    words: Sequence[Words],
    token_words: Sequence[NDArray[np.int32]],
    *,
    max_tokens: int,
    context_tokens: int,
) -> list[list[Window]]:
    """The windows of each text."""
    capacity = window_capacity(max_tokens, context_tokens)
    plans = []
    for index, owners in enumerate(token_words):
        if len(owners) <= capacity:
            plans.append([Window(0, len(owners), 0, len(owners))] if len(owners) else [])
            continue
        classes = joined.classes[joined.starts[index] : joined.ends[index]]
        ends = find_sentence_ends(classes, words[index], owners)
        plans.append(
            plan_windows(owners, ends, max_tokens=max_tokens, context_tokens=context_tokens)
        )
    return plans


def _enclose(
    ids: NDArray[np.int32],
    bounds: NDArray[np.int64],
    plans: Sequence[Sequence[Window]],
    tokenizer: TextTokenizer,
) -> list[EncoderInput]:
    """The windows of all texts with special tokens around each."""
    prefix, suffix = tokenizer.prefix_ids, tokenizer.suffix_ids
    windows = [window for plan in plans for window in plan]
    lengths = np.array([window.end - window.start for window in windows], dtype=np.int64)
    starts = np.array([window.start for window in windows], dtype=np.int64)
    starts += np.repeat(bounds[:-1], [len(plan) for plan in plans])
    places = bounds_of(lengths + len(prefix) + len(suffix))
    filled = np.empty(places[-1], dtype=np.int32)
    rank = np.arange(lengths.sum()) - np.repeat(bounds_of(lengths)[:-1], lengths)
    inside = np.repeat(places[:-1] + len(prefix), lengths) + rank
    filled[inside] = ids[np.repeat(starts, lengths) + rank]
    for place, special in enumerate(prefix):
        filled[places[:-1] + place] = special
    for place, special in enumerate(suffix):
        filled[places[1:] - len(suffix) + place] = special
    return [
        EncoderInput(
            part,
            len(prefix) + window.own_start - window.start,
            len(prefix) + window.own_end - window.start,
        )
        for part, window in zip(split_column(filled, places), windows, strict=True)
    ]


def _count(
    flags: NDArray[np.bool_], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> list[int]:
    """How many flags are set in each of some ranges."""
    parts = zip(starts.tolist(), ends.tolist(), strict=True)
    return [int(np.count_nonzero(flags[start:end])) for start, end in parts]
