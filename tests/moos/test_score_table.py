"""What a score table gives back is what was put in, to the last bit."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos.engines import TokenScores
from moos.score_table import (
    SCORE_SCHEMA,
    StoredText,
    build_reason_rows,
    build_score_rows,
    read_scores,
    restore_scores,
    write_scores,
)
from moos.scored_text import (
    ScoredText,
    compress_protected,
    compress_scored,
    protect_scored,
    score_words,
)
from moos.scores import GRID

COLUMNS = ("token_counts", "preserve_probability", "outlier_score", "score")
NUMBERS = ("num_tokens", "num_unknown_tokens", "num_letters", "num_non_latin_letters")


def assert_same(found: ScoredText, expected: ScoredText) -> None:
    assert found.text == expected.text
    assert found.words.starts.tolist() == expected.words.starts.tolist()
    assert found.words.ends.tolist() == expected.words.ends.tolist()
    for name in COLUMNS:
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert mine.dtype == theirs.dtype, name
        assert mine.tolist() == theirs.tolist(), name
    for name in NUMBERS:
        assert getattr(found, name) == getattr(expected, name), name


@pytest.fixture(scope="module")
def score_texts(plain_compressor):
    """`score_texts(texts, seed)`: the texts with scores of every kind, 0 and 1 among them."""

    def score(texts, seed):
        random = np.random.default_rng(seed)
        scoring = replace(plain_compressor.scoring, alpha=0.7, word_score="mean")
        parts = plain_compressor.preparer.prepare(texts)
        scores = []
        for item in (item for part in parts for item in part.inputs):
            shape = item.own_end - item.own_start
            pick = random.integers(0, 3, size=(2, shape))
            values = np.where(pick == 2, random.random((2, shape)), pick).astype(np.float32)
            scores.append(TokenScores(values[0], values[1]))
        return score_words(parts, scores, scoring)

    return score


@given(st.data(), st.integers(0, 1000), st.integers(1, 4))
def test_scores_come_back_exactly(score_texts, any_text, data, seed, per_batch):
    texts = data.draw(st.lists(any_text, max_size=8))
    scored = score_texts(texts, seed)
    random = np.random.default_rng(seed)
    protected = [random.random(len(item.words)) < 0.3 for item in scored]
    positions = (np.cumsum([len(text) + 1 for text in texts]) * (1 << 20)).tolist()
    batches = [
        build_score_rows(
            positions[i : i + per_batch], scored[i : i + per_batch], protected[i : i + per_batch]
        )
        for i in range(0, len(scored), per_batch)
    ]
    rows = read_scores(write_scores(batches))
    assert list(rows) == positions
    for position, item, mask in zip(positions, scored, protected, strict=True):
        assert rows[position].reason is None
        (restored,) = restore_scores([StoredText(item.text, rows[position])])
        assert_same(restored.scored, item)
        assert restored.protected.dtype == np.bool_
        assert restored.protected.tolist() == mask.tolist()


@pytest.mark.parametrize("selection", [{"rate": 0.4}, {"threshold": 0.5}, {"target_tokens": 3}])
def test_what_is_selected_from_stored_scores_is_what_was_selected_at_once(
    plain_compressor, score_texts, hostile_text, selection
):
    selector = plain_compressor.selector(**selection)
    (scored,) = score_texts([hostile_text], 1)
    (at_once,) = compress_scored([scored], selector)
    protected = protect_scored([scored], selector)[0].protected
    rows = read_scores(write_scores([build_score_rows([5], [scored], [protected])]))
    restored = restore_scores([StoredText(hostile_text, rows[5])])
    (later,) = compress_protected(restored, selector)
    assert later.words == at_once.words
    assert (later.text, later.spans) == (at_once.text, at_once.spans)
    for name in ("num_tokens", "num_kept_tokens", "over_budget", "num_encoder_tokens"):
        assert getattr(later, name) == getattr(at_once, name)


def test_documents_without_scores_have_their_reason(score_texts):
    scored = score_texts(["one two", "three"], 0)
    protected = [np.zeros(len(item.words), np.bool_) for item in scored]
    batches = [
        build_score_rows([0, 30], scored, protected),
        build_reason_rows({10: "too long", 20: "café \u2028"}),
    ]
    rows = read_scores(write_scores(batches))
    assert {position: row.reason for position, row in rows.items()} == {
        0: None,
        30: None,
        10: "too long",
        20: "café \u2028",
    }
    assert len(rows[10].score) == 0
    assert_same(restore_scores([StoredText("three", rows[30])])[0].scored, scored[1])


def test_a_table_without_rows_is_a_table():
    for batches in ([], [build_score_rows([], [], [])], [build_reason_rows({})]):
        data = write_scores(batches)
        assert pq.read_schema(pa.BufferReader(data)).equals(SCORE_SCHEMA)
        assert read_scores(data) == {}


def test_a_text_of_no_words_comes_back(score_texts):
    scored = score_texts(["", " \n "], 0)
    nothing = [np.zeros(0, np.bool_)] * 2
    rows = read_scores(write_scores([build_score_rows([0, 1], scored, nothing)]))
    for position, item in enumerate(scored):
        assert_same(restore_scores([StoredText(item.text, rows[position])])[0].scored, item)


def test_scores_of_another_text_are_refused(score_texts):
    (scored,) = score_texts(["one two three"], 0)
    protected = [np.zeros(3, np.bool_)]
    rows = read_scores(write_scores([build_score_rows([0], [scored], protected)]))
    assert restore_scores([StoredText("one two three four", rows[0])]) is None
    assert restore_scores([StoredText("", rows[0])]) is None


def test_the_same_scores_are_the_same_bytes(score_texts):
    """A split that is scored again names the same object."""
    scored = score_texts(["one two three", "four"], 0)
    protected = [np.zeros(len(item.words), np.bool_) for item in scored]
    first, again = (write_scores([build_score_rows([0, 9], scored, protected)]) for _ in range(2))
    assert first == again


def test_a_score_takes_a_few_bytes_a_word(plain_compressor, score_texts):
    """What a corpus rate costs on disk: less than the text itself."""
    (scored,) = score_texts(["The committee met on Tuesday and decided on nothing. " * 2000], 0)
    (found,) = protect_scored([scored], plain_compressor.selector())
    size = len(write_scores([build_score_rows([0], [scored], [found.protected])]))
    assert size < 8 * len(scored.words)
    assert scored.score.max() * GRID <= GRID
