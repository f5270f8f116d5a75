"""The reference engine: torch, fp32 on a CPU and bf16 on a CUDA device.

Shapes: B windows in the micro-batch, T tokens per window.
"""

import platform
import threading
from collections.abc import Callable, Mapping, Sequence

import torch
import transformers

from moos.checkpoint import Checkpoint, Scoring
from moos.engines import EncoderInput, TokenScores
from moos.engines.batching import cut_scores, pad_windows, plan_micro_batches
from moos.engines.scorer import WindowScorer
from moos.errors import ModelError

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
        self._pad_id = checkpoint.pad_id
        self._scorer = WindowScorer(checkpoint, scoring)
        is_cuda = self.device.type == "cuda"
        self._scorer.move(self.device, torch.bfloat16 if is_cuda else torch.float32)
        self._max_positions = MICRO_BATCH_TOKENS[self.device.type]
        # The classifier hands its hidden states on through an attribute.
        self._one_at_a_time = threading.Lock()

    @property
    def numerics(self) -> Mapping[str, str]:
        """What the last digits of the scores depend on."""
        if self.device.type == "cuda":
            hardware = torch.cuda.get_device_name(self.device)
        else:
            hardware = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        return {
            "hardware": hardware,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def score(self, inputs: Sequence[EncoderInput]) -> list[TokenScores]:
        """Score each window, in order."""
        results: list[TokenScores | None] = [None] * len(inputs)
        for batch in plan_micro_batches([len(item.ids) for item in inputs], self._max_positions):
            windows = [inputs[index] for index in batch]
            with self._one_at_a_time:
                scored = self._forward(windows)
            for index, scores in zip(batch, scored, strict=True):
                results[index] = scores
            self.on_progress()
        return [scores for scores in results if scores is not None]

    @torch.inference_mode()
    def _forward(self, windows: list[EncoderInput]) -> list[TokenScores]:
        batch = pad_windows(windows, self._pad_id)
        scores_BT2 = self._scorer(
            torch.from_numpy(batch.ids).to(self.device),
            torch.from_numpy(batch.attention).to(self.device),
            torch.from_numpy(batch.owned).to(self.device),
        )
        return cut_scores(scores_BT2.cpu().numpy(), windows)


def _do_nothing() -> None:
    """Nobody wants to know."""
