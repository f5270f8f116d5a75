import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos.characters import classify
from moos.tokens import Tokens
from moos.windows import find_sentence_ends, plan_windows
from moos.words import cut_words, map_tokens


def characters_as_tokens(text: str) -> Tokens:
    """One token for each character that is not white space."""
    starts = np.int32([index for index, char in enumerate(text) if not char.isspace()])
    return Tokens(np.zeros_like(starts), starts, starts + 1)


def sentence_ends(text: str) -> list[int]:
    """Characters after which a sentence ends."""
    words, tokens = cut_words(text), characters_as_tokens(text)
    ends = find_sentence_ends(classify(text), words, map_tokens(tokens, words))
    return tokens.starts[ends].tolist()


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("Hi you. And me", [6]),
        ("Hi! Ho? Hu…", [2, 6, 10]),
        ("of 3.5 or U.S army", []),  # a point inside a word ends no sentence
        ("one line\nanother", [7]),
        ("one\n\n\ntwo\u2028three", [2, 8]),
        ("没有。是", [2]),
        ("last\n", [3]),
        ("", []),
        ("   ", []),
    ],
)
def test_sentences_end_at_marks_and_line_breaks(text, ends):
    assert sentence_ends(text) == ends


tokens_per_word = st.lists(st.integers(0, 12), max_size=60)


@given(
    tokens_per_word,
    st.integers(1, 40),
    st.integers(0, 30),
    st.randoms(use_true_random=False),
)
def test_every_token_is_owned_by_one_window_that_fits(counts, max_tokens, context, random):
    token_words = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    ends = np.array([random.random() < 0.2 for _ in token_words], dtype=np.bool_)
    windows = plan_windows(token_words, ends, max_tokens=max_tokens, context_tokens=context)
    owned = [index for window in windows for index in range(window.own_start, window.own_end)]
    assert owned == list(range(len(token_words)))
    for window in windows:
        assert 0 <= window.start <= window.own_start < window.own_end <= window.end
        assert window.end <= len(token_words)
        assert window.end - window.start <= max_tokens
        assert window.own_start - window.start <= context
        assert window.end - window.own_end <= context


@given(tokens_per_word, st.integers(4, 40), st.integers(0, 30))
def test_context_is_shown_wherever_there_is_text_to_show(counts, max_tokens, context):
    token_words = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    ends = np.zeros(len(token_words), dtype=np.bool_)
    shown = min(context, max_tokens // 4)
    windows = plan_windows(token_words, ends, max_tokens=max_tokens, context_tokens=context)
    for window in windows:
        assert window.own_start - window.start == min(shown, window.own_start)
        assert window.end - window.own_end == min(shown, len(token_words) - window.own_end)


def test_a_text_that_fits_is_one_window():
    windows = plan_windows(np.zeros(10, np.int32), np.ones(10, np.bool_), max_tokens=10)
    assert [(w.start, w.end, w.own_start, w.own_end) for w in windows] == [(0, 10, 0, 10)]


def test_no_tokens_give_no_window():
    assert plan_windows(np.zeros(0, np.int32), np.zeros(0, np.bool_), max_tokens=10) == []


@pytest.mark.parametrize(
    ("ends", "cut"),
    [
        ([11], 12),  # a sentence end near the even split of 20
        ([7, 10], 11),  # the nearer of two
        ([7, 11], 8),  # equally near: the earlier
        ([], 10),  # none: the word end
        ([1], 10),  # too far off
    ],
)
def test_a_cut_falls_on_the_sentence_end_nearest_to_an_even_split(ends, cut):
    token_words = np.arange(20, dtype=np.int32)
    flags = np.zeros(20, dtype=np.bool_)
    flags[ends] = True
    windows = plan_windows(token_words, flags, max_tokens=15)
    assert [window.own_end for window in windows] == [cut, 20]


def test_a_word_is_not_cut_where_a_word_end_is_near():
    token_words = np.repeat(np.arange(4), 5).astype(np.int32)  # words of five tokens
    windows = plan_windows(token_words, np.zeros(20, np.bool_), max_tokens=12)
    assert all(window.own_end % 5 == 0 for window in windows)


def test_one_word_longer_than_a_window_is_cut_anywhere():
    windows = plan_windows(np.zeros(100, np.int32), np.zeros(100, np.bool_), max_tokens=30)
    assert [window.own_end - window.own_start for window in windows] == [25, 25, 25, 25]
