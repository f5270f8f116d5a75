"""Which words share one score: names, and numbers with what they count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos.joined_texts import join_texts
from moos.phrases import find_phrases, share_scores


def phrases_of(text):
    texts = join_texts([text])
    words = texts.words
    return [
        text[words.starts[first] : words.ends[stop - 1]]
        for first, stop in find_phrases(texts).tolist()
    ]


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("She met Ludwig van Beethoven in Bonn.", ["Ludwig van Beethoven"]),
        ("at the University of Paris", ["University of Paris"]),
        ("the Los Angeles-Long Beach area", ["Los Angeles-Long Beach"]),
        ("the T. T. Tsui Gallery opened", ["T. T. Tsui Gallery"]),
        ("It was Lefevre. William Farel came", ["William Farel"]),  # a sentence ends between
        ("However, The Times wrote", []),  # function words begin sentences
        ("Paris is in France", []),  # one word shares with nobody
        ("1,160,000 square miles (3,000,000 km2)", ["1,160,000 square miles", "3,000,000 km2"]),
        ("exceed five million people in two days", ["five million people", "two days"]),
        ("it cost $2.3 million then", ["$2.3 million"]),
        ("in 2005 drought came", []),  # a year counts nothing
        ("2005 kilograms,", []),
        ("12 of them, and 27, 30", []),
        ("twenty-five percent of it", ["twenty-five percent"]),
        ("Ende März kam Karl der Große an", ["Ende März", "Karl der Große"]),
        ("Anna\nBerg", []),  # a line ends between
        ("", []),
        ("東京は大きい", []),
    ],
)
def test_phrases(text, phrases):
    assert phrases_of(text) == phrases


def test_a_phrase_scores_the_mean_of_its_content_words():
    text = "the University of Paris has 12 new labs"
    texts = join_texts([text])
    scores = np.array([0.0, 0.25, 0.0, 0.75, 0.5, 1.0, 0.5, 0.125], dtype=np.float32)
    shared = share_scores(scores, texts)
    assert shared.tolist() == [0.0, 0.5, 0.5, 0.5, 0.5, 0.75, 0.75, 0.125]
    assert scores[1] == 0.25  # the argument is left alone


@pytest.mark.parametrize(
    ("text", "scores", "shared"),
    [
        ("a b, c.", [0.2, 0.1, 0.9, 0.5, 0.0], [0.2, 0.1, 0.1, 0.5, 0.5]),  # comma: as its word
        ("a b. c d?!", [0.9, 0.1, 0.3, 0.2, 0.4, 0.0, 1.0], [0.9, 0.1, 0.9, 0.2, 0.4, 0.4, 0.4]),
        ("a , b", [0.1, 0.8, 0.2], [0.1, 0.8, 0.2]),  # touches nothing
        ("a.) b.", [0.5, 0.1, 0.7, 0.2, 0.9], [0.5, 0.5, 0.5, 0.2, 0.2]),
        (".", [0.7], [0.0]),  # ends nothing
        ("です。か", [0.1, 0.6, 0.2, 0.3], [0.1, 0.6, 0.6, 0.3]),
    ],
)
def test_marks_follow_their_words(text, scores, shared):
    texts = join_texts([text])
    given_scores = np.array(scores, dtype=np.float32)
    np.testing.assert_allclose(share_scores(given_scores, texts), shared, atol=1e-6)


@given(st.text(alphabet="Ab 1.,-of\n$é東"), st.randoms(use_true_random=False))
def test_phrases_are_disjoint_have_one_score_and_it_stays_in_range(text, random):
    texts = join_texts([text])
    words = texts.words
    phrases = find_phrases(texts)
    assert (phrases[:, 1] - phrases[:, 0] >= 2).all()
    assert (phrases[1:, 0] >= phrases[:-1, 1]).all()
    assert (phrases >= 0).all()
    assert (phrases <= len(words)).all()
    scores = np.array([random.random() for _ in range(len(words))], dtype=np.float32)
    shared = share_scores(scores, texts)
    assert shared.shape == scores.shape
    assert ((shared >= 0) & (shared <= 1)).all()
    for first, stop in phrases.tolist():
        assert len(set(shared[first:stop].tolist())) == 1
