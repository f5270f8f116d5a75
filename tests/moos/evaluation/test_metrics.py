"""Odd cases of the official scorers; each value was computed with the official function named."""

import pytest

from moos.errors import DataError
from moos.evaluation.example import Example
from moos.evaluation.metrics import (
    contains_answer,
    exact_match,
    exact_match_scorer,
    f1_scorer,
    hotpotqa_f1,
    normalize_answer,
    over_answers,
    rouge_l,
    take_first_line,
    token_f1,
)
from moos.evaluation.metrics_longbench import (
    classification_score,
    code_sim_score,
    count_score,
    retrieval_score,
    rouge_score,
    rouge_scorer,
    score_classification,
)
from moos.evaluation.metrics_reasoning import (
    extract_bbh_choice,
    extract_bbh_text,
    extract_gsm8k_answer,
    extract_gsm8k_truth,
    score_bbh_choice,
    score_bbh_text,
    score_gsm8k,
)


def example_of(*answers, classes=()):
    return Example("0", "context", "", "", "question", answers, classes)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The  Cat\n sat.", "cat sat"),
        ("U.S.A.", "usa"),
        ("the-end of an era", "theend of era"),  # punctuation goes before articles are sought
        ("a.b A", "ab"),
        ("Été “quoted”", "été “quoted”"),  # only ASCII punctuation goes
        ("\u00a0an\u2003 apple", "apple"),
        ("The", ""),
        ("", ""),
    ],
)
def test_answers_are_normalized_as_by_squad_normalize_answer(text, normalized):
    assert normalize_answer(text) == normalized


@pytest.mark.parametrize(
    ("prediction", "truth", "f1", "exact"),
    [
        ("The cat.", "a cat", 1.0, 1.0),
        ("cat cat", "cat", 2 / 3, 0.0),
        ("the 308 points", "308", 2 / 3, 0.0),
        ("5-3", "53", 1.0, 1.0),
        ("the", "an", 0.0, 1.0),  # both empty: F1 is 0, exact match 1
        ("", "cat", 0.0, 0.0),
        ("Cats", "cat", 0.0, 0.0),
    ],
)
def test_short_answers_score_as_by_squad_f1_score_and_exact_match_score(
    prediction, truth, f1, exact
):
    assert token_f1(prediction, truth) == pytest.approx(f1)
    assert exact_match(prediction, truth) == exact


def test_the_best_accepted_answer_counts_as_by_squad_metric_max_over_ground_truths():
    example = example_of("Denver", "the Denver Broncos", "Broncos team")
    assert f1_scorer("Denver Broncos", example) == 1.0
    assert f1_scorer("Broncos", example) == pytest.approx(2 / 3)
    assert exact_match_scorer("denver.", example) == 1.0
    assert exact_match_scorer("Broncos", example) == 0.0


@pytest.mark.parametrize(
    ("prediction", "truth", "f1"),
    [
        ("Yes.", "yes", 1.0),
        ("yes it is", "yes", 0.0),
        ("no", "no way", 0.0),
        ("no answer", "noanswer", 0.0),
        ("yes it is", "yes he is", 2 / 3),
    ],
)
def test_yes_and_no_score_whole_or_not_as_by_hotpotqa_f1_score(prediction, truth, f1):
    assert hotpotqa_f1(prediction, truth) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("prediction", "truth", "score"),
    [
        ("It was the Mayor, Ms. Lee.", "mayor ms lee", 1.0),
        ("concatenate", "cat", 1.0),
        ("anything", "The.", 1.0),
        ("", "cat", 0.0),
        ("dog\ncat", "cat", 0.0),  # the first line alone
        ("\n\ncat\ndog", "cat", 1.0),
        (" \ncat", "cat", 0.0),  # a line of a space is a line
    ],
)
def test_meetingbank_answers_score_as_by_llmlingua_evaluate_with_gt(prediction, truth, score):
    assert over_answers(contains_answer, first_line=True)(prediction, example_of(truth)) == score


@pytest.mark.parametrize(
    ("answer", "line"),
    [("\n\none\ntwo", "one"), ("one\r\ntwo", "one\r"), (" \none", " "), ("\n", ""), ("", "")],
)
def test_the_first_line_is_that_of_longbench_scorer(answer, line):
    assert take_first_line(answer) == line


@pytest.mark.parametrize(
    ("prediction", "truth", "score"),
    [
        ("the cat sat on a mat", "the cat lay on the mat", 2 / 3),  # articles count
        ("mat the on", "on the mat", 1 / 3),
        ("It's 3.5!", "it s 3 5", 1.0),
        ("Été", "t", 1.0),  # what is not a-z or 0-9 parts words
        ("?!", "?!", 0.0),
        ("", "a", 0.0),
    ],
)
def test_summaries_score_as_by_the_package_rouge_score(prediction, truth, score):
    assert rouge_l(prediction, truth) == pytest.approx(score)


@pytest.mark.parametrize(
    ("prediction", "truth", "score"),
    [
        ("the cat sat", "the cat sat", 0.999999995),
        ("cat cat cat", "cat", 0.999999995),  # words are a set
        ("The cat", "the cat", 0.499999995),  # case counts
        ("the cat, sat", "the cat sat", 0.6666666616666668),
        ("a b. c d", "c d. a b", 0.999999995),  # sentence by sentence, in any order
        ("a b c d", "c d a b", 0.499999995),
        ("", "cat", 0.0),
        ("...", "cat", 0.0),
        ("cat", "...", 0.0),
        (" ".join(map(str, range(1100))), "3 4", 0.0),  # too long for the package's recursion
    ],
)
def test_summaries_score_as_by_longbench_rouge_score(prediction, truth, score):
    pytest.importorskip("rouge")
    assert rouge_score(prediction, truth) == pytest.approx(score, abs=1e-12)


def test_the_rouge_scorer_takes_the_best_answer_and_the_first_line_where_told():
    pytest.importorskip("rouge")
    example = example_of("one", "two three")
    assert rouge_scorer(first_line=True)("\ntwo\nthree", example) == pytest.approx(2 / 3)
    assert rouge_scorer()("\ntwo\nthree", example) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("prediction", "truth", "classes", "score"),
    [
        ("Type: city", "city", ["city", "human"], 1.0),
        ("city human", "city", ["city", "human"], 0.5),
        ("City", "city", ["city"], 0.0),
        ("citys", "city", ["city"], 1.0),
        ("other location", "other location", ["location", "other location"], 1.0),
        # Parts of the right label are dropped, but the one after each dropped one is not seen.
        ("abc", "abc", ["a", "b", "abc"], 0.5),
        ("abc", "abc", ["a", "abc", "b"], 1.0),
        ("a", "abc", ["a", "abc"], 0.0),
        ("none", "abc", ["a", "abc"], 0.0),
    ],
)
def test_labels_score_as_by_longbench_classification_score(prediction, truth, classes, score):
    assert classification_score(prediction, truth, classes) == score
    example = example_of(truth, classes=tuple(classes))
    assert score_classification(f"\n{prediction}\nhuman", example) == score


@pytest.mark.parametrize(
    ("prediction", "score"),
    [
        ("Paragraph 7", 1.0),
        ("7", 1.0),
        ("Paragraph 7 or 8", 0.5),
        ("7, 7 and 17", 2 / 3),
        ("07", 0.0),
        ("Paragraph seven", 0.0),
        ("-7.7", 1.0),
    ],
)
def test_numbers_score_as_by_longbench_retrieval_score_and_count_score(prediction, score):
    assert retrieval_score(prediction, "Paragraph 7") == pytest.approx(score)
    assert count_score(prediction, "7") == pytest.approx(score)


def test_an_accepted_answer_without_a_paragraph_is_refused():
    with pytest.raises(DataError, match="'page 7' names no paragraph"):
        retrieval_score("7", "page 7")


@pytest.mark.parametrize(
    ("prediction", "truth", "score"),
    [
        ("\n\nreturn x\nmore", "return x", 1.0),
        ("```python\n# note\nx = 1 // 2\nreturn x", "return x", 1.0),
        ("\n    return y", "    return x", 0.92),
        ("# all\n// comments", "return x", 0.0),
        ("", "", 1.0),
        ("", "x", 0.0),
        # fuzzywuzzy without python-Levenshtein: the order of the two matters.
        ("abc", "cadb", 0.57),
        ("cadb", "abc", 0.29),
        ("A S A L", "A L I E N S", 0.33),
    ],
)
def test_code_scores_as_by_longbench_code_sim_score(prediction, truth, score):
    assert code_sim_score(prediction, truth) == score


@pytest.mark.parametrize(
    ("solution", "number"),
    [
        ("2 + 2 = 4\n#### 4", "4"),
        ("#### 1,234", "1234"),
        ("#### -5", "-5"),
        ("#### 3.50", "3.50"),
        ("#### 4\n#### 5", "4"),
    ],
)
def test_references_are_read_as_by_gsm8k_extract_answer(solution, number):
    assert extract_gsm8k_truth(solution) == number


@pytest.mark.parametrize("solution", ["4", "####4", "#### $4", ""])
def test_a_reference_without_a_number_is_refused(solution):
    with pytest.raises(DataError, match="has no number after '#### '"):
        extract_gsm8k_truth(solution)


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("so 9 * 2 = 18\nThe answer is 18", "18"),
        ("The answer is $1,234.50.", "1234.50"),
        ("The answer is 18.\n\nQuestion: 5 apples", "18"),
        ("The answer is 18 of 20", "20"),
        ("2 + 3\nthe answer is five\n7", "3"),
        ("#### 18", "18"),
        ("\\boxed{18}", "18"),
        ("The answer is -7", "7"),
        ("The answer is .5", ".5"),
        ("5 A:18", "18"),
        ("5A:18", "518"),  # marks are taken out first
        ("none", ""),
        ("", ""),
    ],
)
def test_numbers_are_found_as_by_llmlingua_extract_ans_and_get_result(answer, number):
    assert extract_gsm8k_answer(answer) == number


@pytest.mark.parametrize(
    ("answer", "truth", "score"),
    [
        ("The answer is 1,234", "1234", 1.0),
        ("The answer is -7", "-7", 1.0),
        ("The answer is 7", "-7", 1.0),  # the official test leaves signs out
        ("The answer is 18.0", "18", 0.0),
        ("The answer is 18.", "18", 1.0),
        ("no idea", "18", 0.0),
    ],
)
def test_gsm8k_scores_as_by_llmlingua_test_answer(answer, truth, score):
    assert score_gsm8k(answer, example_of(truth)) == score


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("So the answer is (B).", "B"),
        ("the answer is either (C) or (B)", "C"),
        ("the answer is clear. The answer is (A)", "A"),
        ("the answer is B.", ""),
        ("the answer is (b)", ""),
        ("(B)", "(B)"),  # without `answer is ` the whole answer, which is no letter
        (" B\n", "B"),
        ("the answer is\n(B)", "the answer is(B)"),  # newlines go before it is sought
    ],
)
def test_options_are_found_as_by_llmlingua_extract_ans(answer, letter):
    assert extract_bbh_choice(answer) == letter


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("So the answer is True.", "True"),
        ("So the answer is True. So the answer is False.", "True"),
        ("the answer is -5.5", "-5"),
        ("the answer is  ] ) .", "] ) "),
        ("the answer is yes\n\nQ: next", "yes next"),
        ("True", "True"),
        ("the answer is .", ""),
        ("", ""),
    ],
)
def test_texts_are_found_as_by_llmlingua_extract_ans(answer, text):
    assert extract_bbh_text(answer) == text


@pytest.mark.parametrize(
    ("score", "answer", "truth", "expected"),
    [
        (score_bbh_choice, "So the answer is (B).", "(B)", 1.0),
        (score_bbh_choice, "So the answer is (A).", "(B)", 0.0),
        (score_bbh_choice, "So the answer is Monsters, Inc.", "Monsters, Inc", 0.0),
        (score_bbh_text, "So the answer is True.", "True", 1.0),
        (score_bbh_text, "So the answer is true.", "True", 0.0),
        (score_bbh_text, "So the answer is ] ) .", "] )", 0.0),
        (score_bbh_text, "So the answer is ] ).", "] )", 1.0),
    ],
)
def test_bbh_scores_as_by_llmlingua_parse_pred_ans(score, answer, truth, expected):
    assert score(answer, example_of(truth)) == expected
