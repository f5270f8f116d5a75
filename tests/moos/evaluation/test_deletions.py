"""Human deletions become labels of tokens, and word scores are measured against them."""

import gzip
import json
import math

import numpy as np
import pytest
from hypothesis import given

from moos.errors import DataError
from moos.evaluation.deletions import (
    DeletionExample,
    align_characters,
    label_tokens,
    measure_deletions,
    read_deletions,
    score_tokens,
)
from moos.words import cut_words


def labels_of(text, *summaries):
    return "".join(str(int(kept)) for kept in label_tokens(DeletionExample(text, summaries)))


@pytest.mark.parametrize(
    ("text", "summaries", "labels"),
    [
        ("Five people were hurt this morning.", ["five people were hurt."], "111100"),
        ("A crash near Sleaford, today.", ["Crash near Sleaford."], "01110"),
        ("abcd efgh", ["ab ef"], "00"),  # half of the characters is not most
        ("abc def", ["ab de"], "11"),
        ("a b c", ["a b", "a c"], "111"),  # half of the references is enough
        ("a b c", ["a b", "a c", "a c"], "101"),
        ("a b", [""], "00"),
        ("", [""], ""),
        ("İİİİ abc xyz", ["abc"], "010"),  # whose lower case is longer than itself
    ],
)
def test_labels(text, summaries, labels):
    assert labels_of(text, *summaries) == labels


def test_a_frequent_character_is_aligned_in_a_long_text():
    # difflib's automatic junk drops characters that make up over 1 % of 200 or more.
    assert align_characters("q" + "e" * 300, "e" * 300).sum() == 300


def test_a_tokens_score_is_the_mean_of_its_words():
    text = "Well, x.y  go-on! (2)"
    assert len(cut_words(text)) == 8  # Well , x.y go-on ! ( 2 )
    scores = np.float32([0.5, 0.25, 1, 0.5, 0, 0.25, 1, 0.25])
    assert score_tokens(text, scores).tolist() == [0.375, 1.0, 0.25, 0.5]
    with pytest.raises(DataError, match="7 scores for the 8 words"):
        score_tokens(text, scores[1:])


def test_every_token_of_any_text_has_a_label_and_a_score(any_text):
    @given(any_text)
    def check(text):
        num_tokens = len(text.split())
        scores = np.linspace(0, 1, len(cut_words(text)), dtype=np.float32)
        assert len(score_tokens(text, scores)) == num_tokens
        assert labels_of(text, text) == "1" * num_tokens

    check()


def test_agreement_is_measured_over_all_tokens_and_within_sentences():
    examples = [
        DeletionExample("a b c", ("a b",)),
        DeletionExample("d e", ("d",)),
        DeletionExample("f g", ("f g",)),  # nothing deleted: no pair within it
    ]
    scores = [np.float32([0.9, 0.4, 0.5]), np.float32([0.2, 0.1]), np.float32([0.6, 0.1])]
    figures = measure_deletions(examples, scores)
    # Within: 1 of 2 pairs, and 1 of 1. Over all: kept .9 .4 .2 .6 .1 against deleted .5 .1.
    assert figures.sentence_auc == 0.75
    assert figures.auc == pytest.approx((2 + 1 + 1 + 2 + 0.5) / 10)
    assert (figures.num_sentences, figures.num_tokens) == (3, 7)
    assert figures.kept_share == pytest.approx(5 / 7)


def test_nothing_to_compare_is_no_number():
    figures = measure_deletions([], [])
    assert math.isnan(figures.auc)
    assert math.isnan(figures.sentence_auc)
    assert math.isnan(figures.kept_share)


def test_sentences_are_read(tmp_path):
    path = tmp_path / "deletions.jsonl.gz"
    record = {"id": "1", "text": "a b", "summaries": ["a", "b"]}
    path.write_bytes(gzip.compress(json.dumps(record).encode()))
    assert read_deletions(str(path)) == [DeletionExample("a b", ("a", "b"))]
    path.write_bytes(gzip.compress(b'{"text": "a b"}'))
    with pytest.raises(DataError, match="has no 'summaries'"):
        read_deletions(str(path))
