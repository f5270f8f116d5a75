import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from moos.scores import GRID, combine_scores, reduce_to_words, round_scores

shares = st.floats(0, 1, width=32)
share_arrays = hnp.arrays(np.float32, st.integers(0, 50), elements=shares)


@given(share_arrays)
def test_scores_lie_on_the_grid_within_half_a_step(values):
    rounded = round_scores(values)
    assert rounded.dtype == np.float32
    assert (rounded * GRID == np.rint(rounded * GRID)).all()
    assert (np.abs(rounded - values.astype(np.float64)) <= 0.5 / GRID).all()
    assert ((rounded >= 0) & (rounded <= 1)).all()


@given(share_arrays)
def test_alpha_1_is_the_rounded_preserve_probability_whatever_the_outlier_score(probability):
    outlier = np.full_like(probability, np.nan)
    assert (combine_scores(probability, outlier, 1.0) == round_scores(probability)).all()


@pytest.mark.parametrize(
    ("p", "s", "alpha", "score"),
    [(0.5, 1.0, 0.5, 0.75), (0.25, 1.0, 0.0, 1.0), (1.0, 0.0, 0.75, 0.75), (0.0, 0.0, 0.9, 0.0)],
)
def test_a_score_is_alpha_p_plus_the_rest_of_s(p, s, alpha, score):
    assert combine_scores(np.float32([p]), np.float32([s]), alpha).tolist() == [score]


@pytest.mark.parametrize(
    ("how", "expected"),
    [("mean", [0.5, 0.0, 0.25]), ("max", [0.75, 0.0, 0.25]), ("first", [0.25, 0.0, 0.25])],
)
def test_a_word_scores_by_its_tokens_and_0_without_one(how, expected):
    token_scores, token_words = np.float32([0.25, 0.75, 0.25]), np.int32([0, 0, 2])
    assert reduce_to_words(token_scores, token_words, 3, how).tolist() == expected


@pytest.mark.parametrize("how", ["mean", "max", "first"])
@pytest.mark.parametrize("num_words", [0, 2])
def test_a_text_without_tokens_has_a_zero_for_each_word(how, num_words):
    scores = reduce_to_words(np.zeros(0, np.float32), np.zeros(0, np.int32), num_words, how)
    assert scores.tolist() == [0.0] * num_words
    assert scores.dtype == np.float32


@given(st.lists(st.lists(shares, min_size=1, max_size=5), min_size=1, max_size=20))
def test_a_word_scores_between_its_lowest_and_highest_token(groups):
    token_words = np.repeat(np.arange(len(groups)), [len(group) for group in groups]).astype(
        np.int32
    )
    token_scores = round_scores(np.array([score for group in groups for score in group]))
    for how in ("mean", "max", "first"):
        scores = reduce_to_words(token_scores, token_words, len(groups), how)
        for word, score in enumerate(scores):
            own = token_scores[token_words == word]
            assert own.min() <= score <= own.max()
            assert how != "max" or score == own.max()
            assert how != "first" or score == own[0]
