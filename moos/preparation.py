"""From a tokenised text to what the encoder reads: the same in training and in use."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moos.characters import NON_LATIN, classify
from moos.engines import EncoderInput
from moos.errors import DataError
from moos.tokens import TextTokenizer, Tokens, check_text
from moos.windows import find_sentence_ends, plan_windows
from moos.words import Words, cut_words, map_tokens


@dataclass(frozen=True, slots=True)
class PreparedText:
    """One text cut into tokens, words and windows.

    Attributes:
        text: The text.
        tokens: Its tokens.
        words: Its words.
        token_words: Owning word of each token, shape (T,).
        inputs: The windows as the encoder reads them; together they own each token once, in order.
        num_unknown_tokens: Tokens that the vocabulary does not know.
        num_non_latin_chars: Letters in scripts other than Latin.
    """

    text: str
    tokens: Tokens
    words: Words
    token_words: NDArray[np.int32]
    inputs: list[EncoderInput]
    num_unknown_tokens: int
    num_non_latin_chars: int


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
        errors = [_text_error(text) for text in texts]
        sound = [text for text, error in zip(texts, errors, strict=True) if error is None]
        parts = (
            prepare_text(
                text,
                tokens,
                self.tokenizer,
                max_length=self.max_length,
                context_tokens=self.context_tokens,
            )
            for text, tokens in zip(sound, self.tokenizer.tokenize(sound), strict=True)
        )
        return [next(parts) if error is None else error for error in errors]


def _text_error(text: str) -> DataError | None:
    try:
        check_text(text)
    except DataError as error:
        return error
    return None


def prepare_text(
    text: str,
    tokens: Tokens,
    tokenizer: TextTokenizer,
    *,
    max_length: int,
    context_tokens: int = 0,
) -> PreparedText:
    """Cut a text into words and windows, and put special tokens around each window.

    Args:
        text: The text.
        tokens: Its tokens, by `tokenizer`.
        tokenizer: The encoder's.
        max_length: Most tokens per window, special tokens included.
        context_tokens: Unscored neighbours to show on each side of a window.
    """
    classes = classify(text)
    words = cut_words(text, classes)
    token_words = map_tokens(tokens, words)
    prefix, suffix = tokenizer.prefix_ids, tokenizer.suffix_ids
    windows = plan_windows(
        token_words,
        find_sentence_ends(classes, words, token_words),
        max_tokens=max_length - len(prefix) - len(suffix),
        context_tokens=context_tokens,
    )
    inputs = [
        EncoderInput(
            np.concatenate([prefix, tokens.ids[w.start : w.end], suffix]).astype(np.int32),
            len(prefix) + w.own_start - w.start,
            len(prefix) + w.own_end - w.start,
        )
        for w in windows
    ]
    return PreparedText(
        text,
        tokens,
        words,
        token_words,
        inputs,
        num_unknown_tokens=int((tokens.ids == tokenizer.unknown_id).sum())
        if tokenizer.unknown_id is not None
        else 0,
        num_non_latin_chars=int(np.count_nonzero(classes & NON_LATIN)),
    )
