"""The training loss: cross entropy on soft labels, plus MOOSComp's inter-class similarity term.

Shapes: B windows in the batch, T tokens per window, N labelled tokens, D hidden size, C classes
(0 discard, 1 preserve).
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

IGNORE = float("nan")
"""Label of a position that never counts: special tokens, padding, words without a label."""

PRESERVE_AT = 0.5
"""A soft label of at least this is class preserve where a hard class is needed."""


@dataclass(frozen=True, slots=True)
class LossParts:
    """The loss and what it is made of, each a scalar tensor.

    Attributes:
        total: `cross_entropy + beta * similarity`; the one to differentiate.
        cross_entropy: Mean over the batch's labelled tokens.
        similarity: L_CS; see `class_similarity`.
    """

    total: torch.Tensor
    cross_entropy: torch.Tensor
    similarity: torch.Tensor


def combined_loss(
    logits_BTC: torch.Tensor, hidden_BTD: torch.Tensor, labels_BT: torch.Tensor, *, beta: float
) -> LossParts:
    """`L = L_CE + beta * L_CS`, the loss of MOOSComp (arXiv 2504.16786).

    Args:
        logits_BTC: Outputs of the classification head.
        hidden_BTD: Last hidden states of the encoder.
        labels_BT: Probability that the token is to be kept, in [0, 1]; NaN, or any negative number,
            where there is no label.
        beta: Weight of the similarity term; 0 is the plain classifier.
    """
    cross_entropy = soft_cross_entropy(logits_BTC, labels_BT)
    similarity = class_similarity(hidden_BTD, labels_BT)
    return LossParts(cross_entropy + beta * similarity, cross_entropy, similarity)


def soft_cross_entropy(logits_BTC: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """Mean of `-(y log p + (1 - y) log (1 - p))` over labelled tokens; 0 where there are none."""
    labelled_BT = labels_BT >= 0  # false for NaN
    log_p_NC = logits_BTC[labelled_BT].float().log_softmax(dim=-1)
    labels_N = labels_BT[labelled_BT].float()
    targets_NC = torch.stack([1.0 - labels_N, labels_N], dim=-1)
    return -(targets_NC * log_p_NC).sum() / max(len(labels_N), 1)


def class_similarity(hidden_BTD: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """L_CS: how alike the encoder makes the tokens of the two classes; in [-1, 1] and fp32.

    For one sequence with preserve tokens I_p (label at least 0.5) and discard tokens I_d,

        S = 1 / (|I_p| |I_d|) * sum over i in I_p, j in I_d of cos(h_i, h_j)

    with h the last layer's hidden states, and L_CS the mean of S over the sequences that hold both
    classes (0 if none does). As cos(h_i, h_j) = <u_i, u_j> with u = h / |h|, the double sum is the
    dot product of the two classes' mean unit vectors: O(T D) instead of O(T^2 D). Averaging per
    sequence, rather than over the batch, is our reading; the paper writes S for one prompt.
    """
    with torch.autocast(hidden_BTD.device.type, enabled=False):
        unit_BTD = functional.normalize(hidden_BTD.float(), dim=-1)
        preserve_BT = labels_BT >= PRESERVE_AT
        discard_BT = (labels_BT >= 0) & ~preserve_BT
        classes_B2T = torch.stack([preserve_BT, discard_BT], dim=1).float()
        counts_B2 = classes_B2T.sum(dim=-1)
        means_B2D = (classes_B2T @ unit_BTD) / counts_B2.clamp(min=1.0).unsqueeze(-1)
        similarity_B = (means_B2D[:, 0] * means_B2D[:, 1]).sum(dim=-1)
        has_both_B = (counts_B2 > 0).all(dim=-1)
        # A sequence of one class has a zero mean vector, and so adds nothing to the sum.
        return similarity_B.sum() / has_both_B.sum().clamp(min=1)
