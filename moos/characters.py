"""What each Unicode character is to the word cutter and the renderer: one table of bits."""

from functools import lru_cache

import numpy as np
import regex
from numpy.typing import NDArray

SPACE = 1 << 0
LETTER = 1 << 1
"""Letter or digit of a script written with spaces: runs of these are words."""
DIGIT = 1 << 2
MARK = 1 << 3
"""Combining mark, variation selector or emoji tag: stays with the character before it."""
JOINER = 1 << 4
"""Joins letters into one word where it stands between two of them."""
KATAKANA = 1 << 5
SPACELESS = 1 << 6
"""Character of a script written without spaces between words."""
CURRENCY = 1 << 7
SIGN = 1 << 8
UNIT = 1 << 9
PICTOGRAPH = 1 << 10
SKIN_TONE = 1 << 11
REGIONAL = 1 << 12
NEWLINE = 1 << 13
SENTENCE_END = 1 << 14
CLOSING = 1 << 15
"""Punctuation that stands directly behind the word it closes."""
NON_LATIN = 1 << 16
"""Letter of a script other than Latin."""
EMOJI_JOINER = 1 << 17
"""Zero-width joiner: makes one emoji of two."""
UPPERCASE = 1 << 18
NUMERAL = 1 << 19
ALPHANUMERIC = 1 << 20
"""Letter or numeral of any script."""
WORD = 1 << 21
"""What `\\w` matches: letters, marks, digits and underscores, but no fractions."""

_SPACELESS_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_CLASSES = {
    SPACE: r"\s",
    LETTER: r"[[\p{L}\p{N}]--[\p{Han}\p{Hiragana}\p{Katakana}ー]]",
    DIGIT: r"\p{Nd}",
    MARK: r"[\p{M}\U000E0020-\U000E007F]",
    JOINER: r"['’\-.,_/@:\u00ad\u200c\u200d]",
    KATAKANA: r"[\p{Katakana}ー]",
    SPACELESS: rf"[{_SPACELESS_SCRIPTS}ー、。，！？：；]",
    CURRENCY: r"\p{Sc}",
    SIGN: r"[-+−±]",
    UNIT: r"[%‰°]",
    PICTOGRAPH: r"[\p{Extended_Pictographic}--[\p{N}]]",
    SKIN_TONE: r"\p{Emoji_Modifier}",
    REGIONAL: r"\p{Regional_Indicator}",
    NEWLINE: r"[\n\r\u2028\u2029]",
    SENTENCE_END: r"[.?!…。！？؟।]",
    CLOSING: r"[.,;:!?…%)\]}»”’。，、！？；：）】」』؟،।]",
    EMOJI_JOINER: r"\u200d",
    UPPERCASE: r"\p{Lu}",
    NON_LATIN: r"[\p{L}--\p{Latin}]",
    NUMERAL: r"\p{N}",
    ALPHANUMERIC: r"[\p{L}\p{N}]",
    WORD: r"\w",
}


def every_character() -> str:
    """All code points in order, each surrogate with a stand-in of no class in its place."""
    low, high = 0xD800, 0xE000
    return (
        "".join(map(chr, range(low)))
        + "\ue000" * (high - low)
        + "".join(map(chr, range(high, 0x110000)))
    )


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint32]:
    everything = every_character()
    table = np.zeros(len(everything), dtype=np.uint32)
    for bit, pattern in _CLASSES.items():
        for match in regex.finditer(f"(?:{pattern})+", everything, flags=regex.V1):
            table[match.start() : match.end()] |= bit
    return table


def code_points(text: str) -> NDArray[np.uint32]:
    """The code point of each character, shape (number of code points,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def look_up(codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The class bits of each code point, same shape; a lone surrogate has no class."""
    return _table().take(codes)


def classify(text: str) -> NDArray[np.uint32]:
    """The class bits of each character, shape (number of code points,)."""
    return look_up(code_points(text))
