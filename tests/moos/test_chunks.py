from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moos import Chunker, render
from moos.errors import DataError
from moos.rendering import locate_spans, merge_kept_words, words_in_spans
from moos.words import cut_words


def some_words(text: str, seed: int, share: float) -> list[tuple[int, int]]:
    """Spans of a random share of the words."""
    words = cut_words(text)
    keep = np.random.default_rng(seed).random(len(words)) < share
    return merge_kept_words(keep, words, len(text))


def words_of(text: str, spans: list[tuple[int, int]]) -> list[int]:
    return np.flatnonzero(words_in_spans(cut_words(text), spans)).tolist()


@pytest.fixture(scope="session")
def tokenizer(tiny_compressor):
    return tiny_compressor.tokenizer


@pytest.fixture(scope="session", params=["bert", "modernbert"])
def any_tokenizer(request, make_checkpoint):
    from moos.tokens import TextTokenizer

    return TextTokenizer.from_file(make_checkpoint(request.param) / "tokenizer.json")


@settings(max_examples=25)
@given(st.data())
def test_chunks_hold_every_kept_word_once_and_point_into_the_original(
    any_tokenizer, any_text, data
):
    text = data.draw(any_text)
    spans = some_words(text, data.draw(st.integers(0, 99)), data.draw(st.sampled_from([0.4, 1])))
    limit = data.draw(st.integers(4, 40))
    chunks = Chunker(any_tokenizer, limit).cut(text, spans)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    held = [words_of(text, chunk.spans) for chunk in chunks]
    assert [word for own in held for word in own] == words_of(text, spans)
    for chunk, own in zip(chunks, held, strict=True):
        assert chunk.text == render(text, chunk.spans)
        assert (chunk.start, chunk.end) == (chunk.spans[0][0], chunk.spans[-1][1])
        assert chunk.num_tokens == any_tokenizer.count(chunk.text)
        assert chunk.num_tokens <= limit or len(own) == 1


@settings(max_examples=25)
@given(st.data())
def test_an_overlap_repeats_the_end_of_a_chunk_and_loses_nothing(tokenizer, any_text, data):
    text = data.draw(any_text)
    spans = some_words(text, data.draw(st.integers(0, 99)), 0.7)
    limit = data.draw(st.integers(8, 40))
    chunks = Chunker(tokenizer, limit, overlap=limit // 2).cut(text, spans)
    held = [words_of(text, chunk.spans) for chunk in chunks]
    assert sorted({word for own in held for word in own}) == words_of(text, spans)
    for before, after in pairwise(held):
        assert before[0] < after[0]
        assert before[-1] < after[-1]
        assert set(after) & set(before) == {word for word in after if word <= before[-1]}


def test_a_cut_falls_behind_a_blank_line_a_sentence_or_a_space(tokenizer):
    def texts(text: str, limit: int, overlap: int = 0) -> list[str]:
        return [c.text for c in Chunker(tokenizer, limit, overlap).cut(text, [(0, len(text))])]

    # a b c d e f g: one token each; the last quarter of 8 is the 6th to the 8th.
    assert texts("a a a a a.\n\na. a a a a a", 8) == ["a a a a a.", "a. a a a a a"]
    assert texts("a a a a a. a a a a a a", 8) == ["a a a a a.", "a a a a a a"]
    assert texts("a a a a a a\r\na a a a", 8) == ["a a a a a a", "a a a a"]
    assert texts("a a a a a a a a a a", 8) == ["a a a a a a a a", "a a"]
    # What lies before the last quarter is no reason to cut.
    assert texts("a a. a a a a a a a a", 8) == ["a a. a a a a a", "a a a"]
    assert texts("a a a a a. a a a a a a", 8, overlap=3) == [
        "a a a a a.",
        "a a. a a a a a",
        "a a a a",
    ]


def test_a_chunk_does_not_begin_with_a_closing_mark(tokenizer):
    text = "a a a a a a a) a a a"
    assert [c.text for c in Chunker(tokenizer, 7).cut(text, [(0, len(text))])] == [
        "a a a a a a",
        "a) a a a",
    ]


def test_a_word_that_a_chunk_cannot_hold_is_one_alone(tokenizer):
    text = "a https://example.org/" + "x" * 60 + " a"
    chunks = Chunker(tokenizer, 8).cut(text, [(0, len(text))])
    assert [chunk.text for chunk in chunks] == text.split(" ")
    assert chunks[1].num_tokens > 8


@pytest.mark.parametrize("text", ["", " \n "])
def test_a_text_without_words_has_no_chunk(tokenizer, text):
    assert Chunker(tokenizer, 8).cut(text, [(0, len(text))] if text else []) == []


def test_spans_that_are_none_are_refused(tokenizer):
    with pytest.raises(DataError, match="outside the text"):
        Chunker(tokenizer, 8).cut("short", [(0, 99)])


def test_spans_are_found_in_the_rendered_text(hostile_text):
    spans = some_words(hostile_text, 3, 0.5)
    rendered = render(hostile_text, spans)
    for (start, end), at in zip(spans, locate_spans(hostile_text, spans), strict=True):
        assert rendered[at : at + end - start] == hostile_text[start:end]
