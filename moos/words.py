"""From text to words, and from tokens to the words they belong to.

Words are cut on the original text, whatever the encoder's vocabulary, in time linear in the text:
the rules say which character is glued to the one before it, and numpy does the rest. (A regular
expression for the same rules took five times as long as tokenising, and ran out of memory on a
word of 5 MB.)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import regex
from numpy.typing import NDArray

from moos import characters as ch
from moos.tokens import Tokens

MAX_WORD_CHARS = 64
MAX_URL_CHARS = 2048

URL = regex.compile(
    rf"""(?:(?<![a-z0-9+.\-])[a-z][a-z0-9+.\-]{{1,15}}://|\bwww\.)
         [^\s<>"`]{{0,{MAX_URL_CHARS}}}[^\s<>"`.,;:!?'’)\]}}…]""",
    regex.VERBOSE | regex.IGNORECASE,
)
_URL_SIGN = regex.compile(r"://|www\.", regex.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one text, in reading order, disjoint.

    Attributes:
        starts: First character of each word, in code points, shape (W,).
        ends: One past the last character of each word, shape (W,).
    """

    starts: NDArray[np.int32]
    ends: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.starts)


def cut_words(text: str, classes: NDArray[np.uint32] | None = None) -> Words:
    """Cut a text into words; every character that is not white space is in exactly one.

    A word is a URL; a number with its sign and unit symbol (`-3`, `$2.3`, `15%`); a run of letters
    and digits with inner joiners (`don't`, `1,234.5`, `foo_bar.py`); a Han or Hiragana character;
    a run of Katakana; an emoji with its modifiers; or any other single character, each with the
    combining marks behind it. Words over 64 characters are cut, URLs excepted.

    Args:
        text: Any string.
        classes: `characters.classify(text)`, when the caller has it already.
    """
    if classes is None:
        classes = ch.classify(text)
    glued = _glue(np.pad(classes, 2))
    is_space = (classes & ch.SPACE) != 0
    is_url = np.zeros(len(classes), dtype=np.bool_)
    for start, end in _find_urls(text, is_space):
        glued[start] = False
        glued[start + 1 : end] = True
        glued[end : end + 1] = False
        is_url[start:end] = True
    after_space = np.concatenate([[True], is_space[:-1]]) if len(classes) else is_space
    begins = ~is_space & (after_space | ~glued)
    # A word ends where the next begins, or at the white space before that.
    stops = np.append(np.flatnonzero(begins | is_space), len(classes))
    is_start = begins[stops[:-1]]
    starts, ends = stops[:-1][is_start], stops[1:][is_start]
    if len(starts) and (ends - starts).max() > MAX_WORD_CHARS:
        starts, ends = _cut_long(starts, ends, is_url)
    return Words(starts.astype(np.int32), ends.astype(np.int32))


def _find_urls(text: str, is_space: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """The spans of URLs, looked for between the white space around what tells one."""
    if "://" not in text and "www." not in text.lower():
        return
    spaces = np.flatnonzero(is_space)
    stop = 0
    for sign in _URL_SIGN.finditer(text):
        if sign.start() < stop:
            continue
        behind = int(np.searchsorted(spaces, sign.start()))
        start = int(spaces[behind - 1]) + 1 if behind else 0
        stop = int(spaces[behind]) if behind < len(spaces) else len(text)
        for match in URL.finditer(text, start, stop):
            yield match.span()


def _glue(filled: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """True for each character that belongs to the word of the one before it.

    `filled` holds the class bits with two empty characters on either side.
    """
    mark = (filled & ch.MARK) != 0
    position = np.arange(len(filled))
    # A mark is what the character below it is: the letter behind an accented one goes on its word.
    base = filled
    if mark.any():
        base = filled[np.maximum.accumulate(np.where(mark, 0, position))]

    def has(bit: int, shift: int = 0) -> NDArray[np.bool_]:
        bits = filled if shift >= 0 else base
        found: NDArray[np.bool_] = (bits[2 + shift : len(filled) - 2 + shift] & bit) != 0
        return found

    letter, digit = has(ch.LETTER), has(ch.DIGIT)
    after_letter, before_digit = has(ch.LETTER, -1), has(ch.DIGIT, 1)
    glued = letter & after_letter
    glued |= mark[2:-2] & ((filled[1:-3] & ch.SPACE) == 0)
    glued |= has(ch.KATAKANA) & has(ch.KATAKANA, -1)
    glued |= has(ch.UNIT) & has(ch.DIGIT, -1)
    glued |= has(ch.SKIN_TONE) & has(ch.PICTOGRAPH, -1)
    # These glue themselves to the left, or the next character to themselves.
    joins = has(ch.JOINER) & after_letter & has(ch.LETTER, 1)
    after_emoji = has(ch.PICTOGRAPH | ch.SKIN_TONE, -1)
    joins |= has(ch.EMOJI_JOINER) & after_emoji & has(ch.PICTOGRAPH, 1)
    glued |= joins
    opens = has(ch.CURRENCY) & before_digit
    point_after = has(ch.JOINER, 2) & has(ch.SENTENCE_END, 2)
    can_sign = has(ch.SIGN) & ~after_letter & ~has(ch.CLOSING, -1)
    opens |= can_sign & (before_digit | (has(ch.CURRENCY, 1) & (has(ch.DIGIT, 2) | point_after)))
    glued[1:] |= (joins | opens)[:-1]
    glued |= _decimal_point(filled, digit)
    flags = has(ch.REGIONAL)
    if flags.any():
        position = position[: len(flags)]
        run_start = np.maximum.accumulate(np.where(flags & ~has(ch.REGIONAL, -1), position, 0))
        glued |= flags & ((position - run_start) % 2 == 1)
    return glued


def _decimal_point(filled: NDArray[np.uint32], digit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Glue the digits, sign and currency of a number that opens with its point (`-.5`, `$.5`)."""
    middle = filled[2:-2]
    point = (middle & (ch.JOINER | ch.SENTENCE_END)) == (ch.JOINER | ch.SENTENCE_END)
    before = filled[1:-3]
    opening = point & ((before & (ch.LETTER | ch.SENTENCE_END)) == 0)
    opening[:-1] &= digit[1:]
    opening[-1:] = False
    glued = np.zeros(len(middle), dtype=np.bool_)
    glued[1:] = opening[:-1]
    signed = (before & ch.SIGN != 0) & (filled[:-4] & (ch.LETTER | ch.CLOSING) == 0)
    glued |= opening & ((before & ch.CURRENCY != 0) | signed)
    return glued


def _cut_long(
    starts: NDArray[np.int64], ends: NDArray[np.int64], is_url: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    parts = np.where(is_url[starts], 1, -(-(ends - starts) // MAX_WORD_CHARS))
    owner = np.repeat(np.arange(len(starts)), parts)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(parts) - parts, parts)
    cut_starts = starts[owner] + rank * MAX_WORD_CHARS
    is_last = rank == parts[owner] - 1
    return cut_starts, np.where(is_last, ends[owner], cut_starts + MAX_WORD_CHARS)


def map_tokens(tokens: Tokens, words: Words) -> NDArray[np.int32]:
    """The word that owns each token, shape (T,).

    A token belongs to the first word it overlaps, a token of white space alone to the next word,
    and one after the last word to that. Without words, every entry is -1.
    """
    if len(words) == 0:
        return np.full(len(tokens), -1, dtype=np.int32)
    # The first word that ends behind the token's start either overlaps the token or follows it.
    owner = np.searchsorted(words.ends, tokens.starts, side="right")
    return np.minimum(owner, len(words) - 1).astype(np.int32)


def count_tokens(token_words: NDArray[np.int32], num_words: int) -> NDArray[np.int32]:
    """Tokens of each word, shape (W,); 0 for a word that no token belongs to."""
    if num_words == 0:
        return np.zeros(0, dtype=np.int32)
    return np.bincount(token_words, minlength=num_words).astype(np.int32)
