"""Where a document is cut for a teacher."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos.teachers.chunks import cut_chunks


@pytest.mark.parametrize(
    ("text", "max_words", "chunks"),
    [
        ("", 3, []),
        (" \n\t ", 3, []),
        ("one", 1, ["one"]),
        ("  A b c.  D e. ", 9, ["A b c.  D e."]),  # all of it fits
        ("A b. C d. E f.", 4, ["A b. C d.", "E f."]),
        ("A b. C d. E f.", 5, ["A b. C d.", "E f."]),  # back to the last sentence end
        ('He said "no!" Then left it.', 5, ['He said "no!"', "Then left it."]),
        ("He (they say.) Went on home.", 5, ["He (they say.)", "Went on home."]),
        ("One two\nthree four five", 4, ["One two", "three four five"]),  # a line is a sentence
        ("Cost 3.5 and more, it is.", 4, ["Cost 3.5 and more,", "it is."]),  # no sentence end
        ("A b. c d e f g h. I", 3, ["A b.", "c d e", "f g h.", "I"]),  # a sentence over the most
        ("好。好！ 好", 1, ["好。好！", "好"]),
    ],
)
def test_chunks_are_cut_at_sentence_ends_where_possible(text, max_words, chunks):
    assert [text[start:end] for start, end in cut_chunks(text, max_words)] == chunks


@given(st.text(alphabet=st.sampled_from('ab.!?" )\n\u2028')), st.integers(1, 5))
def test_chunks_hold_every_word_once_and_in_order(text, max_words):
    chunks = [text[start:end] for start, end in cut_chunks(text, max_words)]
    words = [chunk.split() for chunk in chunks]
    assert [word for some in words for word in some] == text.split()
    assert all(1 <= len(some) <= max_words for some in words)
    assert chunks == [chunk.strip() for chunk in chunks]


def test_a_chunk_of_no_words_is_refused():
    with pytest.raises(ValueError, match="max_words must be at least 1, not 0"):
        cut_chunks("a", 0)
