"""Which engine runs a checkpoint."""

import importlib.util
import logging

from moos.checkpoint import Checkpoint, Scoring
from moos.config import EngineName
from moos.engines import Engine
from moos.errors import ModelError

logger = logging.getLogger(__name__)

CONVERTIBLE = frozenset({"bert", "roberta", "xlm-roberta"})
"""Architectures (`model_type`) whose conversion the tests hold to torch's scores."""


def load_engine(
    checkpoint: Checkpoint, scoring: Scoring, *, name: EngineName, device: str, threads: int | None
) -> Engine:
    """Load a checkpoint into an engine.

    Args:
        checkpoint: What to load.
        scoring: Settings in force.
        name: The engine; `auto` is torch on a GPU and OpenVINO on a CPU, where that is installed
            and known to run the architecture.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads; None leaves the engine's choice.

    Raises:
        ModelError: The checkpoint cannot be loaded, or the engine cannot run on the device.
    """
    if name == "auto":
        name = _choose(checkpoint, device)
    if name == "openvino":
        if device != "cpu":
            raise ModelError(
                f"engine=openvino runs on CPUs, not on device={device}; set engine=torch"
            )
        from moos.engines.openvino_cpu import OpenVinoEngine

        return OpenVinoEngine(checkpoint, scoring, threads=threads)
    from moos.engines.pytorch import TorchEngine

    return TorchEngine(checkpoint, scoring, device=device, threads=threads)


def _choose(checkpoint: Checkpoint, device: str) -> EngineName:
    if device != "cpu" or checkpoint.config.get("model_type") not in CONVERTIBLE:
        return "torch"
    missing = [name for name in ("openvino", "nncf") if importlib.util.find_spec(name) is None]
    if missing:
        logger.warning(
            "engine=auto is torch here, several times slower than OpenVINO: pip install %s",
            " ".join(missing),
        )
        return "torch"
    return "openvino"
