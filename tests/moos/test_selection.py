import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos import selection
from moos.scores import GRID
from moos.selection import (
    budget_of_rate,
    rank_words,
    select_by_count,
)


# Most of what is said of a text's words is said of one text.
def select_by_budget(scores, counts, protected, budget):
    bounds, budgets = np.array([0, len(scores)]), np.array([budget])
    return selection.select_by_budget(scores, counts, protected, bounds, budgets)


def select_by_threshold(scores, counts, protected, threshold):
    bounds = np.array([0, len(scores)])
    return selection.select_by_threshold(scores, counts, protected, bounds, threshold)


def select_by_level(scores, counts, protected, level, tied_share):
    bounds = np.array([0, len(scores)])
    return selection.select_by_level(scores, counts, protected, bounds, level, tied_share)


def arrays(scores, token_counts, protected=()):
    mask = np.zeros(len(scores), dtype=np.bool_)
    mask[list(protected)] = True
    return np.float32(scores), np.int32(token_counts), mask


# Few distinct scores, so that ties are common; words without tokens and protected ones as well.
word = st.tuples(st.integers(0, 8), st.integers(0, 4), st.integers(0, 4))
documents = st.lists(word, max_size=40).map(
    lambda rows: (
        np.float32([score / 8 for score, _, _ in rows]),
        np.int32([count for _, count, _ in rows]),
        np.array([lot == 0 for _, _, lot in rows], dtype=np.bool_),
    )
)
budgets = st.integers(0, 100)


@pytest.mark.parametrize(
    ("scores", "token_counts", "protected", "budget", "kept"),
    [
        ([0.9, 0.1, 0.8, 0.2], [1, 1, 1, 1], [], 2, [0, 2]),
        ([0.5, 0.5, 0.5, 0.5], [1, 1, 1, 1], [], 2, [0, 1]),  # ties: the earlier word
        ([0.9, 0.8, 0.1], [1, 3, 1], [], 2, [0]),  # no smaller, worse word is squeezed in
        ([0.9, 0.8], [5, 1], [], 4, []),  # not even the best word fits
        ([0.1, 0.9, 0.8], [1, 1, 1], [0], 2, [0, 1]),  # protected words spend the budget
        ([0.1, 0.9], [3, 1], [0], 2, [0]),  # protected words alone exceed it
        ([0.9, 0.0, 0.1, 0.0], [1, 0, 1, 0], [], 1, [0, 1]),  # without tokens: with the left word
        ([0.0, 0.9], [0, 1], [], 1, [0, 1]),  # before the first word with tokens: with the right
        ([0.0, 0.9], [0, 1], [], 0, []),
        ([0.0, 0.0], [0, 0], [], 0, [0, 1]),  # nothing to save
        ([0.9, 0.0], [1, 0], [1], 0, [1]),  # protected, although its neighbour goes
        ([], [], [], 5, []),
    ],
)
def test_the_best_words_that_fit_are_kept(scores, token_counts, protected, budget, kept):
    keep = select_by_budget(*arrays(scores, token_counts, protected), budget)
    assert np.flatnonzero(keep).tolist() == kept


@given(documents, budgets)
def test_the_budget_is_kept_unless_protected_words_alone_exceed_it(document, budget):
    scores, counts, protected = document
    keep = select_by_budget(scores, counts, protected, budget)
    assert keep[protected].all()
    assert counts[keep].sum() <= max(budget, counts[protected].sum())


@given(documents, budgets)
def test_what_is_left_of_the_budget_is_less_than_the_first_word_left_out(document, budget):
    scores, counts, protected = document
    keep = select_by_budget(scores, counts, protected, budget)
    left_out = [word for word in rank_words(scores, counts, protected) if not keep[word]]
    if left_out:
        assert budget - counts[keep].sum() < counts[left_out[0]]


@given(documents, budgets)
def test_no_word_left_out_ranks_above_a_kept_one(document, budget):
    scores, counts, protected = document
    keep = select_by_budget(scores, counts, protected, budget)
    competing = ~protected & (counts > 0)
    for kept in np.flatnonzero(keep & competing):
        for dropped in np.flatnonzero(~keep & competing):
            assert (scores[kept], -kept) > (scores[dropped], -dropped)


@given(documents, budgets, budgets)
def test_a_larger_budget_keeps_a_superset(document, first, second):
    small = select_by_budget(*document, min(first, second))
    large = select_by_budget(*document, max(first, second))
    assert (large | ~small).all()


@given(documents, st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_higher_rate_keeps_a_superset(document, first, second):
    total = int(document[1].sum())
    small = select_by_budget(*document, budget_of_rate(min(first, second), total))
    large = select_by_budget(*document, budget_of_rate(max(first, second), total))
    assert (large | ~small).all()


@given(documents, budgets)
def test_words_without_tokens_follow_their_left_neighbour(document, budget):
    scores, counts, protected = document
    keep = select_by_budget(scores, counts, protected, budget)
    costed = np.flatnonzero(counts > 0)
    for index in np.flatnonzero((counts == 0) & ~protected):
        on_the_left = costed[costed < index]
        if len(costed):
            neighbour = on_the_left[-1] if len(on_the_left) else costed[0]
            assert keep[index] == keep[neighbour]
        else:
            assert keep[index]


@given(documents, st.integers(0, GRID), st.integers(0, GRID))
def test_a_lower_threshold_keeps_a_superset(document, first, second):
    low = select_by_threshold(*document, min(first, second) / GRID)
    high = select_by_threshold(*document, max(first, second) / GRID)
    assert (low | ~high).all()


@given(documents, st.floats(0, 1))
def test_a_threshold_keeps_every_word_that_reaches_it(document, threshold):
    scores, counts, protected = document
    keep = select_by_threshold(scores, counts, protected, threshold)
    reaches = scores >= round(threshold * GRID) / GRID
    assert (keep[counts > 0] == (reaches | protected)[counts > 0]).all()


@pytest.mark.parametrize("threshold", [1229 / GRID, 0.3, 0.30001])
def test_a_threshold_is_compared_on_the_grid(threshold):
    # 0.3 lies between 1228 and 1229 steps, nearer to 1229.
    scores = np.float32([1228 / GRID, 1229 / GRID])
    keep = select_by_threshold(scores, np.int32([1, 1]), np.zeros(2, np.bool_), threshold)
    assert keep.tolist() == [False, True]


@given(documents, st.integers(0, GRID + 1))
def test_a_level_without_a_share_of_the_next_is_a_threshold(document, level):
    scores, counts, protected = document
    keep = select_by_level(scores, counts, protected, level, (0, 0))
    expected = select_by_threshold(scores, counts, protected, level / GRID)
    assert keep.tolist() == expected.tolist()


# The documents' scores are eighths.
levels = st.integers(0, 9).map(lambda eighth: eighth * GRID // 8 + 1)
shares = st.integers(1, 50).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


@given(documents, levels, shares)
def test_a_level_keeps_what_reaches_it_and_a_share_of_the_next_from_the_beginning(
    document, level, share
):
    scores, counts, protected = document
    keep = select_by_level(scores, counts, protected, level, share)
    at = np.rint(scores * GRID).astype(int)
    competing = ~protected & (counts > 0)
    assert keep[protected].all()
    assert keep[competing & (at >= level)].all()
    assert not keep[competing & (at < level - 1)].any()
    tied = np.flatnonzero(competing & (at == level - 1))
    kept, total = share
    allowed = int(counts[tied].sum()) * kept // total
    spent = int(counts[tied][keep[tied]].sum())
    assert spent <= allowed
    # From the beginning, and as many as fit.
    num_kept = int(keep[tied].sum())
    assert keep[tied[:num_kept]].all()
    if num_kept < len(tied):
        assert spent + counts[tied[num_kept]] > allowed


@given(documents, levels, st.integers(1, 50), st.integers(0, 50), st.integers(0, 50))
def test_a_larger_share_keeps_a_superset(document, level, total, first, second):
    low, high = sorted((min(first, total), min(second, total)))
    few = select_by_level(*document, level, (low, total))
    more = select_by_level(*document, level, (high, total))
    lower_level = select_by_level(*document, level - 1, (0, 0))
    assert (more | ~few).all()
    assert (lower_level | ~more).all()


@given(documents, levels, shares)
def test_words_without_tokens_follow_their_neighbour_at_a_level_too(document, level, share):
    scores, counts, protected = document
    keep = select_by_level(scores, counts, protected, level, share)
    costed = np.flatnonzero(counts > 0)
    for index in np.flatnonzero((counts == 0) & ~protected):
        on_the_left = costed[costed < index]
        if len(costed):
            assert keep[index] == keep[on_the_left[-1] if len(on_the_left) else costed[0]]
        else:
            assert keep[index]


def erratic(counts, seed):
    """A count that words in context can change either way, and so is not monotone."""

    def count(keep):
        noise = np.random.default_rng([seed, int(keep.sum())]).integers(-3, 4)
        return max(0, int(counts[keep].sum() + noise))

    return count


@given(documents, budgets)
def test_selection_by_an_additive_count_equals_selection_by_budget(document, budget):
    scores, counts, protected = document
    keep, cost = select_by_count(
        scores, counts, protected, budget, lambda mask: int(counts[mask].sum())
    )
    assert keep.tolist() == select_by_budget(scores, counts, protected, budget).tolist()
    assert cost == counts[keep].sum()


@given(documents, budgets, budgets, st.integers(0, 1000))
def test_a_larger_budget_keeps_a_superset_though_the_count_is_not_monotone(
    document, first, second, seed
):
    count = erratic(document[1], seed)
    small, _ = select_by_count(*document, min(first, second), count)
    large, _ = select_by_count(*document, max(first, second), count)
    assert (large | ~small).all()


@given(documents, budgets, st.integers(0, 1000))
def test_a_count_is_within_the_budget_and_one_more_word_is_not(document, budget, seed):
    scores, counts, protected = document
    count = erratic(counts, seed)
    keep, cost = select_by_count(scores, counts, protected, budget, count)
    assert cost == count(keep)
    nothing_more, _ = select_by_count(scores, counts, protected, -1, count)
    if cost > budget:
        assert keep.tolist() == nothing_more.tolist()
        return
    left_out = [word for word in rank_words(scores, counts, protected) if not keep[word]]
    if left_out:
        chosen = keep.copy()
        chosen[left_out[0]] = True
        larger = select_by_threshold(  # the same mask, words without tokens following
            chosen.astype(np.float32), counts, protected, 1.0
        )
        assert count(larger) > budget


def test_a_count_is_asked_a_few_times_only():
    asked = []

    def count(keep):
        asked.append(1)
        return int(keep.sum())

    scores = np.linspace(0, 1, 10_000, dtype=np.float32)
    select_by_count(scores, np.ones(10_000, np.int32), np.zeros(10_000, np.bool_), 777, count)
    assert len(asked) <= 16


@pytest.mark.parametrize(
    ("rate", "num_tokens", "budget"),
    [
        (0.29, 100, 29),  # int(0.29 * 100) is 28
        (0.57, 100, 57),
        (0.1, 10, 1),
        (1.0, 7, 7),
        (1, 7, 7),
        (0.5, 7, 3),
        (0.5, 0, 0),
        (1e-05, 100_000, 1),
        (0.3333, 10_000, 3333),
    ],
)
def test_a_rate_is_read_as_written(rate, num_tokens, budget):
    assert budget_of_rate(rate, num_tokens) == budget


@given(st.integers(1, 1000), st.integers(0, 10_000))
def test_a_rate_in_thousandths_is_exact(thousandths, num_tokens):
    assert budget_of_rate(thousandths / 1000, num_tokens) == thousandths * num_tokens // 1000
