"""The reference engine: torch, fp32 on a CPU and bf16 on a CUDA device.

Shapes: B windows in the micro-batch, T tokens per window, D hidden size, C classes (2).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from moos.checkpoint import Checkpoint, Scoring
from moos.engines import EncoderInput, TokenScores
from moos.errors import ModelError
from moos.model import load_model, load_outlier_constants
from moos.outlier import OutlierConstants, score_outliers

# Positions per forward pass: on a CPU few, to stay near the caches; on a GPU enough to fill it.
MICRO_BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}


class TorchEngine:
    """Runs a checkpoint's model on micro-batches of windows of similar length.

    The micro-batches are a function of the inputs alone, so the same inputs give the same numbers
    on the same hardware with the same number of threads.
    """

    name = "torch"

    def __init__(
        self, checkpoint: Checkpoint, scoring: Scoring, *, device: str, threads: int | None = None
    ) -> None:
        """Load the model.

        Args:
            checkpoint: What to load.
            scoring: Settings in force.
            device: `cpu`, `cuda` or `cuda:N`.
            threads: CPU threads for torch; None leaves torch's own choice.

        Raises:
            ModelError: The weights cannot be loaded, or there is no such device.
        """
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(
                f"device={device}, but torch {torch.__version__} sees no CUDA device here; install "
                "a CUDA build of torch, or set pool.gpus_per_replica=0 to work on CPUs"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.on_progress: Callable[[], None] = _do_nothing
        self._reduction = scoring.outlier_reduction
        self._preserve_index = checkpoint.preserve_index
        self._pad_id = int(checkpoint.config.get("pad_token_id") or 0)
        self._constants = None
        if scoring.outlier_statistics == "checkpoint":
            stored = load_outlier_constants(checkpoint.path)
            self._constants = OutlierConstants(
                stored.mean.to(self.device), stored.std.to(self.device), stored.low, stored.high
            )
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self._model = load_model(checkpoint).to(self.device, dtype)
        self._max_positions = MICRO_BATCH_TOKENS[self.device.type]

    def score(self, inputs: Sequence[EncoderInput]) -> list[TokenScores]:
        """Score each window, in order."""
        results: list[TokenScores | None] = [None] * len(inputs)
        for batch in plan_micro_batches([len(item.ids) for item in inputs], self._max_positions):
            for index, scores in zip(batch, self._forward([inputs[i] for i in batch]), strict=True):
                results[index] = scores
            self.on_progress()
        return [scores for scores in results if scores is not None]

    @torch.inference_mode()
    def _forward(self, batch: list[EncoderInput]) -> list[TokenScores]:
        longest = max(len(item.ids) for item in batch)
        ids = np.full((len(batch), longest), self._pad_id, dtype=np.int64)
        attention = np.zeros((len(batch), longest), dtype=np.int64)
        owned = np.zeros((len(batch), longest), dtype=np.bool_)
        for row, item in enumerate(batch):
            ids[row, : len(item.ids)] = item.ids
            attention[row, : len(item.ids)] = 1
            owned[row, item.own_start : item.own_end] = True
        attention_BT = torch.from_numpy(attention).to(self.device)
        owned_BT = torch.from_numpy(owned).to(self.device)
        logits_BTC, hidden_BTD = self._model(torch.from_numpy(ids).to(self.device), attention_BT)
        p_BT = logits_BTC.float().softmax(dim=-1)[..., self._preserve_index]
        s_BT = score_outliers(
            hidden_BTD, owned_BT, reduction=self._reduction, constants=self._constants
        )
        p, s = torch.stack([p_BT, s_BT]).cpu().numpy()
        return [
            TokenScores(
                p[row, item.own_start : item.own_end].copy(),
                s[row, item.own_start : item.own_end].copy(),
            )
            for row, item in enumerate(batch)
        ]


def _do_nothing() -> None:
    """Nobody wants to know."""


def plan_micro_batches(lengths: Sequence[int], max_positions: int) -> list[list[int]]:
    """Group windows of similar length so that each padded batch holds at most `max_positions`.

    Longest first, ties by position; a window longer than the limit gets a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= max_positions:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
