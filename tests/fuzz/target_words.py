"""The word cutter: words cover a text, in order and disjoint, and so do the tokens of its words.

A case: two bytes choose which patterns protect, the rest is text; NUL parts it into several.
"""

import functools

import numpy as np

from moos.checkpoint_files import DEFAULT_DIRECTORY
from moos.config import ALL_PROTECTED
from moos.joined_texts import join_texts
from moos.protect import compile_patterns, protect_words
from moos.tokens import TextTokenizer
from moos.words import MAX_WORD_CHARS, count_tokens, cut_words, map_tokens
from tests.fuzz.choices import Choices

# Unicode's property White_Space, written out.
WHITE = frozenset(
    map(chr, [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029])
) | {"\u202f", "\u205f", "\u3000"}

_TEXTS = (
    "The price rose by $2.3 (-3.5%) to 1,234.5; see https://example.org/a_b?c=1#d. Don't!",
    "foo_bar.py, e-mail@x.org, C:\\temp\\x and ./relative/path/to; snake_case camelCase x2y",
    "```python\ncode(`x`)\n``` and `inline` no-one isn't cannot\n\nnew\r\nline\u2028sep",
    "漢字かなアイウー。 กขค 👩‍👩‍👧 👍🏽 🇩🇪🇫 e\u0301\u0301 \u0301x ½ Ⅷ ٣ ４５ www.a.b",
    "x" * 70 + "://" + "y" * 70 + " -.5 $.5 €-3 +€3 1.2.3. ...a.b",
    "one\x00two\x00\x00 \x00three four",
)
SEEDS = tuple(bytes([31, 0, 0]) + text.encode() for text in _TEXTS)
SEEDS += tuple(bytes([31, 0, 1]) + bytes(range(start, start + 40)) for start in range(0, 160, 20))
_PARTS = (
    "www. http:// n't ’t ``` ` @x \u200d \ufe0f \u0301 -.5 $.5 1,2 a_b C:\\ ./a/b no-one 🇩🇪 ://"
)
DICTIONARY = tuple(part.encode() for part in (*_PARTS.split(" "), "\r\n", "\u2028", "\x00"))


def check(data: bytes) -> None:
    """One case; raises where words or tokens break a promise."""
    choices = Choices(data)
    classes = choices.byte()
    patterns = compile_patterns(
        [name for bit, name in enumerate(ALL_PROTECTED) if classes >> bit & 1],
        *(((), ()), (("two", "don't"), ()), ((), (r"\b\w", "x*")))[choices.byte() % 3],
    )
    texts = choices.rest_text().split("\x00")
    joined = join_texts(texts)
    protection = protect_words(joined, patterns, lambda: None)
    assert protection.errors == {}
    for place, (text, together) in enumerate(zip(texts, joined.split_words(), strict=True)):
        alone = cut_words(text)
        assert np.array_equal(alone.starts, together.starts)
        assert np.array_equal(alone.ends, together.ends)
        _check_words(text, alone.starts.tolist(), alone.ends.tolist())
        mask = protect_words(join_texts([text]), patterns, lambda: None).mask
        start, stop = joined.bounds[place : place + 2]
        assert np.array_equal(mask, protection.mask[start:stop])
    _check_tokens([text for text in texts if not any("\ud800" <= c <= "\udfff" for c in text)])


def _check_words(text: str, starts: list[int], ends: list[int]) -> None:
    covered = [False] * len(text)
    previous = 0
    for start, end in zip(starts, ends, strict=True):
        assert previous <= start < end <= len(text), "in order, disjoint, inside, not empty"
        previous = end
        word = text[start:end]
        is_url = "://" in word or "www." in word.lower()
        assert len(word) <= MAX_WORD_CHARS or is_url, "a long word is cut"
        for at in range(start, end):
            covered[at] = True
    for character, is_covered in zip(text, covered, strict=True):
        assert is_covered == (character not in WHITE), "what is not white space is in a word"


def _check_tokens(texts: list[str]) -> None:
    for text, tokens in zip(texts, _tokenizer().tokenize(texts), strict=True):
        assert (tokens.starts >= 0).all()
        assert (tokens.starts <= tokens.ends).all()
        assert (tokens.ends <= len(text)).all()
        assert (np.diff(tokens.starts) >= 0).all()
        words = cut_words(text)
        owners = map_tokens(tokens, words)
        if len(words):
            assert int(count_tokens(owners, len(words)).sum()) == len(tokens)
            assert (np.diff(owners) >= 0).all(), "tokens follow their words"
            for start, end, owner in zip(tokens.starts, tokens.ends, owners, strict=True):
                if text[start:end].strip("".join(WHITE)):
                    overlaps = words.starts[owner] < end and start < words.ends[owner]
                    assert overlaps, "a token that is seen lies on its word"


@functools.cache
def _tokenizer() -> TextTokenizer:
    return TextTokenizer.from_file(DEFAULT_DIRECTORY / "tokenizer.json")
