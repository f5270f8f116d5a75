"""Texts are worked in groups, and none of them may tell that it was not alone."""

from dataclasses import fields

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from moos import protect
from moos.config import ALL_PROTECTED
from moos.errors import DataError
from moos.joined_texts import SEPARATOR, join_texts
from moos.listed_words import keys_of, match_at
from moos.phrases import PHRASE, phrase_places, share_scores
from moos.preparation import PreparedText, prepare_texts
from moos.protect import PROTECTED_CLASSES, compile_patterns, protect_words
from moos.rendering import merge_kept_words, render, render_texts
from moos.scores import GRID
from moos.selection import select_by_budget, select_by_level, select_by_threshold
from moos.words import cut_words

# What the rules look at on both sides of a character: at a text's edge that is nothing.
_EDGES = (
    "$", "5", "-", "%", " %", "½", "no", "n't", "ain't", "aint", "'t", "Five", "seventeen", "half",
    "New York", "of", "Paris", "J.", "Los-", "/", "./x", "a/b/c", "_", "x_", "B", "camelCase", ".",
    "os.path", "@", "a@b", "://", "https", "www.", "C:\\a", "`", "```", "x`", "?", ",", ")", "\n",
    "\r", "\u0301", "\u200d", "👍", "🏽", "🇩", "的", "ー", "カ", "İ", "ſix", "nİne", "\x1c", "1990",
)  # fmt: skip
edgy_texts = st.lists(st.sampled_from([*_EDGES, *_EDGES, " ", "\n", "word"]), max_size=6).map(
    "".join
)


def same(found, expected) -> bool:
    if isinstance(expected, np.ndarray):
        return found.dtype == expected.dtype and np.array_equal(found, expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if hasattr(expected, "__dataclass_fields__"):
        names = [field.name for field in fields(expected)]
        return all(same(getattr(found, name), getattr(expected, name)) for name in names)
    return found == expected


@pytest.fixture(scope="module")
def some_texts(any_text):
    return st.lists(st.one_of(edgy_texts, any_text), max_size=8)


@given(data=st.data())
def test_words_of_joined_texts_are_those_of_each(some_texts, data):
    texts = data.draw(some_texts)
    joined = join_texts(texts)
    each = [cut_words(text) for text in texts]
    assert same(joined.split_words(), each)
    assert joined.bounds.tolist() == np.cumsum([0, *map(len, each)]).tolist()
    again = join_texts(texts, each)
    assert same(again.words, joined.words)
    assert joined.joined == SEPARATOR.join(texts)


@settings(max_examples=50)
@given(data=st.data(), max_length=st.integers(4, 40), context=st.integers(0, 8))
def test_texts_are_prepared_together_as_they_are_alone(
    tiny_compressor, some_texts, data, max_length, context
):
    texts, tokenizer = data.draw(some_texts), tiny_compressor.tokenizer

    def prepare(*texts: str) -> list[PreparedText]:
        return prepare_texts(texts, tokenizer, max_length=max_length, context_tokens=context)

    assert same(prepare(*texts), [prepare(text)[0] for text in texts])


@given(data=st.data(), seed=st.integers(0, 99))
def test_scores_are_shared_within_a_text_only(some_texts, data, seed):
    texts = data.draw(some_texts)
    joined = join_texts(texts)
    random = np.random.default_rng(seed)
    scores = (random.integers(0, GRID + 1, len(joined.words)) / GRID).astype(np.float32)
    alone = [
        share_scores(scores[first:stop], join_texts([text]))
        for text, first, stop in zip(texts, joined.bounds, joined.bounds[1:], strict=False)
    ]
    expected = np.concatenate([np.zeros(0, np.float32), *alone])
    assert share_scores(scores, joined).tolist() == expected.tolist()


@given(data=st.data())
def test_texts_are_rendered_together_as_they_are_alone(some_texts, data):
    texts = data.draw(some_texts)
    joined = join_texts(texts)
    size = len(joined.words)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), np.bool_)
    expected = []
    for text, words, first in zip(texts, joined.split_words(), joined.bounds, strict=False):
        spans = merge_kept_words(keep[first : first + len(words)], words, len(text))
        expected.append((render(text, spans), spans))
    assert render_texts(joined, keep) == expected


def protected_alone(text: str, expressions) -> list[bool]:
    """What the expressions of the table protect, each on the whole text."""
    words = cut_words(text)
    spans = [match.span() for each in expressions for match in each.finditer(text)]
    array = np.array(spans, dtype=np.int64).reshape(-1, 2)
    return protect.overlapped_words(words, array).tolist()


@settings(max_examples=300)
@given(data=st.data(), name=st.sampled_from(ALL_PROTECTED))
def test_what_is_protected_is_what_the_table_s_expressions_match(some_texts, data, name):
    texts = data.draw(some_texts)
    joined = join_texts(texts)
    found = protect_words(joined, compile_patterns([name]), lambda: None)
    expressions = [pattern.expression for pattern in PROTECTED_CLASSES[name]]
    expected = [flag for text in texts for flag in protected_alone(text, expressions)]
    assert found.mask.tolist() == expected
    assert found.errors == {}


@given(data=st.data())
def test_a_users_words_and_patterns_see_one_text(some_texts, data):
    texts = data.draw(some_texts)
    words, patterns = ["New York", "no", "word\n"], [r"(?s)\S.*\S", r"\A.", r"\n\n\w"]
    joined = join_texts(texts)
    mask = protect_words(joined, compile_patterns([], words, patterns), lambda: None).mask
    expressions = [each.expression for each in compile_patterns([], words, patterns)]
    assert mask.tolist() == [flag for text in texts for flag in protected_alone(text, expressions)]


def test_a_pattern_that_takes_too_long_is_an_error_of_its_text_alone(monkeypatch):
    monkeypatch.setattr(protect, "PATTERN_TIMEOUT_S", 0.05)
    texts = ["see no 5", "a" * 5000 + "y", "", "aax and more", "a" * 5000 + "y 7"]
    patterns = compile_patterns(ALL_PROTECTED, ["more"], [r"(?:(?:a|aa)+)+x", "see"])
    calls = []
    found = protect_words(join_texts(texts), patterns, lambda: calls.append(1))
    assert list(found.errors) == [1, 4]
    assert all("a|aa" in str(error) for error in found.errors.values())
    assert found.mask[: len(cut_words(texts[0]))].all()
    assert len(calls) >= len(texts)  # each of them may take its time
    sound = [texts[place] for place in (0, 2, 3)]
    alone = protect_words(join_texts(sound), patterns, lambda: None)
    bounds = join_texts(texts).bounds
    parts = [found.mask[bounds[place] : bounds[place + 1]] for place in (0, 2, 3)]
    assert np.concatenate(parts).tolist() == alone.mask.tolist()


def test_an_expression_of_the_table_that_takes_too_long_is_tried_on_each_text(monkeypatch):
    monkeypatch.setattr(protect, "PATTERN_TIMEOUT_S", 0.05)
    slow = protect.ProtectedPattern(regex.compile(r"(?:(?:a|aa)+)+x"))
    found = protect_words(join_texts(["aax", "a" * 5000 + "y", "b"]), [slow], lambda: None)
    assert list(found.errors) == [1]
    assert found.mask.tolist() == [True, *[False] * (len(found.mask) - 1)]


@settings(max_examples=30)
@given(data=st.data())
@pytest.mark.parametrize(
    "selection",
    [{"rate": 0.4}, {"threshold": 0.5}, {"target_tokens": 4}, {"rate": 0.5, "protect": []}],
)
def test_a_group_is_compressed_as_its_texts_are_alone(
    plain_compressor, some_texts, data, selection
):
    texts = data.draw(st.lists(st.one_of(edgy_texts, st.just("\ud800")), max_size=6))
    texts += data.draw(some_texts)
    selector = plain_compressor.selector(**selection)
    together = plain_compressor.compress_each(texts, selector)
    for text, found in zip(texts, together, strict=True):
        (alone,) = plain_compressor.compress_each([text], selector)
        if isinstance(alone, DataError):
            assert str(found) == str(alone)
            continue
        for name in ("text", "spans", "num_tokens", "num_kept_tokens", "over_budget"):
            assert getattr(found, name) == getattr(alone, name), name
        assert same(found.word_table.words, alone.word_table.words)
        assert found.word_table.protected.tolist() == alone.word_table.protected.tolist()


word = st.tuples(st.integers(0, 8), st.integers(0, 3), st.integers(0, 4))


@given(
    st.lists(st.lists(word, max_size=12), max_size=6),
    st.lists(st.integers(-1, 20), min_size=6, max_size=6),
    st.integers(0, 9).map(lambda eighth: eighth * GRID // 8 + 1),
    st.sampled_from([(0, 0), (1, 3), (2, 2)]),
)
def test_what_is_selected_of_a_text_does_not_depend_on_other_texts(rows, budgets, level, share):
    columns = np.array([word for text in rows for word in text]).reshape(-1, 3).T
    scores, counts = np.float32(columns[0] / 8), np.int32(columns[1])
    bounds, budgets = np.cumsum([0, *map(len, rows)]), np.array(budgets[: len(rows)], np.int64)
    document = (scores, counts, columns[2] == 0)

    def alone(place):
        part = slice(bounds[place], bounds[place + 1])
        return *(column[part] for column in document), np.array([0, len(rows[place])])

    for select, settings_of in (
        (select_by_budget, lambda places: (budgets[places],)),
        (select_by_threshold, lambda places: (level / GRID,)),
        (select_by_level, lambda places: (level, share)),
    ):
        together = select(*document, bounds, *settings_of(slice(None)))
        each = [
            select(*alone(place), *settings_of(slice(place, place + 1)))
            for place in range(len(rows))
        ]
        assert together.tolist() == [flag for mask in each for flag in mask.tolist()]


LISTED = ("no", "seven", "seventeen", "nine", "cannot", "sixteenth")


@given(
    st.lists(st.sampled_from([*LISTED, "ſeven", "nİne", "NO", "sevente", "x", " ", "'", "1", "é"]))
)
def test_every_listed_word_is_found_whatever_its_case(parts):
    text = "".join(parts)
    expression = regex.compile(
        rf"(?<![\p{{L}}\p{{N}}])(?:{'|'.join(LISTED)})(?![\p{{L}}\p{{N}}])", regex.IGNORECASE
    )
    texts = join_texts([text])
    places = texts.runs.starts[texts.runs.match(keys_of(LISTED))].tolist()
    assert {match.start() for match in expression.finditer(text)} <= set(places)
    runs = [match.start() for match in regex.finditer(r"[\p{L}\p{N}]+", text)]
    assert texts.runs.starts.tolist() == runs


@settings(max_examples=300)
@given(data=st.data())
def test_phrases_are_what_their_expression_matches(some_texts, data):
    (*_, text) = ["", *data.draw(some_texts)]
    texts = join_texts([text])
    spans = [match.span() for match in PHRASE.finditer(text)]
    assert match_at(PHRASE, text, phrase_places(texts)) == spans
