"""Scores of short answers and summaries: SQuAD's, HotpotQA's and those of LLMLingua-2's scripts.

Each function scores one prediction against one accepted answer, in [0, 1]; `over_answers` makes a
task's scorer of it. They give what the named official code gives, odd cases included.
"""

import re
import string
from collections import Counter
from collections.abc import Callable

from moos.alignment import align_lcs
from moos.evaluation.example import Example, Scorer

PairScore = Callable[[str, str], float]
"""From a prediction and an accepted answer to a score in [0, 1]."""

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ROUGE_WORD = re.compile(r"[a-z0-9]+")
_CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})


def over_answers(score: PairScore, *, first_line: bool = False) -> Scorer:
    """A scorer that takes the best of an example's accepted answers.

    Args:
        score: Scores a prediction against one of them.
        first_line: Score only the prediction's first line, as in `take_first_line`.
    """

    def best(answer: str, example: Example) -> float:
        prediction = take_first_line(answer) if first_line else answer
        return max(score(prediction, accepted) for accepted in example.answers)

    return best


def take_first_line(answer: str) -> str:
    """The first line after leading newlines; spaces count as a line.

    From LongBench, `eval.py:scorer`, and LLMLingua-2, `evaluation/metrics.py:evaluate_with_gt`.
    """
    return answer.lstrip("\n").split("\n", 1)[0]


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles and superfluous white space.

    In this order, so that `a.b` is one word and `the-end` keeps its article.
    From SQuAD, `evaluate-v1.1.py:normalize_answer`; HotpotQA and LongBench have the same.
    """
    bare = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", bare).split())


def exact_match(prediction: str, truth: str) -> float:
    """1 if both are the same once normalised, else 0.

    From SQuAD, `evaluate-v1.1.py:exact_match_score`.
    """
    return float(normalize_answer(prediction) == normalize_answer(truth))


def token_f1(prediction: str, truth: str) -> float:
    """Harmonic mean of precision and recall of normalised words, repeated ones counted.

    0 where nothing is shared, also where both are empty.
    From SQuAD, `evaluate-v1.1.py:f1_score`; LongBench's `metrics.py:qa_f1_score` is the same.
    """
    predicted = normalize_answer(prediction).split()
    expected = normalize_answer(truth).split()
    num_same = sum((Counter(predicted) & Counter(expected)).values())
    return _harmonic_mean(num_same, len(predicted), len(expected))


def hotpotqa_f1(prediction: str, truth: str) -> float:
    """F1 of words; if one of the two is `yes`, `no` or `noanswer`, only the same one scores.

    From HotpotQA, `hotpot_evaluate_v1.py:f1_score`.
    """
    pair = {normalize_answer(prediction), normalize_answer(truth)}
    if len(pair) > 1 and pair & _CLOSED_ANSWERS:
        return 0.0
    return token_f1(prediction, truth)


def contains_answer(prediction: str, truth: str) -> float:
    """1 if the normalised prediction contains the normalised answer, even inside a word, else 0.

    An answer of articles and punctuation alone is in every prediction.
    From LLMLingua-2, `evaluation/metrics.py:qa_score`, its score for MeetingBank QA.
    """
    return float(normalize_answer(truth) in normalize_answer(prediction))


def rouge_l(prediction: str, truth: str) -> float:
    """ROUGE-L F1 of runs of a-z and 0-9 in lower case, over the text as one sequence; no stemming.

    From the package `rouge_score`, which LLMLingua-2 scores MeetingBank's summaries with (through
    `evaluate`): `rougeL` with its default tokenizer. Another ROUGE-L than LongBench's.
    """
    predicted = _ROUGE_WORD.findall(prediction.lower())
    expected = _ROUGE_WORD.findall(truth.lower())
    num_same = int(align_lcs(expected, predicted).sum()) if predicted and expected else 0
    return _harmonic_mean(num_same, len(predicted), len(expected))


def _harmonic_mean(num_same: int, num_predicted: int, num_expected: int) -> float:
    if num_same == 0:
        return 0.0
    precision, recall = num_same / num_predicted, num_same / num_expected
    return 2 * precision * recall / (precision + recall)


f1_scorer = over_answers(token_f1)
"""SQuAD's F1, the best of an example's answers (`metric_max_over_ground_truths`)."""

exact_match_scorer = over_answers(exact_match)
"""SQuAD's exact match, the best of an example's answers."""
