import numpy as np
import pytest

from moos.errors import DataError
from moos.evaluation.statistics import (
    Estimate,
    estimate_difference,
    estimate_mean,
    estimate_share,
)


def resample_step_by_step(scores, groups, *, num_resamples, seed):
    """The cluster bootstrap written out: means of whole groups drawn with replacement."""
    members = {group: [] for group in groups}
    for score, group in zip(scores, groups, strict=True):
        members[group].append(score)
    names = list(members)
    drawn = np.random.default_rng(seed).integers(len(names), size=(num_resamples, len(names)))
    return [np.mean([s for place in row for s in members[names[place]]]) for row in drawn]


def test_an_interval_is_the_percentiles_of_resampled_groups():
    scores, groups = [1.0, 0.0, 0.5, 0.25, 1.0, 0.0], ["a", "a", "b", "c", "c", "c"]
    estimate = estimate_mean(scores, groups, num_resamples=500, confidence=0.9, seed=3)
    means = resample_step_by_step(scores, groups, num_resamples=500, seed=3)
    low, high = np.quantile(means, [0.05, 0.95])
    assert estimate == Estimate(
        pytest.approx(np.mean(scores)), pytest.approx(low), pytest.approx(high), 6, 3
    )


def test_an_interval_covers_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        estimate = estimate_mean(generator.normal(0.5, 0.2, 60), num_resamples=400, seed=trial)
        covered += estimate.low <= 0.5 <= estimate.high
    assert 0.89 <= covered / 200 <= 0.98


def test_questions_of_one_context_count_as_little_as_one_when_they_agree():
    scores = np.random.default_rng(0).integers(0, 2, 40).repeat(5).astype(float)
    groups = np.arange(40).repeat(5).tolist()
    alone, together = estimate_mean(scores), estimate_mean(scores, groups)
    assert together.value == alone.value
    assert together.high - together.low > 1.8 * (alone.high - alone.low)
    assert (together.num_examples, together.num_groups) == (200, 40)


def test_examples_are_resampled_where_all_share_one_context():
    scores = [0.0, 1.0, 1.0, 0.0]
    assert estimate_mean(scores, ["demonstrations"] * 4) == estimate_mean(scores)


def test_the_same_seed_gives_the_same_interval():
    scores = np.random.default_rng(0).random(50)
    assert estimate_mean(scores, seed=1) == estimate_mean(scores, seed=1)
    assert estimate_mean(scores, seed=1) != estimate_mean(scores, seed=2)


def test_a_difference_is_paired():
    baseline = np.random.default_rng(0).random(50)
    estimate = estimate_difference(baseline + 0.1, baseline)
    assert estimate.value == pytest.approx(0.1)
    assert (estimate.low, estimate.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_a_share_is_of_the_means_and_paired():
    baseline = np.random.default_rng(0).random(50)
    estimate = estimate_share(baseline * 0.9, baseline)
    assert [estimate.value, estimate.low, estimate.high] == pytest.approx([0.9] * 3)
    assert estimate_share([1.0, 0.0], [1.0, 1.0]).value == 0.5


def test_resamples_without_a_baseline_score_are_left_out_of_a_share():
    estimate = estimate_share([0.0, 1.0], [0.0, 1.0])
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 1.0, 1.0)


def test_one_example_has_an_interval_of_no_width():
    assert estimate_mean([0.5], ["a"]) == Estimate(0.5, 0.5, 0.5, 1, 1)


def test_many_examples_are_resampled_in_parts():
    estimate = estimate_mean(np.random.default_rng(0).random(9000), num_resamples=1000)
    assert estimate.low < estimate.value < estimate.high
    assert estimate.high - estimate.low == pytest.approx(4 * 0.2887 / 9000**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: estimate_mean([]), r"shape \(0,\)"),
        (lambda: estimate_mean([[1.0]]), r"shape \(1, 1\)"),
        (lambda: estimate_mean([1.0, 2.0], ["a"]), "2 scores came with the groups of 1 examples"),
        (lambda: estimate_difference([1.0], [1.0, 2.0]), "1 scores cannot be paired with 2"),
        (lambda: estimate_share([1.0], [0.0]), "mean over 1 examples is 0"),
    ],
)
def test_scores_that_do_not_fit_are_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()
