"""LongBench's scores of its English and code tasks (github.com/THUDM/LongBench, `metrics.py`).

Each scores one prediction against one accepted answer and gives what the official function of the
same name gives; which tasks take only the first line stands in `eval.py:scorer`.
"""

import difflib
import re
from collections.abc import Sequence
from typing import Any

from moos.errors import ConfigError, DataError
from moos.evaluation.example import Example, Scorer
from moos.evaluation.metrics import over_answers, take_first_line

_NUMBER = re.compile(r"\d+")
_PARAGRAPH = re.compile(r"Paragraph (\d+)")


def rouge_scorer(*, first_line: bool = False) -> Scorer:
    """The scorer of `rouge_score`; fails at once, before any reading, where it cannot score.

    Raises:
        ConfigError: The package `rouge` is missing.
    """
    _load_rouge()
    return over_answers(rouge_score, first_line=first_line)


def rouge_score(prediction: str, truth: str) -> float:
    """ROUGE-L's F of the package `rouge`: sentences are what full stops part, words are a set.

    0 where either text has nothing but full stops, and where a pair of sentences has more words
    together, nearly a thousand, than the package's recursion bears: the official code takes any
    failure for 0.

    Raises:
        ConfigError: The package `rouge` is missing.
    """
    try:
        scores = _load_rouge().get_scores([prediction], [truth], avg=True)
    except (ValueError, RecursionError):
        return 0.0
    return float(scores["rouge-l"]["f"])


def classification_score(prediction: str, truth: str, classes: Sequence[str]) -> float:
    """1 by the number of labels found in the prediction if the right one is among them, else 0.

    A label found that is part of the right one does not count. The official loop drops such labels
    from the list it goes through, and so spares the one after each; this one does, too. (Its
    fallback to the most similar label is never reached: it compares a list with 0.)
    """
    found = [label for label in classes if label in prediction]
    for label in found:
        if label in truth and label != truth:
            found.remove(label)
    return 1.0 / len(found) if truth in found else 0.0


def score_classification(answer: str, example: Example) -> float:
    """The scorer of `classification_score`: first line only, as for `trec`."""
    prediction = take_first_line(answer)
    return max(
        classification_score(prediction, truth, example.classes) for truth in example.answers
    )


def retrieval_score(prediction: str, truth: str) -> float:
    """Share of the prediction's numbers that are the right paragraph's; 0 without a number.

    Raises:
        DataError: The accepted answer names no paragraph.
    """
    paragraph = _PARAGRAPH.search(truth)
    if paragraph is None:
        raise DataError(
            f"accepted answer {truth!r:.80} names no paragraph; passage_retrieval_en has answers "
            "like 'Paragraph 7'"
        )
    return count_score(prediction, paragraph.group(1))


def count_score(prediction: str, truth: str) -> float:
    """Share of the prediction's numbers that equal the accepted one; 0 without a number."""
    numbers = _NUMBER.findall(prediction)
    return numbers.count(truth) / len(numbers) if numbers else 0.0


def code_sim_score(prediction: str, truth: str) -> float:
    """Similarity of the prediction's first line of code with the accepted one, in hundredths.

    The first line without a backtick, `#` or `//`; none is as an empty line. Similarity is
    fuzzywuzzy's `fuzz.ratio` where `python-Levenshtein` is not installed, hence difflib's; with it
    installed fuzzywuzzy computes another one (LongBench issue 96).
    """
    lines = prediction.lstrip("\n").split("\n")
    line = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    if line == truth:
        return 1.0
    if not line or not truth:
        return 0.0
    return round(100 * difflib.SequenceMatcher(None, line, truth).ratio()) / 100


def _load_rouge() -> Any:
    try:
        from rouge import Rouge
    except ImportError as error:
        raise ConfigError(
            "ROUGE-L as LongBench computes it needs the package rouge: pip install 'moos[evaluate]'"
        ) from error
    return Rouge(metrics=["rouge-l"])
