"""Answers that stand at the end of a chain of thought: GSM8K's numbers and BIG-Bench Hard's.

Extraction is that of LLMLingua-2's scripts (github.com/microsoft/LLMLingua,
`experiments/llmlingua2/evaluation`), which the compression papers' figures are from.
"""

import re

from moos.errors import DataError
from moos.evaluation.example import Example

_GSM8K_TRUTH = re.compile(r"#### (-?[0-9.,]+)")
_NUMBER = re.compile(r"\d*\.?\d+")
_CHOICE = re.compile(r"\(([A-Z])\)")
_ANSWER_IS = "answer is "


def extract_gsm8k_truth(solution: str) -> str:
    """The number after `#### ` in a reference solution, without commas.

    From GSM8K, `grade_school_math/dataset.py:extract_answer`.

    Raises:
        DataError: There is none.
    """
    match = _GSM8K_TRUTH.search(solution)
    if match is None:
        raise DataError(f"reference solution {solution[-80:]!r} has no number after '#### '")
    return match.group(1).replace(",", "")


def extract_gsm8k_answer(answer: str) -> str:
    """The last number up to the end of the first line with `answer is`, or of all; "" if none.

    Commas are dropped first, signs, currencies and a closing full stop are not part of it, and
    nothing is rounded: `-1,234.50` is `1234.50`.
    From LLMLingua-2, `eval_gsm8k.py:extract_ans` and `get_result`.
    """
    reasoning: list[str] = []
    for line in answer.split("\n"):
        reasoning.append(line)
        if "answer is" in line:
            break
    numbers = _NUMBER.findall(_drop_marks("\n".join(reasoning)).replace(",", ""))
    return numbers[-1] if numbers else ""


def score_gsm8k(answer: str, example: Example) -> float:
    """1 if the answer's number is, as text, the accepted one's: `18.0` is not `18`.

    From LLMLingua-2, `eval_gsm8k.py:test_answer`, which leaves signs out on both sides.
    """
    found = extract_gsm8k_answer(answer)
    return float(any(found == extract_gsm8k_answer(truth) for truth in example.answers))


def extract_bbh_choice(answer: str) -> str:
    """The letter of the first option like `(B)` after the first `answer is `; "" if none.

    Without `answer is ` the whole answer.
    From LLMLingua-2, `eval_bbh.py:extract_ans`, mode `multiple_choice`.
    """
    conclusion = _find_conclusion(answer)
    if conclusion is None:
        return _flatten(answer)
    option = _CHOICE.search(conclusion)
    return option.group(1) if option else ""


def extract_bbh_text(answer: str) -> str:
    """What stands between the first `answer is ` and the next full stop, or the end.

    Without `answer is ` the whole answer.
    From LLMLingua-2, `eval_bbh.py:extract_ans`, mode `free_form`; it fails where nothing stands
    between them, this gives "".
    """
    conclusion = _find_conclusion(answer)
    return _flatten(answer) if conclusion is None else conclusion.split(".", 1)[0]


def score_bbh_choice(answer: str, example: Example) -> float:
    """1 if the option's letter is the target's second character, as in `(B)`.

    The few targets of the official data that are no option, such as `Monsters, Inc`, are never
    met. From LLMLingua-2, `eval_bbh.py:predict`.
    """
    found = extract_bbh_choice(answer)
    return float(any(found == truth[1:2] for truth in example.answers))


def score_bbh_text(answer: str, example: Example) -> float:
    """1 if the extracted text is the target, to the letter; case counts."""
    found = extract_bbh_text(answer)
    return float(any(found == _flatten(truth, is_answer=False) for truth in example.answers))


def _find_conclusion(answer: str) -> str | None:
    _, found, conclusion = _flatten(answer).partition(_ANSWER_IS)
    return conclusion.strip() if found else None


def _flatten(text: str, *, is_answer: bool = True) -> str:
    # The script writes answers to a file of lines and reads them back: newlines go without a trace.
    text = text.replace("\n", "")
    return (_drop_marks(text) if is_answer else text).strip()


def _drop_marks(answer: str) -> str:
    # Both scripts mark questions and answers so in their files, and hence not inside answers.
    return answer.replace("Q:", "").replace("A:", "")
