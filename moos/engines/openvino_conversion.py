"""A checkpoint as an int8 OpenVINO model, calibrated on real text.

The conversion keeps attention in one node. Weights and activations of matrix products become int8,
by ranges that NNCF measures on the texts of `calibration.jsonl`. Neither package gets its way with
the rest of the process: they would set everybody's logging, print to stdout, and report their use.
"""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from moos.checkpoint import Checkpoint, Scoring
from moos.engines import EncoderInput
from moos.engines.batching import pad_windows
from moos.errors import DataError, ModelError
from moos.preparation import TextPreparer
from moos.tokens import TextTokenizer

CALIBRATION = Path(__file__).parent / "calibration.jsonl"
CALIBRATION_WINDOWS = 32
"""Most windows to measure activations on. The default checkpoint keeps the same 99.1 % of words as
in fp32 with 32, 64 and 128 of them; 32 take half the time."""


def import_openvino() -> Any:
    """The package, which otherwise reports its import and each conversion to its makers.

    Raises:
        ModelError: It is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise ModelError(
            f"engine=openvino needs packages that are not here ({error}): pip install openvino "
            "nncf; or set engine=torch"
        ) from error
    return openvino


def convert_int8(checkpoint: Checkpoint, scoring: Scoring, path: Path) -> None:
    """Convert, calibrate and write `path`, an `.xml`, and its weights beside it.

    Raises:
        ModelError: The checkpoint cannot be converted, or the packages for it are not there.
    """
    openvino, nncf = import_openvino(), _import_nncf()
    windows = _calibration_windows(checkpoint, scoring)
    try:
        with _quiet():
            model = _convert(openvino, checkpoint, scoring)
            model = _quantize(nncf, model, windows, checkpoint.pad_id)
            openvino.save_model(model, path, compress_to_fp16=False)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"checkpoint {checkpoint.path} cannot be converted for engine=openvino: {error}; set "
            "engine=torch"
        ) from error


def _calibration_windows(checkpoint: Checkpoint, scoring: Scoring) -> list[EncoderInput]:
    """Windows of real text, spread over all kinds of it."""
    lines = CALIBRATION.read_text(encoding="utf-8").splitlines()
    tokenizer = TextTokenizer.from_file(checkpoint.tokenizer_path)
    preparer = TextPreparer(tokenizer, scoring.max_length, scoring.context_tokens)
    windows = [
        window
        for part in preparer.prepare([json.loads(line)["text"] for line in lines])
        if not isinstance(part, DataError)
        for window in part.inputs
    ]
    chosen = np.linspace(0, len(windows) - 1, min(len(windows), CALIBRATION_WINDOWS)).astype(int)
    return [windows[index] for index in chosen]


def _convert(openvino: Any, checkpoint: Checkpoint, scoring: Scoring) -> Any:
    """The scorer as an OpenVINO model in fp32, for any number of windows of any length."""
    import torch

    from moos.engines.scorer import WindowScorer

    scorer = WindowScorer(checkpoint, scoring).eval()
    # Two windows of several tokens: a dimension of 1 would be taken for a constant.
    length = min(16, scoring.max_length)
    ids_BT = torch.arange(2 * length).reshape(2, length) % int(checkpoint.config["vocab_size"])
    attention_BT = torch.ones_like(ids_BT)
    with torch.no_grad():
        example = (ids_BT, attention_BT, attention_BT.bool())
        return openvino.convert_model(scorer, example_input=example)


def _quantize(nncf: Any, model: Any, windows: list[EncoderInput], pad_id: int) -> Any:
    """The model with int8 matrix products, by the ranges that the windows give."""

    def feed(window: EncoderInput) -> list[Any]:
        batch = pad_windows([window], pad_id)
        return [batch.ids, batch.attention, batch.owned]

    return nncf.quantize(
        model,
        nncf.Dataset(windows, feed),
        model_type=nncf.ModelType.TRANSFORMER,
        # Processors without VNNI add products of bytes in 16 bits, which full weights overflow: the
        # scores of some checkpoints were noise. Half the range costs the default one nothing:
        # 99.2 % of its decisions are those of fp32 with either.
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE
        ),
        subset_size=len(windows),
    )


def _import_nncf() -> Any:
    """The package, kept from logging to stdout and from making all later loggers its own kind.

    Raises:
        ModelError: It is not installed.
    """
    logger_class = logging.getLoggerClass()
    try:
        import nncf
    except ImportError as error:
        raise ModelError(
            f"engine=openvino needs NNCF to calibrate int8 ({error}): pip install nncf; or set "
            "engine=torch"
        ) from error
    logging.setLoggerClass(logger_class)
    logging.getLogger("nncf").setLevel(logging.CRITICAL)
    return nncf


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep progress bars off stdout, which belongs to the job, and a tracer's remarks off stderr.

    The converter sets the level of everybody's log; that is put back.
    """
    import transformers

    root = logging.getLogger()
    level, filters = root.level, list(root.filters)
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.utils.logging.set_verbosity(verbosity)
        root.setLevel(level)
        root.filters = filters
