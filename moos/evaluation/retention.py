"""What a compression still holds of a text's facts, told without a reader.

Facts are found in the original by expressions of this module's own, since they judge what
`moos.protect` protects. A fact is kept if the compression has its letters, digits and marks in a
row, whatever white space between them: methods that put their words together anew (`3 . 5` for
`3.5`) are not told apart from those that cut slices. Each place of the compression counts for one
fact of a kind, so that a number said twice and kept once is half lost.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import regex

FactKind = Literal["numbers", "negations", "urls", "identifiers", "names"]
FACT_KINDS: tuple[FactKind, ...] = get_args(FactKind)

Pieces = tuple[str, ...]
"""A text's runs of letters, runs of digits, and other marks, without its white space."""

_PIECE = regex.compile(r"\p{L}\p{M}*(?:\p{L}|\p{M})*|\d+|[^\s\p{L}\d]")

_URL = regex.compile(
    r"(?:\b[a-z][a-z+.-]{0,15}://|\bwww\.)\S+|\b[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+", regex.IGNORECASE
)
_URL_END = ".,;:!?'\")]}>"

# A number with its sign and decimals; letters may follow (`15km`, `3rd`) unless digits follow them.
_NUMBER = regex.compile(
    r"(?:(?<![\w)\]])[-−])?(?<![\p{L}_\d])(?<!\d[.,:])\d++(?:[.,:]\d++)*+(?!\p{L}+\d)(?!_)"
)

_NEGATION = regex.compile(
    r"\b(?:no|not|never|none|nobody|nothing|nowhere|neither|nor|without|cannot)\b|\b\w*n['’]t\b",
    regex.IGNORECASE,
)

_IDENTIFIER = regex.compile(
    r"""(?<![\w.])(?:
        (?:[~.]{0,2}/)(?:[\w.-]+/)*[\w-][\w.-]*        # /absolute, ./relative, ~/home
      | [A-Za-z_]\w+(?:\.[a-z_]\w+)+                   # dotted.names and file.endings
      | (?=\w*[A-Za-z])\w*[A-Za-z0-9]_\w+              # snake_case
      | [a-z]+[A-Z]\w*                                 # camelCase
      | (?!Mc|Mac)[A-Z][a-z]+[A-Z]\w*                  # PascalCase, but no McDonald
      | [A-Za-z]+\d\w* | [A-Z][A-Za-z]*-\d[\w-]*       # B2B, x86_64, GPT-4
      | \d+[A-Za-z]+\d\w*                              # 8f3a
    )""",
    regex.VERBOSE,
)

# Within a sentence: behind a word or a comma and one space. No colon: a speaker's words follow it.
_NAME = regex.compile(r"(?<=[\w,;)’'\"] )(?!I\b)\p{Lu}(?:[\w’'-]*\w)?")

# Uncased compressors give names in lower case; to an identifier, case belongs.
_CASE_COUNTS: frozenset[FactKind] = frozenset({"identifiers"})


@dataclass(frozen=True, slots=True)
class KeptFacts:
    """How many facts of a kind were there, and how many a compression keeps."""

    num_facts: int
    num_kept: int

    @property
    def share(self) -> float:
        """Kept / there; NaN without any."""
        return self.num_kept / self.num_facts if self.num_facts else float("nan")


def find_facts(text: str) -> dict[FactKind, list[str]]:
    """A text's facts of each kind, repeated ones each time, in their order.

    Numbers are those in digits. Names are words that are capitalised within a sentence, part by
    part: a cheap rule, which misses names that begin a sentence and takes every word of a heading.
    What is in a URL is no identifier.
    """
    urls = [match.rstrip(_URL_END) for match in _URL.findall(text)]
    without_urls = _URL.sub(" ", text)
    return {
        "numbers": _NUMBER.findall(text),
        "negations": _NEGATION.findall(text),
        "urls": urls,
        "identifiers": [found.rstrip(".-") for found in _IDENTIFIER.findall(without_urls)],
        "names": _NAME.findall(text),
    }


def count_kept_facts(original: str, compressed: str) -> dict[FactKind, KeptFacts]:
    """How many of a text's facts its compression keeps, by kind.

    Args:
        original: The text.
        compressed: Its compression, by any method.
    """
    counts = {}
    for kind, facts in find_facts(original).items():
        is_exact = kind in _CASE_COUNTS
        wanted = Counter(_cut_pieces(fact, is_exact=is_exact) for fact in facts)
        kept = _count_places(wanted, _cut_pieces(compressed, is_exact=is_exact))
        counts[kind] = KeptFacts(len(facts), kept)
    return counts


def add_kept_facts(counts: Iterable[dict[FactKind, KeptFacts]]) -> dict[FactKind, KeptFacts]:
    """The counts of all texts together."""
    rows = list(counts)
    return {
        kind: KeptFacts(
            sum(row[kind].num_facts for row in rows), sum(row[kind].num_kept for row in rows)
        )
        for kind in FACT_KINDS
    }


def _cut_pieces(text: str, *, is_exact: bool) -> Pieces:
    pieces = _PIECE.findall(text.replace("’", "'"))
    return tuple(pieces if is_exact else (piece.casefold() for piece in pieces))


def _count_places(wanted: Counter[Pieces], pieces: Pieces) -> int:
    """How many of the wanted runs there is a place for, no piece in two of them.

    Longer runs go first, so that `5` does not take the place of `3.5`.
    """
    left = wanted.copy()
    is_taken = [False] * len(pieces)
    num_found = 0
    for length in sorted({len(run) for run in wanted}, reverse=True):
        for place in range(len(pieces) - length + 1):
            here = slice(place, place + length)
            run = pieces[here]
            if left[run] and not any(is_taken[here]):
                is_taken[here] = [True] * length
                left[run] -= 1
                num_found += 1
    return num_found
