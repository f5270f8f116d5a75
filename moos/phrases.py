"""Words that say something only together: names, numbers with units, marks with their words.

A reader makes little of `Angeles` without `Los`, of `1,160,000` without `square miles`. A
classifier scores word by word, and a budget cuts wherever it runs out; so the words of a phrase
share a score, and punctuation follows its words (our construction). People see whole names; the one
reader that was asked answered neither better nor worse (README).

The expressions are for languages that capitalise names; elsewhere they find numbers alone. They
run in time linear in the text.
"""

import numpy as np
import regex
from numpy.typing import NDArray

from moos.characters import (
    CLOSING,
    CURRENCY,
    DIGIT,
    LETTER,
    MARK,
    NUMERAL,
    SENTENCE_END,
    UPPERCASE,
)
from moos.joined_texts import JoinedTexts
from moos.listed_words import keys_of, match_at
from moos.scores import round_scores

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

NUMBER_WORDS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|"
    "seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|"
    "thousand|million|billion|trillion|dozen"
)
"""Numbers spelled out, as alternatives of an expression; `one` is mostly none."""

_CAPITALISED = rf"""(?=\p{{Lu}}) (?!(?i:{_FUNCTION_WORDS})(?![\p{{L}}\p{{N}}]))
    (?: \p{{Lu}}\p{{L}}{{0,2}}\.(?=[^\S\n]\p{{Lu}})
      | [\p{{L}}\p{{M}}\p{{N}}]++(?:['’.&][\p{{L}}\p{{M}}\p{{N}}]++)*+ )"""
_BETWEEN = rf"""(?: \s?[-–/]\s?
    | [^\S\n]++ (?:(?:{_LINKS})[^\S\n]++ (?:the[^\S\n]++)?)? )"""
_NAME = rf"{_CAPITALISED} (?:{_BETWEEN} {_CAPITALISED}){{1,12}}+"

_YEAR = r"(?:1\d|20)\d\d(?![\p{L}\p{N}]|[.,:/\-–][\p{L}\p{N}]|\s?[%‰°])"
_NUMBER = rf"""(?: (?=[\p{{Sc}}\p{{N}}]) (?!{_YEAR})
        \p{{Sc}}?\p{{N}}[\p{{L}}\p{{N}}%°]*+(?:[.,:/\-–][\p{{L}}\p{{N}}%°]++)*+
    | (?=[bdefhmnst]) (?:{NUMBER_WORDS}|half)(?:-\p{{L}}++)?+(?![\p{{L}}\p{{N}}]) )"""
_COUNTED = rf"""(?:(?:square|cubic|metric)[^\S\n]++)?+
    (?!(?i:{_FUNCTION_WORDS})(?![\p{{L}}\p{{N}}])) \p{{L}}[\p{{L}}\-]*+"""
_QUANTITY = rf"{_NUMBER} (?:[^\S\n]++ {_NUMBER}){{0,6}}+ (?:[^\S\n]++ {_COUNTED})?+"
# A number, or several, and the word behind: `five million people`. Years count nothing.
PHRASE = regex.compile(rf"(?<![\p{{L}}\p{{N}}]) (?: {_NAME} | {_QUANTITY} )", regex.VERBOSE)
_NUMBER_KEYS = keys_of([*NUMBER_WORDS.split("|"), "half"])
_LINK_KEYS = keys_of(_LINKS.split("|"))
_NAME_MARKS = np.array([ord(mark) for mark in "'’.&"], dtype=np.uint32)


def find_phrases(texts: JoinedTexts) -> NDArray[np.int64]:
    """The phrases of two words or more, as ranges of words: sorted, disjoint, shape (P, 2)."""
    words = texts.words
    matches = match_at(PHRASE, texts.joined, phrase_places(texts))
    spans = np.array(matches, dtype=np.int64).reshape(-1, 2)
    first = np.searchsorted(words.ends, spans[:, 0], side="right")
    stop = np.searchsorted(words.starts, spans[:, 1], side="left")
    # A word may hold the end of one match and the beginning of the next.
    first[1:] = np.maximum(first[1:], stop[:-1])
    several = stop - first >= 2
    return np.stack([first[several], stop[several]], axis=1)


def phrase_places(texts: JoinedTexts) -> NDArray[np.int64]:
    """Where a phrase can begin: at numbers, currencies, and capitals with more of a name behind.

    More of a name is another capital, a small word that links, or an initial's or a joining mark.
    """
    runs = texts.runs
    initials = texts.classes[runs.starts]
    is_capital = initials & UPPERCASE != 0
    goes_on = np.append(is_capital[1:] | runs.match(_LINK_KEYS)[1:], False)[: len(initials)]
    behind = np.minimum(runs.starts + runs.lengths, len(texts.codes) - 1)
    goes_on |= (texts.classes[behind] & MARK != 0) | np.isin(texts.codes[behind], _NAME_MARKS)
    is_number = (initials & NUMERAL != 0) | runs.match(_NUMBER_KEYS)
    currencies = np.flatnonzero(texts.classes & CURRENCY)
    return np.sort(np.append(runs.starts[is_capital & goes_on | is_number], currencies))


def share_scores(scores: NDArray[np.float32], texts: JoinedTexts) -> NDArray[np.float32]:
    """Scores by which words that belong together stay or go together, shape (W,).

    A phrase has the mean over its content words: those that begin with a capital letter or a
    digit, or belong to a number; what links them (`of`, a hyphen) gets their mean. The mark that
    ends a sentence scores like the best word of it, so that what is left of two sentences does not
    run together; other closing marks score at most what the word does that they touch.

    Args:
        scores: One score per word of the texts, shape (W,).
        texts: The texts.
    """
    if len(scores) == 0:
        return scores
    initials = texts.classes[texts.words.starts]
    shared = _bind_marks(scores, texts, initials)
    _share_in_phrases(shared, scores, find_phrases(texts), initials)
    return shared


def _bind_marks(
    scores: NDArray[np.float32], texts: JoinedTexts, initials: NDArray[np.uint32]
) -> NDArray[np.float32]:
    """Scores in which punctuation follows its words; a copy."""
    words, owners = texts.words, texts.owners
    is_single = words.ends - words.starts == 1
    closes = is_single & (initials & CLOSING != 0)
    ends = is_single & (initials & SENTENCE_END != 0)
    shared = scores.copy()
    touches = np.concatenate([[False], words.ends[:-1] == words.starts[1:]])
    is_mark = closes | ends
    before = np.maximum.accumulate(np.where(is_mark, -1, np.arange(len(scores))))
    bound = closes & ~ends & touches & (before >= texts.bounds[owners])
    shared[bound] = np.minimum(scores[bound], scores[before[bound]])
    # The first word behind an end begins a sentence; further marks belong to the one that ended.
    others = np.flatnonzero(~is_mark)
    begins = np.zeros(len(scores), dtype=np.bool_)
    follows = (np.diff(np.cumsum(ends)[others]) > 0) & (np.diff(owners[others]) == 0)
    begins[others[1:]] = follows
    begins[texts.bounds[owners]] = True
    best = np.maximum.reduceat(np.where(is_mark, 0, scores), np.flatnonzero(begins))
    shared[ends] = best[np.cumsum(begins) - 1][ends]
    return shared


def _share_in_phrases(
    shared: NDArray[np.float32],
    scores: NDArray[np.float32],
    phrases: NDArray[np.int64],
    initials: NDArray[np.uint32],
) -> None:
    """Give the words of each phrase the mean score of its content words, in place."""
    if len(phrases) == 0:
        return
    is_name = initials[phrases[:, 0]] & UPPERCASE != 0
    lengths = phrases[:, 1] - phrases[:, 0]
    ids = np.repeat(np.arange(len(phrases)), lengths)
    members = np.arange(len(ids)) + np.repeat(phrases[:, 0] - np.cumsum(lengths) + lengths, lengths)
    initials = initials[members]
    is_link = is_name[ids] & (initials & (UPPERCASE | DIGIT) == 0)
    is_content = (initials & (LETTER | CURRENCY) != 0) & ~is_link
    counts = np.bincount(ids, weights=is_content)
    means = np.bincount(ids, weights=scores[members] * is_content) / np.maximum(counts, 1)
    shared[members] = round_scores(means)[ids]
