import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos.errors import DataError
from moos.rendering import merge_kept_words, render
from moos.words import cut_words


def keep_words(text: str, *kept: str) -> str:
    """The compressed text when just these words of `text` are kept."""
    words = cut_words(text)
    spans = zip(words.starts, words.ends, strict=True)
    keep = np.array([text[start:end] in kept for start, end in spans], dtype=np.bool_)
    return render(text, merge_kept_words(keep, words, len(text)))


@pytest.mark.parametrize(
    ("text", "kept", "compressed"),
    [
        ("one two three", ["one", "three"], "one three"),
        ("one two three", ["one", "two"], "one two"),  # neighbours keep what stood between
        ("one  \t two three", ["one", "two"], "one  \t two"),
        ("one two\nthree four", ["one", "four"], "one\nfour"),  # the gap held a line break
        ("one two\r\nthree", ["one", "three"], "one\nthree"),
        ("one two\u2028three", ["one", "three"], "one\nthree"),
        ("one\n\n\ntwo three", ["one", "three"], "one\nthree"),
        ("one\n\n\ntwo", ["one", "two"], "one\n\n\ntwo"),
        ("今天 天气很好", ["今", "好"], "今好"),  # scripts without spaces
        ("今天\n天气", ["今", "气"], "今\n气"),
        ("今 old new", ["今", "new"], "今new"),
        ("old new 今", ["old", "今"], "old今"),
        ("กข x คง", ["กข", "คง"], "กขคง"),
        ("one two, three", ["one", ","], "one,"),  # it followed its word directly
        ("one (two three) four", ["one", "(", "three", ")"], "one ( three)"),
        ("one two three.", ["one", "."], "one."),
        ("was it? no!", ["was", "?", "!"], "was?!"),
        ("one two , three", ["one", ","], "one ,"),  # it did not
        ("one two\n, three", ["one", ","], "one\n,"),
        ('one "two" three', ["one", '"'], 'one " "'),  # a straight quote may open as well
        ("one—two three", ["one", "three"], "one three"),
        ("a/!b", ["a", "b"], "a b"),
        ("one two", [], ""),
    ],
)
def test_a_gap_becomes_one_separator(text, kept, compressed):
    assert keep_words(text, *kept) == compressed


@pytest.mark.parametrize("text", ["  padded  ", "\n\nline\n", "word", "   ", "\t"])
def test_keeping_everything_keeps_the_white_space_around_it(text):
    words = cut_words(text)
    spans = merge_kept_words(np.ones(len(words), np.bool_), words, len(text))
    assert spans == [(0, len(text))]
    assert render(text, spans) == text


def test_white_space_at_either_end_goes_with_the_word_beside_it():
    assert keep_words("  one two  ", "one") == "  one"
    assert keep_words("  one two  ", "two") == "two  "


def test_an_empty_text_has_no_span():
    assert merge_kept_words(np.zeros(0, np.bool_), cut_words(""), 0) == []
    assert render("", []) == ""
    assert render("text", []) == ""


@pytest.mark.parametrize(
    "spans",
    [[(0, 0)], [(3, 2)], [(-1, 2)], [(0, 99)], [(4, 6), (0, 2)], [(0, 3), (2, 5)]],
)
def test_spans_that_are_empty_out_of_order_or_outside_are_refused(spans):
    with pytest.raises(DataError, match=r"span \[-?\d+, \d+\) is empty, overlaps"):
        render("ten chars.", spans)


def test_spans_that_touch_are_joined_by_nothing():
    assert render("one two", [(0, 2), (2, 5)]) == "one t"
    assert render("one\ntwo", [(0, 4), (4, 7)]) == "one\ntwo"


@given(data=st.data())
def test_the_span_of_the_whole_text_renders_the_text(any_text, data):
    text = data.draw(any_text)
    words = cut_words(text)
    spans = merge_kept_words(np.ones(len(words), np.bool_), words, len(text))
    assert spans == ([(0, len(text))] if text else [])
    assert render(text, spans) == text


@given(data=st.data())
def test_a_compressed_text_is_made_of_slices_and_separators(any_text, data):
    text = data.draw(any_text)
    words = cut_words(text)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words))))
    spans = merge_kept_words(keep.astype(np.bool_), words, len(text))
    if len(words):
        assert [a for a, _ in spans] == sorted({a for a, _ in spans})
        assert all(start < end for start, end in spans)
        held = np.zeros(len(text), dtype=int)
        for start, end in spans:
            held[start:end] += 1
        assert held.max(initial=0) <= 1
        for kept, start, end in zip(keep, words.starts, words.ends, strict=True):
            assert (held[start:end] == int(kept)).all()
    compressed = render(text, spans)
    reached = {0}  # how far the slices so far can explain the compressed text
    for index, (start, end) in enumerate(spans):
        reached = {
            at + len(separator) + end - start
            for at in reached
            for separator in ("", " ", "\n")[: 3 if index else 1]
            if compressed.startswith(separator + text[start:end], at)
        }
    assert len(compressed) in reached


@given(data=st.data())
def test_dropping_words_never_glues_two_words_of_letters_together(data):
    text = " ".join(data.draw(st.lists(st.sampled_from(["one", "two", "x1", "a.b"]), min_size=1)))
    words = cut_words(text)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words))))
    compressed = render(text, merge_kept_words(keep, words, len(text)))
    spans = zip(words.starts, words.ends, keep, strict=True)
    assert compressed.split() == [text[start:end] for start, end, kept in spans if kept]
