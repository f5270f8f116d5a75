import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moos.outlier import OutlierConstants, reduce_z_scores, score_outliers

REDUCTIONS = ("l2", "mean_abs", "max")


def reference(hidden: np.ndarray, reduction: str) -> np.ndarray:
    """The docstring of `score_outliers` for one window, all of whose tokens are its own."""
    spread = hidden.std(axis=0)
    z = np.where(
        spread > 1e-6, (hidden - hidden.mean(axis=0)) / np.where(spread > 1e-6, spread, 1), 0
    )
    raw = {
        "l2": np.sqrt((z**2).sum(axis=1)),
        "mean_abs": np.abs(z).mean(axis=1),
        "max": np.abs(z).max(axis=1),
    }[reduction]
    span = raw.max() - raw.min()
    return (raw - raw.min()) / span if span > 1e-6 else np.zeros(len(raw))


def hidden_states(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(seed=st.integers(0, 10_000), num_tokens=st.integers(3, 12))
def test_window_statistics_follow_the_definition(reduction, seed, num_tokens):
    hidden = hidden_states(seed, 2, num_tokens, 5)
    owned = torch.ones(2, num_tokens, dtype=torch.bool)
    scores = score_outliers(hidden, owned, reduction=reduction)
    for row in range(2):
        expected = reference(hidden[row].double().numpy(), reduction)
        np.testing.assert_allclose(scores[row].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_context_special_tokens_and_padding_never_take_part(reduction):
    inner = hidden_states(1, 1, 6, 5)
    alone = score_outliers(inner, torch.ones(1, 6, dtype=torch.bool), reduction=reduction)
    padded = torch.full((1, 11, 5), 1e4)
    padded[:, 2:8] = inner
    owned = torch.zeros(1, 11, dtype=torch.bool)
    owned[:, 2:8] = True
    scores = score_outliers(padded, owned, reduction=reduction)
    torch.testing.assert_close(scores[:, 2:8], alone)
    assert scores[~owned].abs().sum() == 0


@given(seed=st.integers(0, 10_000), num_owned=st.integers(0, 6))
def test_scores_lie_in_the_unit_interval_and_span_it(seed, num_owned):
    owned = torch.zeros(1, 6, dtype=torch.bool)
    owned[:, :num_owned] = True
    scores = score_outliers(hidden_states(seed, 1, 6, 4), owned)
    assert ((scores >= 0) & (scores <= 1)).all()
    if num_owned > 2:
        assert (scores[owned].min(), scores[owned].max()) == (0, 1)


@pytest.mark.parametrize("num_tokens", [1, 2, 5])
def test_a_window_without_spread_scores_0(num_tokens):
    hidden = torch.full((1, num_tokens, 4), 3.7)
    owned = torch.ones(1, num_tokens, dtype=torch.bool)
    assert score_outliers(hidden, owned).abs().sum() == 0
    flat = OutlierConstants(torch.zeros(4), torch.ones(4), 2.0, 2.0)
    assert score_outliers(hidden, owned, constants=flat).abs().sum() == 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("size", [5, 384])
def test_two_tokens_are_equally_unusual_and_score_0(reduction, size):
    # Both lie one deviation from their mean in every dimension; only rounding tells them apart.
    hidden = hidden_states(5, 100, 2, size)
    scores = score_outliers(hidden, torch.ones(100, 2, dtype=torch.bool), reduction=reduction)
    assert scores.abs().sum() == 0


def test_a_dimension_without_spread_counts_nothing():
    hidden = hidden_states(2, 1, 6, 4)
    owned = torch.ones(1, 6, dtype=torch.bool)
    wider = torch.cat([hidden, torch.full((1, 6, 1), 1e3)], dim=-1)
    torch.testing.assert_close(score_outliers(wider, owned), score_outliers(hidden, owned))


def test_stored_constants_make_a_score_independent_of_the_window():
    hidden = hidden_states(3, 1, 8, 4)
    constants = OutlierConstants(torch.full((4,), 0.1), torch.full((4,), 1.5), 0.5, 2.5)
    whole = score_outliers(hidden, torch.ones(1, 8, dtype=torch.bool), constants=constants)
    half = score_outliers(hidden[:, :3], torch.ones(1, 3, dtype=torch.bool), constants=constants)
    torch.testing.assert_close(whole[:, :3], half)
    raw = torch.linalg.vector_norm((hidden - 0.1) / 1.5, dim=-1)
    torch.testing.assert_close(whole, ((raw - 0.5) / 2).clamp(0, 1))


def test_stored_constants_clip_what_lies_outside_their_range():
    constants = OutlierConstants(torch.zeros(1), torch.ones(1), 1.0, 2.0)
    hidden = torch.tensor([[[0.5], [1.0], [1.5], [-2.0], [9.0]]])
    scores = score_outliers(hidden, torch.ones(1, 5, dtype=torch.bool), constants=constants)
    assert scores.tolist() == [[0.0, 0.0, 0.5, 1.0, 1.0]]


def test_half_precision_states_are_scored_in_full_precision():
    hidden = hidden_states(4, 1, 8, 4).bfloat16()
    scores = score_outliers(hidden, torch.ones(1, 8, dtype=torch.bool))
    assert scores.dtype == torch.float32


@pytest.mark.parametrize(("reduction", "value"), [("l2", 5.0), ("mean_abs", 3.5), ("max", 4.0)])
def test_a_tokens_z_scores_become_one_number(reduction, value):
    assert reduce_z_scores(torch.tensor([[[3.0, -4.0]]]), reduction).tolist() == [[value]]
