"""Which words stay whatever their score: one table, each class a regular expression.

A match protects every word it overlaps. The expressions run in time linear in the text, or nearly;
a user's own may not, so matching is given a time limit. The table's are matched on many texts in
one string, and some only where a look at all characters at once says that they may begin.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import regex
from numpy.typing import NDArray

from moos.characters import ALPHANUMERIC, CURRENCY, NUMERAL, SIGN, SPACE, WORD
from moos.config import ProtectedClass
from moos.errors import DataError
from moos.joined_texts import JoinedTexts
from moos.listed_words import keys_of, match_at
from moos.phrases import NUMBER_WORDS
from moos.words import Words

PATTERN_TIMEOUT_S = 20.0

_NEGATIONS = (
    "no|not|nor|none|non|nobody|nothing|nowhere|never|neither|cannot|without|nay|nope|"
    "dont|doesnt|didnt|isnt|wasnt|arent|werent|havent|hasnt|hadnt|couldnt|shouldnt|wouldnt|mustnt|"
    "neednt|cant|wont"
)
Places = Callable[[JoinedTexts], NDArray[np.int64]]
"""From texts to the only places of `joined` at which a match can begin, ascending."""
Span = tuple[int, int]
_PATH_MARKS = np.array([ord(mark) for mark in "./~-"], dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class ProtectedPattern:
    """An expression, and what tells quickly where it does not match.

    Attributes:
        expression: The expression.
        needs: Substrings of which one must occur for it to match (none: any).
        places: Finds where a match can begin; None: anywhere.
        is_alone: It is matched on each text alone, since a match could reach into the next text.
    """

    expression: regex.Pattern[str]
    needs: tuple[str, ...] = ()
    places: Places | None = None
    is_alone: bool = False

    def can_match(self, text: str) -> bool:
        """Whether what it needs is there."""
        return not self.needs or any(part in text for part in self.needs)


def _pattern(
    expression: str,
    *needs: str,
    flags: int = 0,
    places: Places | None = None,
    is_alone: bool = False,
) -> ProtectedPattern:
    compiled = regex.compile(expression, flags | regex.VERBOSE)
    return ProtectedPattern(compiled, needs, places, is_alone)


def _list_places(words: str) -> Places:
    keys = keys_of(words.split("|"))
    return lambda texts: texts.runs.starts[texts.runs.match(keys)]


def _number_places(texts: JoinedTexts) -> NDArray[np.int64]:
    """A numeral behind another character, and signs and currencies up to three before it."""
    is_numeral = np.pad(texts.classes & NUMERAL != 0, (1, 3))
    begins = is_numeral[1:] & ~is_numeral[:-1]
    near = begins[:-3] | begins[1:-2] | begins[2:-1] | begins[3:]
    return np.flatnonzero(near & (texts.classes & (NUMERAL | SIGN | CURRENCY) != 0))


def _negation_places(texts: JoinedTexts) -> NDArray[np.int64]:
    """Apostrophes between an `n` and a `t`."""
    codes = texts.codes
    between = (codes[1:-1] == ord("'")) | (codes[1:-1] == ord("’"))
    lower = codes | 0x20
    return np.flatnonzero(between & (lower[:-2] == ord("n")) & (lower[2:] == ord("t"))) + 1


def _underscore_places(texts: JoinedTexts) -> NDArray[np.int64]:
    """Letters and numerals before an underscore."""
    is_alphanumeric = texts.classes[:-1] & ALPHANUMERIC != 0
    return np.flatnonzero(is_alphanumeric & (texts.codes[1:] == ord("_")))


def _path_places(texts: JoinedTexts) -> NDArray[np.int64]:
    """Where characters of a path begin, between white space with a slash somewhere."""
    stretch = np.cumsum(texts.classes & SPACE != 0)
    has_slash = np.zeros(stretch[-1] + 1, dtype=np.bool_)
    has_slash[stretch[texts.codes == ord("/")]] = True
    is_path = (texts.classes & WORD != 0) | np.isin(texts.codes, _PATH_MARKS)
    begins = is_path & np.concatenate([[True], ~is_path[:-1]])
    return np.flatnonzero(begins & has_slash[stretch])


# Expressions find a telling place, not a whole word: a match protects all of every word it touches.
PROTECTED_CLASSES: dict[ProtectedClass, tuple[ProtectedPattern, ...]] = {
    # Anything with a digit or another numeral, with its currency before and its unit behind.
    "numbers": (
        _pattern(r"(?:[-+−±]?\p{Sc}\s?)?\p{N}++(?:\s?[%‰°])?", places=_number_places),
        _pattern(
            rf"(?<![\p{{L}}\p{{N}}])(?:{NUMBER_WORDS})(?![\p{{L}}\p{{N}}])",
            flags=regex.IGNORECASE,
            places=_list_places(NUMBER_WORDS),
        ),
    ),
    # `no-one` and `non-binding` are one word each, so a match of their first part protects them.
    "negations": (
        _pattern(
            rf"(?<![\p{{L}}\p{{N}}])(?:{_NEGATIONS}|ain['’]?t)(?![\p{{L}}\p{{N}}])",
            flags=regex.IGNORECASE,
            places=_list_places(_NEGATIONS + "|ain|aint"),
        ),
        _pattern(
            r"['’]t(?<=n['’]t)(?![\p{L}\p{N}])",
            flags=regex.IGNORECASE,
            places=_negation_places,
        ),
    ),
    "urls": (
        _pattern(r'://[^\s<>"]++', "://"),
        _pattern(r"\bwww\.[^\s<>\"]++", "www.", "WWW.", "Www.", flags=regex.IGNORECASE),
        _pattern(r"(?<![\w.%+\-])[\w.%+\-]{1,64}+@[\p{L}\p{N}]", "@"),
    ),
    "identifiers": (
        _pattern(r"\p{N}(?:(?<=\p{L}\p{N})|(?=\p{L}))"),  # letters and digits mixed
        # snake_case, __dunder__, T_V_: underscores with letters, but no line of them
        _pattern(r"[\p{L}\p{N}]_", "_", places=_underscore_places),
        _pattern(r"(?<!_)_++[\p{L}\p{N}]\w*+", "_"),
        _pattern(r"\p{Lu}(?<=\p{Ll}\p{Lu})"),  # camelCase
        _pattern(r"\.(?<=[\p{L}\p{N}_]{2}\.)(?=[\p{L}_][\p{L}\p{N}_])", "."),  # dotted.name
        _pattern(  # /absolute, ./relative and ~/home paths, and those with two slashes or more
            r"""(?<![\w./~\-])(?: [.~]{0,2}/[\w.~\-]++(?:/[\w.~\-]*+)*+
              | [\w.~\-]++/[\w.~\-]++/[\w./~\-]*+ )""",
            "/",
            places=_path_places,
        ),
        _pattern(r"""[A-Za-z]:\\[^\s"<>|]++""", ":\\"),  # C:\windows\paths
    ),
    "code": (
        _pattern(r"```.*?```", "```", flags=regex.DOTALL, is_alone=True),
        _pattern(r"(?<!`)`[^`\n]++`(?!`)", "`"),
    ),
}


def compile_patterns(
    classes: Iterable[ProtectedClass], words: Sequence[str] = (), patterns: Sequence[str] = ()
) -> list[ProtectedPattern]:
    """The expressions of the named classes, then the user's words, then the user's patterns."""
    compiled = [pattern for name in classes for pattern in PROTECTED_CLASSES[name]]
    if words:
        any_of = "|".join(regex.escape(word) for word in sorted(words, key=len, reverse=True))
        expression = regex.compile(rf"(?<!\w)(?:{any_of})(?!\w)", regex.IGNORECASE)
        compiled.append(ProtectedPattern(expression, is_alone="\n" in any_of))
    compiled.extend(ProtectedPattern(regex.compile(pattern), is_alone=True) for pattern in patterns)
    return compiled


@dataclass(frozen=True, slots=True)
class Protection:
    """Which words of some texts stay, and of which texts that cannot be told.

    Attributes:
        mask: True for each word that a match overlaps, shape (W,).
        errors: What is wrong with a text, by its place.
    """

    mask: NDArray[np.bool_]
    errors: dict[int, DataError]


def protect_words(
    texts: JoinedTexts, patterns: Sequence[ProtectedPattern], on_progress: Callable[[], None]
) -> Protection:
    """Match the patterns on each text; a match of no characters protects nothing.

    A pattern that takes longer than `PATTERN_TIMEOUT_S` on a text is an error of that text.

    Args:
        texts: The texts.
        patterns: What to match.
        on_progress: Called between matches that may take that long.
    """
    spans: list[Span] = []
    errors: dict[int, DataError] = {}
    for pattern in patterns:
        if not pattern.can_match(texts.joined):
            continue
        found = None if pattern.is_alone else _match_together(pattern, texts)
        if found is None:
            found, failed = _match_each(pattern, texts, errors.keys(), on_progress)
            errors |= failed
        spans.extend(found)
    mask = overlapped_words(texts.words, np.array(spans, dtype=np.int64).reshape(-1, 2))
    return Protection(mask, errors)


def _match_together(pattern: ProtectedPattern, texts: JoinedTexts) -> list[Span] | None:
    """The spans of a pattern in all texts; None where that takes too long."""
    if pattern.places is not None:
        return match_at(pattern.expression, texts.joined, pattern.places(texts))
    try:
        return _match_in_time(pattern, texts.joined)
    except TimeoutError:
        return None


def _match_each(
    pattern: ProtectedPattern,
    texts: JoinedTexts,
    left_out: Collection[int],
    on_progress: Callable[[], None],
) -> tuple[list[Span], dict[int, DataError]]:
    """The spans of a pattern in each text alone, and the errors of those that take too long."""
    spans: list[Span] = []
    errors: dict[int, DataError] = {}
    for place, (text, shift) in enumerate(zip(texts.texts, texts.starts.tolist(), strict=True)):
        if place in left_out or not pattern.can_match(text):
            continue
        on_progress()
        try:
            found = _match_in_time(pattern, text)
        except TimeoutError:
            errors[place] = DataError(
                f"protected pattern {pattern.expression.pattern[:80]!r} took over "
                f"{PATTERN_TIMEOUT_S:.0f} s on this text; simplify it in selection.protect_patterns"
            )
        else:
            spans.extend((start + shift, end + shift) for start, end in found)
    return spans, errors


def _match_in_time(pattern: ProtectedPattern, text: str) -> list[Span]:
    matches = pattern.expression.finditer(text, timeout=PATTERN_TIMEOUT_S)
    return [match.span() for match in matches]


def overlapped_words(words: Words, spans: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True for each word that shares a character with a span, shape (W,).

    Args:
        words: The text's words.
        spans: Half-open character ranges in any order, shape (N, 2).
    """
    spans = spans[spans[:, 1] > spans[:, 0]]
    first = np.searchsorted(words.ends, spans[:, 0], side="right")
    stop = np.searchsorted(words.starts, spans[:, 1], side="left")
    hit = stop > first
    change = np.zeros(len(words) + 1, dtype=np.int64)
    np.add.at(change, first[hit], 1)
    np.add.at(change, stop[hit], -1)
    return np.cumsum(change)[: len(words)] > 0
