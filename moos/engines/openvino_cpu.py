"""The fast CPU engine: int8 matrix products by OpenVINO, calibrated on real text.

Each thread runs micro-batches of its own (a *stream*), so the scores do not depend on the number of
threads, and cores are busy as long as there are batches. Windows are padded by their own length,
not to the longest beside them, so a text scores the same alone and in any batch. Shapes: B windows,
T positions.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moos.checkpoint import Checkpoint, Scoring
from moos.devices import num_cpus
from moos.engines import EncoderInput, TokenScores
from moos.engines.batching import (
    MicroBatch,
    cut_scores,
    pad_length,
    pad_windows,
    plan_micro_batches,
)
from moos.engines.openvino_conversion import import_openvino
from moos.engines.openvino_model import int8_model, read_hash
from moos.engines.signal_stack import keep_signal_stack
from moos.errors import ModelError

MICRO_BATCH_TOKENS = 2048
"""Positions per forward pass: near one core's caches, and enough batches for many streams."""

SHAPES_KEPT = 500
"""Kernels and plans that a stream keeps for shapes seen before.

OpenVINO's own 5,000 grew without end in sight (5.6 GB after 400,000 texts of 8 tokens). With 500,
memory stays near 1 GB, at 94 % of the speed on long texts and more on short ones; with none, a
quarter of the speed is lost on long ones.
"""


@dataclass(slots=True)
class _Call:
    """Windows on their way through the model.

    Attributes:
        inputs: The windows.
        plan: Which of them each micro-batch holds.
        scores: Each micro-batch's, once it is done, shape (B, T, 2).
        num_left: Micro-batches that are not done.
        error: What the model failed with.
    """

    inputs: Sequence[EncoderInput]
    plan: list[list[int]]
    scores: list[NDArray[np.float32] | None]
    num_left: int
    error: RuntimeError | None = None


@dataclass(slots=True)
class _Flight:
    """A micro-batch in the model, whose arrays live until that has read them."""

    request: Any
    call: _Call
    place: int
    batch: MicroBatch


class OpenVinoEngine:
    """Runs a checkpoint's int8 model on micro-batches of windows of similar length."""

    name = "openvino"

    def __init__(
        self, checkpoint: Checkpoint, scoring: Scoring, *, threads: int | None = None
    ) -> None:
        """Make the int8 model, or find it, and compile it for this machine.

        Args:
            checkpoint: What to load.
            scoring: Settings in force.
            threads: CPU threads; None takes all that this process may use.

        Raises:
            ModelError: OpenVINO is not installed, or cannot run the checkpoint.
        """
        openvino = import_openvino()
        self.on_progress: Callable[[], None] = _do_nothing
        self._pad_id = checkpoint.pad_id
        self._max_length = scoring.max_length
        threads = threads or num_cpus()
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            # What is not int8 stays fp32. bf16 is a tenth faster where there are units for it, but
            # strays further from torch's scores: tests/scale/RESULTS.md.
            "INFERENCE_PRECISION_HINT": "f32",
            # Pinned, the threads of all replicas on a node would share its first cores.
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": SHAPES_KEPT,
        }
        with keep_signal_stack():
            core = openvino.Core()
            hardware = _describe_hardware(core)
            with int8_model(checkpoint, scoring, hardware) as directory:
                try:
                    model = core.compile_model(directory / "model.xml", "CPU", settings)
                except RuntimeError as error:
                    raise ModelError(
                        f"OpenVINO cannot run checkpoint {checkpoint.path} here: {error}; set "
                        "engine=torch"
                    ) from error
                model_hash = read_hash(directory)
        # Twice as many as run at once: the streams have work while the caller does other things.
        self._idle: list[Any] = [model.create_infer_request() for _ in range(2 * threads)]
        self._flying: deque[_Flight] = deque()
        self._one_at_a_time = threading.Lock()
        self.numerics: Mapping[str, str] = {
            "hardware": hardware,
            "openvino": openvino.get_version(),
            "int8_model": model_hash,
        }

    def score(self, inputs: Sequence[EncoderInput]) -> list[TokenScores]:
        """Score each window, in order.

        Raises:
            ModelError: The model failed.
        """
        return self.begin(inputs)()

    def begin(self, inputs: Sequence[EncoderInput]) -> Callable[[], list[TokenScores]]:
        """Begin to score windows; returns while the last micro-batches are still in the model."""
        lengths = [pad_length(len(item.ids), self._max_length) for item in inputs]
        plan = plan_micro_batches(lengths, MICRO_BATCH_TOKENS, max_padding=0)
        call = _Call(inputs, plan, [None] * len(plan), len(plan))
        for place, members in enumerate(plan):
            windows = [inputs[index] for index in members]
            batch = pad_windows(windows, self._pad_id, length=lengths[members[0]])
            with self._one_at_a_time:
                self._start(call, place, batch)
            self.on_progress()
        return lambda: self._end(call)

    def _start(self, call: _Call, place: int, batch: MicroBatch) -> None:
        if not self._idle:
            self._land()
        request = self._idle.pop()
        try:
            request.start_async([batch.ids, batch.attention, batch.owned], share_inputs=True)
        except BaseException:
            self._idle.append(request)
            raise
        self._flying.append(_Flight(request, call, place, batch))

    def _land(self) -> None:
        """Wait for the micro-batch that was started first; keep its scores for whose they are."""
        flight = self._flying.popleft()
        try:
            flight.request.wait()
            flight.call.scores[flight.place] = flight.request.get_output_tensor(0).data.copy()
        except RuntimeError as error:
            flight.call.error = error
        finally:
            self._idle.append(flight.request)
            flight.call.num_left -= 1

    def _end(self, call: _Call) -> list[TokenScores]:
        """The scores of a call's windows, once they are all there."""
        while call.num_left:
            with self._one_at_a_time:
                if call.num_left:
                    self._land()
            self.on_progress()
        if call.error is not None:
            raise ModelError(f"the int8 model failed: {call.error}; set engine=torch") from (
                call.error
            )
        results: list[TokenScores | None] = [None] * len(call.inputs)
        for members, found in zip(call.plan, call.scores, strict=True):
            assert found is not None, "every micro-batch was scored"
            windows = [call.inputs[index] for index in members]
            for index, own in zip(members, cut_scores(found, windows), strict=True):
                results[index] = own
        return [own for own in results if own is not None]


def _describe_hardware(core: Any) -> str:
    capabilities = sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return f"{core.get_property('CPU', 'FULL_DEVICE_NAME')} {' '.join(capabilities)}"


def _do_nothing() -> None:
    """Nobody wants to know."""
