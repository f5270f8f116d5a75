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


@dataclass(frozen=True, slots=True)
class LossCounts:
    """What the two means of the loss divide by, each a scalar tensor; counts of parts add up.

    Attributes:
        labelled: Tokens with a label.
        both: Sequences that hold both classes.
    """

    labelled: torch.Tensor
    both: torch.Tensor


def count_labels(labels_BT: torch.Tensor) -> LossCounts:
    """The denominators of a batch's loss, which its labels alone tell, before any forward pass."""
    preserve_BT = labels_BT >= PRESERVE_AT
    labelled_BT = labels_BT >= 0  # false for NaN
    discard_BT = labelled_BT & ~preserve_BT
    both_B = preserve_BT.any(dim=-1) & discard_BT.any(dim=-1)
    return LossCounts(labelled_BT.sum(), both_B.sum())


def combined_loss(
    logits_BTC: torch.Tensor,
    hidden_BTD: torch.Tensor,
    labels_BT: torch.Tensor,
    *,
    beta: float,
    counts: LossCounts | None = None,
) -> LossParts:
    """`L = L_CE + beta * L_CS`, the loss of MOOSComp (arXiv 2504.16786).

    A batch that is spread over micro-batches and ranks has the loss of the whole if every part is
    given the counts of the whole: the parts' losses then add up to it.

    Args:
        logits_BTC: Outputs of the classification head.
        hidden_BTD: Hidden states of one encoder layer.
        labels_BT: Probability that the token is to be kept, in [0, 1]; NaN, or any negative number,
            where there is no label.
        beta: Weight of the similarity term; 0 is the plain classifier.
        counts: What to divide by; by default this batch's own counts.
    """
    counts = counts or count_labels(labels_BT)
    cross_entropy = sum_cross_entropy(logits_BTC, labels_BT) / counts.labelled.clamp(min=1)
    similarity = window_similarity(hidden_BTD, labels_BT).sum() / counts.both.clamp(min=1)
    return LossParts(cross_entropy + beta * similarity, cross_entropy, similarity)


def sum_cross_entropy(logits_BTC: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """Sum of `-(y log p + (1 - y) log (1 - p))` over labelled tokens, in fp32; 0 without any."""
    labelled_BT = labels_BT >= 0  # false for NaN
    log_p_BTC = logits_BTC.float().log_softmax(dim=-1)
    # Selecting by a mask would make the host wait for the device to count; a zero target does not.
    y_BT = torch.where(labelled_BT, labels_BT.float(), 0.0)
    targets_BTC = torch.stack([labelled_BT.float() - y_BT, y_BT], dim=-1)
    return -(targets_BTC * log_p_BTC).sum()


def class_similarity(hidden_BTD: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """L_CS: mean of `window_similarity` over the sequences that hold both classes; 0 if none does.

    Averaging per sequence, rather than over the batch, is our reading; the paper writes S for one
    prompt.
    """
    both = count_labels(labels_BT).both
    return window_similarity(hidden_BTD, labels_BT).sum() / both.clamp(min=1)


def window_similarity(hidden_BTD: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """How alike a layer makes the tokens of a sequence's two classes: S, in [-1, 1], fp32, (B,).

    For one sequence with preserve tokens I_p (label at least 0.5) and discard tokens I_d,

        S = 1 / (|I_p| |I_d|) * sum over i in I_p, j in I_d of cos(h_i, h_j)

    with h the layer's hidden states; 0 for a sequence without both classes. As cos(h_i, h_j) =
    <u_i, u_j> with u = h / |h|, the double sum is the dot product of the two classes' mean unit
    vectors: O(T D) instead of O(T^2 D).
    """
    with torch.autocast(hidden_BTD.device.type, enabled=False):
        unit_BTD = functional.normalize(hidden_BTD.float(), dim=-1)
        preserve_BT = labels_BT >= PRESERVE_AT
        discard_BT = (labels_BT >= 0) & ~preserve_BT
        classes_B2T = torch.stack([preserve_BT, discard_BT], dim=1).float()
        counts_B2 = classes_B2T.sum(dim=-1)
        means_B2D = (classes_B2T @ unit_BTD) / counts_B2.clamp(min=1.0).unsqueeze(-1)
        # A class without tokens has a zero mean vector.
        return (means_B2D[:, 0] * means_B2D[:, 1]).sum(dim=-1)
