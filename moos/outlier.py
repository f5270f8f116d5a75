"""The outlier score: how unusual a token's representation is, in [0, 1].

Our reading of MOOSComp (arXiv 2504.16786), whose exact formula is not public to us; the paper says
that it is built on z-scores, normalised, and combined with the preserve probability so that rare
but critical tokens survive. Every choice is a setting.

Shapes: B windows in the micro-batch, T tokens per window, D hidden size.
"""

from dataclasses import dataclass
from typing import Literal

import torch

# Below this a spread is rounding noise: all values are the same, and nothing stands out.
_NO_SPREAD = 1e-3
_NO_SPREAD_OF_RANGE = 1e-3


@dataclass(frozen=True, slots=True)
class OutlierConstants:
    """Statistics of hidden states over training data, stored in the checkpoint.

    Attributes:
        mean: Per-dimension mean, shape (D,).
        std: Per-dimension population standard deviation, shape (D,).
        low: Token score that maps to 0.
        high: Token score that maps to 1.
    """

    mean: torch.Tensor
    std: torch.Tensor
    low: float
    high: float


def reduce_z_scores(
    z_BTD: torch.Tensor, reduction: Literal["l2", "mean_abs", "max"]
) -> torch.Tensor:
    """One number per token: the norm, the mean, or the maximum of its absolute z-scores, (B, T)."""
    if reduction == "l2":
        return z_BTD.square().sum(dim=-1).sqrt()
    if reduction == "mean_abs":
        return z_BTD.abs().mean(dim=-1)
    return z_BTD.abs().amax(dim=-1)


def score_outliers(
    hidden_BTD: torch.Tensor,
    owned_BT: torch.Tensor,
    *,
    reduction: Literal["l2", "mean_abs", "max"] = "l2",
    constants: OutlierConstants | None = None,
) -> torch.Tensor:
    """Outlier score of each owned token, in [0, 1] and fp32, shape (B, T).

    Per-dimension z-score of the last hidden states, reduced to one number per token, then min-max
    normalised. Without `constants`, mean, deviation and range are taken over the window's own
    tokens; context, special tokens and padding never take part. With them, the score is clipped to
    the stored range, and comparable across windows. A dimension or a window without spread scores
    0, as do tokens that are not owned.

    Args:
        hidden_BTD: Last hidden states.
        owned_BT: True for the tokens that the window owns.
        reduction: How a token's z-scores become one number.
        constants: Stored statistics, or None to use the window's.
    """
    hidden_BTD = hidden_BTD.float()
    if constants is not None:
        z_BTD = _divide(hidden_BTD - constants.mean, constants.std)
        raw_BT = reduce_z_scores(z_BTD, reduction)
        span = constants.high - constants.low
        scaled_BT = (
            ((raw_BT - constants.low) / span).clamp(0.0, 1.0) if span > _NO_SPREAD else 0 * raw_BT
        )
        return torch.where(owned_BT, scaled_BT, torch.zeros_like(scaled_BT))
    weight_BT1 = owned_BT.unsqueeze(-1).float()
    count_B11 = weight_BT1.sum(dim=1, keepdim=True).clamp(min=1.0)
    mean_B1D = (hidden_BTD * weight_BT1).sum(dim=1, keepdim=True) / count_B11
    centred_BTD = (hidden_BTD - mean_B1D) * weight_BT1
    std_B1D = (centred_BTD.square().sum(dim=1, keepdim=True) / count_B11).sqrt()
    raw_BT = reduce_z_scores(_divide(centred_BTD, std_B1D), reduction)
    low_B1 = raw_BT.masked_fill(~owned_BT, torch.inf).amin(dim=1, keepdim=True)
    high_B1 = raw_BT.masked_fill(~owned_BT, -torch.inf).amax(dim=1, keepdim=True)
    span_B1 = high_B1 - low_B1
    # Two tokens lie one deviation from their mean each: what differs then is rounding noise.
    span_B1 = torch.where(span_B1 > _NO_SPREAD_OF_RANGE * high_B1, span_B1, 0.0)
    scaled_BT = _divide(raw_BT - low_B1, span_B1)
    return torch.where(owned_BT, scaled_BT, torch.zeros_like(scaled_BT))


def _divide(values: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Values / spread, 0 where there is no spread."""
    has_spread = spread > _NO_SPREAD
    return torch.where(has_spread, values / torch.where(has_spread, spread, 1.0), 0.0)
