"""From tokens to windows: the stretches of text that the encoder reads at once."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from moos.characters import NEWLINE, SENTENCE_END
from moos.words import Words


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive tokens of one text: `[start, end)` is read, `[own_start, own_end)` is scored."""

    start: int
    end: int
    own_start: int
    own_end: int


def find_sentence_ends(
    classes: NDArray[np.uint32], words: Words, token_words: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """True for each token after which a sentence or line ends, shape (T,).

    That is the last token of a word that is a sentence mark, or that a line break follows.

    Args:
        classes: `characters.classify` of the text.
        words: The text's words.
        token_words: Owning word of each token, shape (T,).
    """
    if len(words) == 0:
        return np.zeros(len(token_words), dtype=np.bool_)
    is_mark = (words.ends - words.starts == 1) & (classes[words.starts] & SENTENCE_END != 0)
    num_breaks = np.concatenate([[0], np.cumsum(classes & NEWLINE != 0)])
    next_starts = np.append(words.starts[1:], len(classes))
    word_ends = is_mark | (num_breaks[next_starts] > num_breaks[words.ends])
    found: NDArray[np.bool_] = word_ends[token_words] & _ends_word(token_words)
    return found


def _ends_word(token_words: NDArray[np.int32]) -> NDArray[np.bool_]:
    return np.append(token_words[1:] != token_words[:-1], True)[: len(token_words)]


def plan_windows(
    token_words: NDArray[np.int32],
    sentence_ends: NDArray[np.bool_],
    *,
    max_tokens: int,
    context_tokens: int = 0,
) -> list[Window]:
    """Cut tokens into windows of similar size; every token is owned by exactly one.

    A cut falls on the sentence end nearest to an even split, else on the nearest word end, else
    anywhere. No tokens give no window.

    Args:
        token_words: Owning word of each token, shape (T,).
        sentence_ends: True where a sentence ends after the token, shape (T,).
        max_tokens: Most tokens a window may hold, context included, special tokens not.
        context_tokens: Unscored neighbours to show on each side, at most a quarter of `max_tokens`
            on each side in effect.
    """
    num_tokens = len(token_words)
    context = _context(max_tokens, context_tokens)
    capacity = window_capacity(max_tokens, context_tokens)
    word_ends = _ends_word(token_words)
    cuts = [0]
    while cuts[-1] < num_tokens:
        left = num_tokens - cuts[-1]
        if left <= capacity:
            cuts.append(num_tokens)
            continue
        ideal = cuts[-1] + -(-left // -(-left // capacity))
        latest = cuts[-1] + capacity
        earliest = max(cuts[-1] + 1, ideal - capacity // 3)
        cuts.append(
            _nearest(sentence_ends, earliest, latest, ideal)
            or _nearest(word_ends, earliest, latest, ideal)
            or ideal
        )
    return [
        Window(max(0, start - context), min(num_tokens, end + context), start, end)
        for start, end in pairwise(cuts)
    ]


def window_capacity(max_tokens: int, context_tokens: int) -> int:
    """Most tokens that a window owns; a text of no more has one window."""
    return max_tokens - 2 * _context(max_tokens, context_tokens)


def _context(max_tokens: int, context_tokens: int) -> int:
    return min(context_tokens, max_tokens // 4)


def _nearest(flags: NDArray[np.bool_], earliest: int, latest: int, ideal: int) -> int | None:
    """The cut in [earliest, latest] nearest to `ideal` whose preceding token is flagged."""
    cuts = np.flatnonzero(flags[earliest - 1 : latest]) + earliest
    if len(cuts) == 0:
        return None
    return int(cuts[np.argmin(np.abs(cuts - ideal))])
