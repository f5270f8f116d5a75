"""One threshold for many texts: exact, never over the budget, and hardly below it."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos import Compressor, protect
from moos.config import ScoringConfig, SelectionConfig
from moos.corpus import (
    CorpusThreshold,
    ScoreHistogram,
    find_threshold,
    merge_histograms,
    score_levels,
)
from moos.errors import ConfigError, DataError
from moos.scores import GRID
from moos.selection import budget_of_rate, select_by_level
from moos.selector import Selector
from moos.words import count_tokens, cut_words, map_tokens

LEVELS = st.sampled_from([0, 1, 2, 1000, 1001, GRID - 1, GRID])
COUNTS = st.dictionaries(LEVELS, st.integers(0, 50), max_size=7)
RATES = st.one_of(st.floats(0.001, 1.0), st.sampled_from([0.1, 0.25, 0.5, 0.29, 1.0]))


def histogram_of(counts, protected_tokens=0):
    histogram = ScoreHistogram(protected_tokens=protected_tokens)
    for level, count in counts.items():
        histogram.by_score[level] = count
    return histogram


def kept_by(counts, level, tied_kept):
    """Tokens that a threshold keeps of those that compete."""
    return sum(count for at, count in counts.items() if at >= level) + tied_kept


@given(COUNTS, st.integers(0, 60), RATES)
def test_the_threshold_is_the_lowest_whose_tokens_fit(counts, protected_tokens, rate):
    threshold = find_threshold(histogram_of(counts, protected_tokens), rate)
    num_tokens = sum(counts.values()) + protected_tokens
    left = budget_of_rate(rate, num_tokens) - protected_tokens
    assert (threshold.num_tokens, threshold.rate) == (num_tokens, rate)
    assert threshold.protected_tokens == protected_tokens
    assert threshold.over_budget == (left < 0)
    fitting = [g for g in range(GRID + 2) if kept_by(counts, g, 0) <= left]
    assert threshold.level == (fitting[0] if left >= 0 else GRID + 1)
    if left < 0 or threshold.level == 0:
        assert (threshold.tied_tokens, threshold.tied_kept) == (0, 0)
    else:
        # What is left goes to the level below, which does not fit whole: not a token is wasted.
        assert threshold.tied_tokens == counts[threshold.level - 1]
        assert 0 <= threshold.tied_kept < threshold.tied_tokens
        assert kept_by(counts, threshold.level, threshold.tied_kept) == left


@pytest.mark.parametrize(
    ("counts", "protected_tokens", "rate", "expected"),
    [
        ({5: 10, 6: 10}, 0, 0.5, (6, 10, 0)),
        ({5: 10, 6: 10}, 0, 0.7, (6, 10, 4)),
        ({5: 10, 6: 10}, 0, 0.3, (7, 10, 6)),
        ({5: 10, 6: 10}, 0, 1.0, (0, 0, 0)),
        ({GRID: 10}, 0, 0.3, (GRID + 1, 10, 3)),  # a classifier that is certain of all
        ({0: 10}, 0, 0.3, (1, 10, 3)),
        ({5: 10}, 10, 0.5, (6, 10, 0)),  # protected tokens are the budget exactly
        ({5: 10}, 10, 0.45, (GRID + 1, 0, 0)),  # and over it
        ({}, 0, 0.5, (0, 0, 0)),
        ({}, 10, 1.0, (0, 0, 0)),
    ],
)
def test_thresholds(counts, protected_tokens, rate, expected):
    found = find_threshold(histogram_of(counts, protected_tokens), rate)
    assert (found.level, found.tied_tokens, found.tied_kept) == expected


WORD = st.tuples(st.integers(0, 8), st.integers(0, 4), st.integers(0, 6))
TEXTS = st.lists(st.lists(WORD, max_size=12), max_size=12).map(
    lambda texts: [
        (
            np.float32([score / 8 for score, _, _ in rows]),
            np.int32([count for _, count, _ in rows]),
            np.array([lot == 0 for _, _, lot in rows], dtype=np.bool_),
        )
        for rows in texts
    ]
)


def count_texts(texts):
    histogram = ScoreHistogram()
    for scores, counts, protected in texts:
        histogram.add_text(scores, counts, protected, num_tokens=int(counts.sum()))
    return histogram


def select(text, threshold):
    share = (threshold.tied_kept, threshold.tied_tokens)
    bounds = np.array([0, len(text[0])])
    return select_by_level(*text, bounds, threshold.level, share)


@given(TEXTS, RATES)
def test_a_corpus_meets_its_rate_but_for_what_each_text_rounds_down(texts, rate):
    threshold = find_threshold(count_texts(texts), rate)
    keeps = [select(text, threshold) for text in texts]
    kept = sum(int(counts[keep].sum()) for (_, counts, _), keep in zip(texts, keeps, strict=True))
    budget = budget_of_rate(rate, threshold.num_tokens)
    assert all(keep[protected].all() for (*_, protected), keep in zip(texts, keeps, strict=True))
    if threshold.over_budget:
        assert kept == threshold.protected_tokens > budget
        return
    assert kept <= budget
    rounded = 0
    for scores, counts, protected in texts:
        tied = (score_levels(scores) == threshold.level - 1) & ~protected
        rounded += int(counts[tied].max(initial=0))
    all_tokens = sum(int(counts.sum()) for _, counts, _ in texts)
    assert kept >= min(budget, all_tokens) - rounded


@given(TEXTS, RATES, RATES)
def test_a_higher_corpus_rate_keeps_a_superset_of_every_text(texts, first, second):
    histogram = count_texts(texts)
    low = find_threshold(histogram, min(first, second))
    high = find_threshold(histogram, max(first, second))
    for text in texts:
        assert (select(text, high) | ~select(text, low)).all()


@given(TEXTS, st.randoms(use_true_random=False))
def test_histograms_merge_to_the_same_in_any_order(texts, random):
    whole = count_texts(texts)
    assert whole.num_tokens == sum(int(counts.sum()) for _, counts, _ in texts)
    shuffled = random.sample(texts, len(texts))
    cut = random.randint(0, len(texts))
    parts = [count_texts(shuffled[:cut]), count_texts(shuffled[cut:]), ScoreHistogram()]
    random.shuffle(parts)
    before = [part.by_score.copy() for part in parts]
    merged = merge_histograms(parts)
    assert merged.by_score.tolist() == whole.by_score.tolist()
    assert merged.protected_tokens == whole.protected_tokens
    assert all((a == b.by_score).all() for a, b in zip(before, parts, strict=True))
    assert merge_histograms([]).num_tokens == 0


@given(TEXTS, RATES)
def test_histograms_and_thresholds_survive_json(texts, rate):
    histogram = count_texts(texts)
    again = ScoreHistogram.from_json(json.loads(json.dumps(histogram.to_json())))
    assert again.by_score.tolist() == histogram.by_score.tolist()
    assert again.by_score.dtype == histogram.by_score.dtype
    assert again.protected_tokens == histogram.protected_tokens
    threshold = find_threshold(histogram, rate)
    assert CorpusThreshold.from_json(json.loads(json.dumps(threshold.to_json()))) == threshold


def test_a_corpus_of_more_tokens_than_32_bits_count_is_exact():
    histogram = histogram_of({1: 3 << 40, 2: (1 << 40) + 1}, 1 << 33)
    found = find_threshold(
        ScoreHistogram.from_json(json.loads(json.dumps(histogram.to_json()))), 0.5
    )
    left = ((4 << 40) + 1 + (1 << 33)) // 2 - (1 << 33)
    assert (found.level, found.tied_kept) == (2, left - (1 << 40) - 1)


def test_a_text_without_words_stays_whole_and_counts_as_protected():
    histogram = ScoreHistogram()
    nothing = (np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, np.bool_))
    histogram.add_text(*nothing, num_tokens=7)
    assert (histogram.num_tokens, histogram.protected_tokens) == (7, 7)
    assert find_threshold(histogram, 0.5).over_budget


@given(st.lists(st.integers(0, GRID)))
def test_scores_on_the_grid_are_whole_levels(levels):
    scores = (np.array(levels, dtype=np.float64) / GRID).astype(np.float32)
    assert score_levels(scores).tolist() == levels


# The compressor, which finds and applies a threshold over the texts of one call.

TEXTS_OF_ANY_KIND = [
    "The committee met on Tuesday and decided that no further action was needed.",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "",
    "  \n ",
    "Prices rose by 3.5 percent, and the model keeps the words that matter most.\n" * 20,
    "!?.,;:",
    "的一是不了人我在有他",
]


@pytest.fixture(scope="module")
def kinds(make_checkpoint):
    return {
        kind: Compressor.load(make_checkpoint(kind), scoring=ScoringConfig(alpha=1.0), device="cpu")
        for kind in ("bert", "xlm-r", "modernbert", "deberta-v2")
    }


@pytest.mark.parametrize("kind", ["bert", "xlm-r", "modernbert", "deberta-v2"])
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.77, 1.0])
def test_many_texts_are_compressed_to_the_rate_together(kinds, kind, rate):
    documents = kinds[kind].compress(TEXTS_OF_ANY_KIND, corpus_rate=rate, protect=[])
    total = sum(document.num_tokens for document in documents)
    kept = sum(document.num_kept_tokens for document in documents)
    # Two texts hold no word: they stay, whatever the rate.
    whole = sum(d.num_tokens for d in documents if not d.words)
    budget = budget_of_rate(rate, total)
    assert kept <= max(budget, whole)
    assert kept >= min(budget, total) - 0.02 * total
    if rate == 1.0:
        assert [document.text for document in documents] == TEXTS_OF_ANY_KIND
    elif rate > 0.05:
        assert len({round(d.rate, 2) for d in documents if d.words}) > 2, "texts need differ"


def test_all_texts_are_selected_by_one_threshold(plain_compressor):
    texts = [text for text in TEXTS_OF_ANY_KIND if text.strip()] * 3
    documents = plain_compressor.compress(texts, corpus_rate=0.4, protect=[])
    levels = {True: [], False: []}
    for text, document in zip(texts, documents, strict=True):
        words = cut_words(text)
        (tokens,) = plain_compressor.tokenizer.tokenize([text])
        costs = count_tokens(map_tokens(tokens, words), len(words)) > 0
        table = document.word_table
        for kept in (True, False):
            levels[kept] += score_levels(table.score[costs & (table.kept == kept)]).tolist()
    # Only one level may be both kept and dropped: the one that the budget holds a share of.
    assert max(levels[False]) <= min(levels[True])


def test_the_corpus_decides_and_not_the_text(chosen_compressor):
    compressor = chosen_compressor({"a": 0.9, "b": 0.8, "c": 0.2, "d": 0.1})
    dense, padded = compressor.compress(["a b a b", "c d c d"], corpus_rate=0.5, protect=[])
    assert (dense.text, padded.text) == ("a b a b", "")
    dense, padded = compressor.compress(["a b a b", "c d c d"], corpus_rate=0.75, protect=[])
    assert (dense.text, padded.text) == ("a b a b", "c c")
    (alone,) = compressor.compress(["c d c d"], corpus_rate=0.5, protect=[])
    assert alone.text == compressor.compress("c d c d", corpus_rate=0.5, protect=[]).text == "c c"


def test_of_a_level_that_fits_in_part_every_text_keeps_its_share_from_its_beginning(
    chosen_compressor,
):
    compressor = chosen_compressor({})  # every word scores the same
    documents = compressor.compress(["a b c d", "e f", "g h i j k l m n"], corpus_rate=0.5)
    assert [document.text for document in documents] == ["a b", "e", "g h i j"]


def test_protected_words_stay_and_others_make_room(chosen_compressor):
    compressor = chosen_compressor({"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.1})
    texts = ["a b c d", "d d d d"]
    protection = {"protect": [], "protect_words": ["d"]}

    def compress(rate, **selection):
        return [d.text for d in compressor.compress(texts, corpus_rate=rate, **selection)]

    assert compress(0.5, protect=[]) == ["a b c", ""]  # a share of "d" that rounds to nothing
    assert compress(0.75, **protection) == ["a d", "d d d d"]
    # Protected words alone are over the budget, and all that is kept.
    assert compress(0.5, **protection) == ["d", "d d d d"]


def test_texts_of_no_tokens_need_no_threshold(plain_compressor):
    assert plain_compressor.compress([], corpus_rate=0.5) == []
    (document,) = plain_compressor.compress([""], corpus_rate=0.5)
    assert (document.text, document.rate) == ("", 1.0)


def test_a_text_that_cannot_be_compressed_does_not_count(plain_compressor):
    good = [text for text in TEXTS_OF_ANY_KIND if text]
    mixed = list(itertools.chain.from_iterable((text, "\ud800") for text in good))
    selector = plain_compressor.selector(corpus_rate=0.4)
    results = plain_compressor.compress_each(mixed, selector)
    assert all(isinstance(result, DataError) for result in results[1::2])
    alone = plain_compressor.compress(good, corpus_rate=0.4)
    assert [result.spans for result in results[::2]] == [document.spans for document in alone]
    with pytest.raises(DataError, match="text 1 of 12"):
        plain_compressor.compress(mixed, corpus_rate=0.4)


def test_a_text_whose_pattern_takes_too_long_does_not_count(plain_compressor, monkeypatch):
    monkeypatch.setattr(protect, "PATTERN_TIMEOUT_S", 0.05)
    selection = {"corpus_rate": 0.4, "protect_patterns": [r"(?:(?:a|aa)+)+x"]}
    good = TEXTS_OF_ANY_KIND[:2]
    selector = plain_compressor.selector(**selection)
    results = plain_compressor.compress_each([*good, "a" * 5000 + "y"], selector)
    assert isinstance(results[2], DataError)
    alone = plain_compressor.compress(good, **selection)
    assert [result.spans for result in results[:2]] == [document.spans for document in alone]


def test_a_threshold_that_is_known_is_applied_as_it_is(plain_compressor):
    """As in the second pass of a run, where texts come in groups."""
    texts = [text for text in TEXTS_OF_ANY_KIND if text.strip()]
    together = plain_compressor.compress(texts, corpus_rate=0.4)
    histogram = ScoreHistogram()
    config = SelectionConfig(corpus_rate=0.4)
    for document in together:
        table = document.word_table
        (tokens,) = plain_compressor.tokenizer.tokenize([texts[together.index(document)]])
        words = table.words
        counts = count_tokens(map_tokens(tokens, words), len(words))
        histogram.add_text(table.score, counts, table.protected, num_tokens=document.num_tokens)
    selector = Selector(config, corpus=find_threshold(histogram, 0.4))
    for text, document in zip(texts, together, strict=True):
        (alone,) = plain_compressor.compress_each([text], selector)
        assert alone.spans == document.spans


def test_a_corpus_rate_needs_scores_that_compare(tiny_compressor):
    with pytest.raises(ConfigError, match=r"selection\.corpus_rate=0\.5 needs .* alpha=0\.9"):
        tiny_compressor.compress(["a b"], corpus_rate=0.5)
