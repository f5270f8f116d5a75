"""Scores by how common words are: TF-IDF, and what is left without stop words and punctuation.

How common a word is, the contexts of the run themselves say: its documents are their lines, so that
a single long context can tell, too. Words are compared in folded case.
"""

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moos.evaluation.methods.baselines import ScoreWords
from moos.evaluation.methods.stop_words import STOP_WORDS
from moos.words import Words, cut_words


@dataclass(frozen=True, slots=True)
class LineFrequencies:
    """How many lines words are in.

    Attributes:
        num_lines: Lines with a word.
        by_form: Those that hold the word, for each word in folded case.
    """

    num_lines: int
    by_form: Counter[str]

    def idf(self, form: str) -> float:
        """`ln((1 + N) / (1 + n))` for a word in n of N lines: 0 where it is in all of them."""
        return math.log((1 + self.num_lines) / (1 + self.by_form[form]))


def count_lines(contexts: Sequence[str]) -> LineFrequencies:
    """Count the lines of contexts by the words that they hold."""
    num_lines, by_form = 0, Counter[str]()
    for context in contexts:
        words = cut_words(context)
        breaks = [at for at, character in enumerate(context) if character == "\n"]
        lines = np.searchsorted(np.array(breaks, dtype=np.int64), words.starts).tolist()
        num_lines += len(set(lines))
        by_form.update(form for _, form in set(zip(lines, fold_words(context, words), strict=True)))
    return LineFrequencies(num_lines, by_form)


def fold_words(text: str, words: Words) -> list[str]:
    """The words in folded case, a typographic apostrophe as a plain one."""
    bounds = zip(words.starts.tolist(), words.ends.tolist(), strict=True)
    return [text[start:end].casefold().replace("’", "'") for start, end in bounds]


def fit_tf_idf(contexts: Sequence[str]) -> ScoreWords:
    """`(1 + ln tf) * idf`, with tf how often the context has the word.

    The logarithm keeps frequent words, which no line is without, from outweighing rare ones
    (Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", 6.4.1).
    """
    frequencies = count_lines(contexts)

    def score(text: str, words: Words) -> NDArray[np.float32]:
        forms = fold_words(text, words)
        value = {
            form: (1 + math.log(count)) * frequencies.idf(form)
            for form, count in Counter(forms).items()
        }
        return np.array([value[form] for form in forms], dtype=np.float32)

    return score


def fit_content_words(contexts: Sequence[str]) -> ScoreWords:
    """Idf for words that are neither stop words nor punctuation; those never stay.

    So a context over its budget loses all of them first, then the most common of the others. Where
    their removal alone meets the budget it ends there: what is left of the budget stays unused.
    """
    frequencies = count_lines(contexts)

    def score(text: str, words: Words) -> NDArray[np.float32]:
        forms = fold_words(text, words)
        value = {
            form: -math.inf if _is_filler(form) else frequencies.idf(form) for form in set(forms)
        }
        return np.array([value[form] for form in forms], dtype=np.float32)

    return score


def _is_filler(form: str) -> bool:
    return form in STOP_WORDS or all(unicodedata.category(c).startswith("P") for c in form)
