"""Which words stay whatever their score: one table, each class a regular expression.

A match protects every word it overlaps. The expressions run in time linear in the text, or nearly;
a user's own may not, so matching is given a time limit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import regex
from numpy.typing import NDArray

from moos.config import ProtectedClass
from moos.errors import DataError
from moos.phrases import NUMBER_WORDS
from moos.words import Words

PATTERN_TIMEOUT_S = 20.0

_NEGATIONS = (
    "no|not|nor|none|non|nobody|nothing|nowhere|never|neither|cannot|without|nay|nope|ain['’]?t|"
    "(?:do|does|did|is|was|are|were|have|has|had|could|should|would|must|need)nt|cant|wont"
)


@dataclass(frozen=True, slots=True)
class ProtectedPattern:
    """An expression, and the substrings of which one must occur for it to match (none: any)."""

    expression: regex.Pattern[str]
    needs: tuple[str, ...] = ()


def _pattern(expression: str, *needs: str, flags: int = 0) -> ProtectedPattern:
    return ProtectedPattern(regex.compile(expression, flags | regex.VERBOSE), needs)


# Expressions find a telling place, not a whole word: a match protects all of every word it touches.
PROTECTED_CLASSES: dict[ProtectedClass, tuple[ProtectedPattern, ...]] = {
    # Anything with a digit or another numeral, with its currency before and its unit behind.
    "numbers": (
        _pattern(r"(?:[-+−±]?\p{Sc}\s?)?\p{N}++(?:\s?[%‰°])?"),
        _pattern(
            rf"(?<![\p{{L}}\p{{N}}])(?=[bdefhmnst])(?:{NUMBER_WORDS})(?![\p{{L}}\p{{N}}])",
            flags=regex.IGNORECASE,
        ),
    ),
    # `no-one` and `non-binding` are one word each, so a match of their first part protects them.
    "negations": (
        _pattern(
            rf"(?<![\p{{L}}\p{{N}}])(?:{_NEGATIONS})(?![\p{{L}}\p{{N}}])", flags=regex.IGNORECASE
        ),
        _pattern(r"['’]t(?<=n['’]t)(?![\p{L}\p{N}])", "'", "’", flags=regex.IGNORECASE),
    ),
    "urls": (
        _pattern(r'://[^\s<>"]++', "://"),
        _pattern(r"\bwww\.[^\s<>\"]++", "www.", "WWW.", "Www.", flags=regex.IGNORECASE),
        _pattern(r"(?<![\w.%+\-])[\w.%+\-]{1,64}+@[\p{L}\p{N}]", "@"),
    ),
    "identifiers": (
        _pattern(r"\p{N}(?:(?<=\p{L}\p{N})|(?=\p{L}))"),  # letters and digits mixed
        # snake_case, __dunder__, T_V_: underscores with letters, but no line of them
        _pattern(r"[\p{L}\p{N}]_", "_", flags=regex.REVERSE),
        _pattern(r"(?<!_)_++[\p{L}\p{N}]\w*+", "_"),
        _pattern(r"\p{Lu}(?<=\p{Ll}\p{Lu})"),  # camelCase
        _pattern(r"\.(?<=[\p{L}\p{N}_]{2}\.)(?=[\p{L}_][\p{L}\p{N}_])", "."),  # dotted.name
        _pattern(  # /absolute, ./relative and ~/home paths, and those with two slashes or more
            r"""(?<![\w./~\-])(?: [.~]{0,2}/[\w.~\-]++(?:/[\w.~\-]*+)*+
              | [\w.~\-]++/[\w.~\-]++/[\w./~\-]*+ )""",
            "/",
        ),
        _pattern(r"""[A-Za-z]:\\[^\s"<>|]++""", ":\\"),  # C:\windows\paths
    ),
    "code": (
        _pattern(r"```.*?```", "```", flags=regex.DOTALL),
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
        compiled.append(ProtectedPattern(expression))
    compiled.extend(ProtectedPattern(regex.compile(pattern)) for pattern in patterns)
    return compiled


def protect_words(
    text: str, words: Words, patterns: Sequence[ProtectedPattern]
) -> NDArray[np.bool_]:
    """True for each word that a match overlaps, shape (W,).

    A match of no characters protects nothing.

    Raises:
        DataError: A pattern took longer than `PATTERN_TIMEOUT_S` on this text.
    """
    spans: list[tuple[int, int]] = []
    for pattern in patterns:
        if pattern.needs and not any(part in text for part in pattern.needs):
            continue
        try:
            spans.extend(
                match.span()
                for match in pattern.expression.finditer(text, timeout=PATTERN_TIMEOUT_S)
            )
        except TimeoutError as error:
            raise DataError(
                f"protected pattern {pattern.expression.pattern[:80]!r} took over "
                f"{PATTERN_TIMEOUT_S:.0f} s on this text; simplify it in selection.protect_patterns"
            ) from error
    return overlapped_words(words, np.array(spans, dtype=np.int64).reshape(-1, 2))


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
