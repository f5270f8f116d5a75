"""What an engine computes for each window: preserve probability and outlier score.

Shapes: B windows in the micro-batch, T tokens per window, D hidden size, C classes (2).
"""

import torch

from moos.checkpoint import Checkpoint, Scoring
from moos.model import load_model, load_outlier_constants
from moos.outlier import OutlierConstants, score_outliers


class WindowScorer(torch.nn.Module):
    """A checkpoint's classifier and its outlier score as one module, in fp32 on the CPU at first.

    The two numbers per token are all that leaves the device.
    """

    def __init__(self, checkpoint: Checkpoint, scoring: Scoring) -> None:
        """Load the weights.

        Raises:
            ModelError: They cannot be loaded.
        """
        super().__init__()
        self.classifier = load_model(checkpoint)
        self._preserve_index = checkpoint.preserve_index
        self._reduction = scoring.outlier_reduction
        self._constants: OutlierConstants | None = None
        if scoring.outlier_statistics == "checkpoint":
            self._constants = load_outlier_constants(checkpoint.path)

    def move(self, device: torch.device, dtype: torch.dtype) -> None:
        """Put weights and constants on a device; the constants stay in fp32."""
        self.classifier.to(device, dtype)
        if self._constants is not None:
            mean, std = self._constants.mean.to(device), self._constants.std.to(device)
            self._constants = OutlierConstants(mean, std, self._constants.low, self._constants.high)

    def forward(
        self, ids_BT: torch.Tensor, attention_BT: torch.Tensor | None, owned_BT: torch.Tensor
    ) -> torch.Tensor:
        """Preserve probability and outlier score of each token in fp32, shape (B, T, 2).

        Args:
            ids_BT: Token ids.
            attention_BT: 1 for tokens, 0 for padding; None where there is none.
            owned_BT: True for the tokens that a window owns; the others' numbers mean nothing.
        """
        logits_BTC, hidden_BTD = self.classifier(ids_BT, attention_BT)
        p_BT = logits_BTC.float().softmax(dim=-1)[..., self._preserve_index]
        s_BT = score_outliers(
            hidden_BTD, owned_BT, reduction=self._reduction, constants=self._constants
        )
        return torch.stack([p_BT, s_BT], dim=-1)
