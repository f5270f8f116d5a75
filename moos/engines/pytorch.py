"""The reference engine: torch, fp32 on a CPU and bf16 on a CUDA device.

Shapes: B windows in the micro-batch, T tokens per window.
"""

import logging
import platform
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from moos.checkpoint import Checkpoint, Scoring
from moos.engines import EncoderInput, TokenScores
from moos.engines.batching import cut_scores, pad_windows, plan_micro_batches
from moos.engines.scorer import WindowScorer
from moos.errors import ModelError

logger = logging.getLogger(__name__)

# Positions per forward pass: on a CPU few, to stay near the caches; on a GPU enough to fill it.
MICRO_BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}
_LEAST_POSITIONS = 512


@dataclass(frozen=True, slots=True)
class _Launched:
    """A micro-batch whose scores are on their way to the host.

    Attributes:
        places: Which windows it holds.
        scores: Theirs, shape (B, T, 2), valid once `done` has happened.
        done: None on a CPU, where a forward pass ends before it returns.
    """

    places: list[int]
    scores: torch.Tensor
    done: torch.cuda.Event | None


class TorchEngine:
    """Runs a checkpoint's model on micro-batches of windows of similar length.

    The micro-batches are a function of the inputs alone, so the same inputs give the same numbers
    on the same hardware with the same number of threads. On a GPU, a micro-batch is launched before
    the scores of the one before it are fetched, also from one call to the next; where its memory
    does not suffice, micro-batches are halved for good and the work goes on.
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
                "a CUDA build of torch, or work on CPUs: pool.gpus_per_replica=0, or in Python "
                'device="cpu"'
            )
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.on_progress: Callable[[], None] = _do_nothing
        self._pad_id = checkpoint.pad_id
        self._scorer = WindowScorer(checkpoint, scoring)
        self._is_cuda = self.device.type == "cuda"
        self._scorer.move(self.device, torch.bfloat16 if self._is_cuda else torch.float32)
        self._max_positions = MICRO_BATCH_TOKENS[self.device.type]
        # The classifier hands its hidden states on through an attribute.
        self._one_at_a_time = threading.Lock()

    @property
    def numerics(self) -> Mapping[str, str]:
        """What the last digits of the scores depend on."""
        if self._is_cuda:
            hardware = torch.cuda.get_device_name(self.device)
        else:
            hardware = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        return {
            "hardware": hardware,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def score(self, inputs: Sequence[EncoderInput]) -> list[TokenScores]:
        """Score each window, in order.

        Raises:
            ModelError: The device's memory does not hold even a few windows.
        """
        return self.begin(inputs)()

    def begin(self, inputs: Sequence[EncoderInput]) -> Callable[[], list[TokenScores]]:
        """Begin to score windows; returns while the last micro-batch is still on a GPU.

        Raises:
            ModelError: The device's memory does not hold even a few windows.
        """
        results: dict[int, TokenScores] = {}
        launched: deque[_Launched] = deque()
        with self._one_at_a_time:
            missing = list(range(len(inputs)))
            while missing:
                try:
                    self._launch_missing(inputs, missing, launched, results)
                except torch.OutOfMemoryError as error:
                    self._fetch_all(launched, inputs, results, but=0)
                    self._halve(error)
                on_way = {place for each in launched for place in each.places}
                missing = [at for at in missing if at not in results and at not in on_way]

        return lambda: self._end(launched, inputs, results)

    def _end(
        self,
        launched: deque[_Launched],
        inputs: Sequence[EncoderInput],
        results: dict[int, TokenScores],
    ) -> list[TokenScores]:
        self._fetch_all(launched, inputs, results, but=0)
        return [results[place] for place in range(len(inputs))]

    def _launch_missing(
        self,
        inputs: Sequence[EncoderInput],
        missing: Sequence[int],
        launched: deque[_Launched],
        results: dict[int, TokenScores],
    ) -> None:
        """Launch the windows at these places, and fetch what is one micro-batch behind."""
        plan = plan_micro_batches(
            [len(inputs[place].ids) for place in missing], self._max_positions
        )
        for members in plan:
            launched.append(self._launch(inputs, [missing[member] for member in members]))
            self._fetch_all(launched, inputs, results, but=1)

    def _fetch_all(
        self,
        launched: deque[_Launched],
        inputs: Sequence[EncoderInput],
        results: dict[int, TokenScores],
        *,
        but: int,
    ) -> None:
        """Fetch micro-batches in the order they were launched, but the last ones."""
        while len(launched) > but:
            self._fetch(launched.popleft(), inputs, results)

    @torch.inference_mode()
    def _launch(self, inputs: Sequence[EncoderInput], places: list[int]) -> _Launched:
        batch = pad_windows([inputs[place] for place in places], self._pad_id)
        # Without padding there is no mask, and attention takes its fastest kernel.
        attention_BT = self._send(batch.attention) if batch.is_padded else None
        scores_BT2 = self._scorer(self._send(batch.ids), attention_BT, self._send(batch.owned))
        if not self._is_cuda:
            return _Launched(places, scores_BT2, None)
        host_BT2 = torch.empty(scores_BT2.shape, dtype=scores_BT2.dtype, pin_memory=True)
        host_BT2.copy_(scores_BT2, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        return _Launched(places, host_BT2, done)

    def _send(self, array: NDArray[np.generic]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if not self._is_cuda:
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _fetch(
        self,
        launched: _Launched,
        inputs: Sequence[EncoderInput],
        results: dict[int, TokenScores],
    ) -> None:
        if launched.done is not None:
            launched.done.synchronize()
        windows = [inputs[place] for place in launched.places]
        scored = cut_scores(launched.scores.numpy(), windows)
        results.update(zip(launched.places, scored, strict=True))
        self.on_progress()

    def _halve(self, error: torch.OutOfMemoryError) -> None:
        """Make micro-batches smaller, for this and all later work."""
        if self._max_positions <= _LEAST_POSITIONS:
            raise ModelError(
                f"the memory of {self.device} does not hold {self._max_positions} positions "
                f"({error}); lower window.max_length, or give the replica a larger share of the "
                "GPU (pool.gpus_per_replica)"
            ) from error
        self._max_positions //= 2
        if self._is_cuda:
            torch.cuda.empty_cache()
        logger.warning(
            "%s ran out of memory; micro-batches hold %d positions from now on",
            self.device,
            self._max_positions,
        )


def _do_nothing() -> None:
    """Nobody wants to know."""
