"""Words that say something only together, which share one score: names, and numbers with units.

A reader makes little of `Angeles` without `Los`, of `1,160,000` without `square miles`. A
classifier scores word by word, and a budget cuts wherever it runs out; so the words of a phrase get
the mean score of its content words (our construction; measured with readers, see the README).

The expressions are for languages that capitalise names; elsewhere they find numbers alone. They
run in time linear in the text.
"""

import numpy as np
import regex
from numpy.typing import NDArray

from moos.characters import CURRENCY, DIGIT, LETTER, UPPERCASE, classify
from moos.scores import round_scores
from moos.words import Words

_LINKS = "of|de|del|della|der|den|di|du|da|dos|la|le|van|von|zu|al|el|bin|ibn|y|e"
"""Small words inside names: `University of Paris`, `Ludwig van Beethoven`."""

_FUNCTION_WORDS = (
    "a|about|after|all|also|although|an|and|are|as|at|be|because|been|before|being|both|but|by|can|"
    "could|did|do|does|during|each|for|from|had|has|have|he|her|here|his|how|however|i|if|in|into|"
    "is|it|its|may|might|more|most|must|no|nor|not|of|on|or|our|other|over|she|should|since|so|"
    "some|such|than|that|the|their|them|then|there|these|they|this|those|through|to|under|until|"
    "was|we|were|what|when|where|which|while|who|whom|whose|why|will|with|within|without|would|"
    "you|your"
)
"""Words that begin sentences, or follow numbers, without being part of a phrase."""

_NUMBER_WORDS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|"
    "seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|"
    "thousand|million|billion|trillion|dozen|half"
)

_CAPITALISED = rf"""(?=\p{{Lu}}) (?!(?i:{_FUNCTION_WORDS})(?![\p{{L}}\p{{N}}]))
    (?: \p{{Lu}}\p{{L}}{{0,2}}\.(?=[^\S\n]\p{{Lu}})
      | [\p{{L}}\p{{M}}\p{{N}}]++(?:['’.&][\p{{L}}\p{{M}}\p{{N}}]++)*+ )"""
_BETWEEN = rf"""(?: \s?[-–/]\s?
    | [^\S\n]++ (?:(?:{_LINKS})[^\S\n]++ (?:the[^\S\n]++)?)? )"""
_NAME = rf"{_CAPITALISED} (?:{_BETWEEN} {_CAPITALISED}){{1,12}}+"

_YEAR = r"(?:1\d|20)\d\d(?![\p{L}\p{N}]|[.,:/\-–][\p{L}\p{N}]|\s?[%‰°])"
_NUMBER = rf"""(?: (?=[\p{{Sc}}\p{{N}}]) (?!{_YEAR})
        \p{{Sc}}?\p{{N}}[\p{{L}}\p{{N}}%°]*+(?:[.,:/\-–][\p{{L}}\p{{N}}%°]++)*+
    | (?=[bdefhmnst]) (?:{_NUMBER_WORDS})(?:-\p{{L}}++)?+(?![\p{{L}}\p{{N}}]) )"""
_COUNTED = rf"""(?:(?:square|cubic|metric)[^\S\n]++)?+
    (?!(?i:{_FUNCTION_WORDS})(?![\p{{L}}\p{{N}}])) \p{{L}}[\p{{L}}\-]*+"""
_QUANTITY = rf"{_NUMBER} (?:[^\S\n]++ {_NUMBER}){{0,6}}+ (?:[^\S\n]++ {_COUNTED})?+"
# A number, or several, and the word behind: `five million people`. Years count nothing.
_PHRASE = regex.compile(rf"(?<![\p{{L}}\p{{N}}]) (?: {_NAME} | {_QUANTITY} )", regex.VERBOSE)


def find_phrases(text: str, words: Words) -> NDArray[np.int64]:
    """The phrases of two words or more, as ranges of words: sorted, disjoint, shape (P, 2).

    Args:
        text: The text.
        words: Its words.
    """
    spans = np.array([match.span() for match in _PHRASE.finditer(text)], dtype=np.int64)
    spans = spans.reshape(-1, 2)
    first = np.searchsorted(words.ends, spans[:, 0], side="right")
    stop = np.searchsorted(words.starts, spans[:, 1], side="left")
    # A word may hold the end of one match and the beginning of the next.
    first[1:] = np.maximum(first[1:], stop[:-1])
    several = stop - first >= 2
    return np.stack([first[several], stop[several]], axis=1)


def share_scores(scores: NDArray[np.float32], text: str, words: Words) -> NDArray[np.float32]:
    """Scores of which each phrase has one: the mean over its content words, shape (W,).

    Content words begin with a capital letter or a digit, or belong to a number; what links them
    (`of`, a hyphen) gets their mean.

    Args:
        scores: One score per word, shape (W,).
        text: The text.
        words: Its words.
    """
    phrases = find_phrases(text, words)
    if len(phrases) == 0:
        return scores
    initials = classify(text)[words.starts]
    is_name = initials[phrases[:, 0]] & UPPERCASE != 0
    lengths = phrases[:, 1] - phrases[:, 0]
    ids = np.repeat(np.arange(len(phrases)), lengths)
    members = np.arange(len(ids)) + np.repeat(phrases[:, 0] - np.cumsum(lengths) + lengths, lengths)
    initials = initials[members]
    is_link = is_name[ids] & (initials & (UPPERCASE | DIGIT) == 0)
    is_content = (initials & (LETTER | CURRENCY) != 0) & ~is_link
    counts = np.bincount(ids, weights=is_content)
    means = np.bincount(ids, weights=scores[members] * is_content) / np.maximum(counts, 1)
    shared = scores.copy()
    shared[members] = round_scores(means)[ids]
    return shared
