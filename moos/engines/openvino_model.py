"""The int8 models that the OpenVINO engine runs, kept on disk.

A checkpoint is converted once per machine and version of what converts it, which takes seconds for
the default one; from then on a replica reads the result, without torch.
"""

import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from moos.checkpoint import Checkpoint, Scoring
from moos.engines.openvino_conversion import CALIBRATION, convert_int8

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "MOOS_CACHE"
FORMAT = 2
"""Changes with anything here that changes the int8 model."""

# The graph names its nodes by counters of the process that made it; weights and ranges of
# activations are the same for every process that makes them.
_GRAPH, _WEIGHTS, _HASHES = "model.xml", "model.bin", "sha256.json"
_VERSIONED = ("openvino", "nncf", "torch", "transformers", "numpy")


def cache_directory() -> Path:
    """Where int8 models are kept: `$MOOS_CACHE`, or `moos` in the user's cache directory."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moos"


@contextmanager
def int8_model(checkpoint: Checkpoint, scoring: Scoring, hardware: str) -> Iterator[Path]:
    """The directory of a checkpoint's int8 model, made now unless it was made before.

    Of many replicas that start at once, one makes it and the others wait. Where the cache cannot be
    written, the model is made in a temporary directory, which goes when the context ends.

    Args:
        checkpoint: What to convert.
        scoring: Settings in force; those of windows and outlier scores are part of the model.
        hardware: The processor, by whose arithmetic activations are measured.

    Raises:
        ModelError: The checkpoint cannot be converted, or the packages for it are not there.
    """
    target = cache_directory() / "openvino" / _key(checkpoint, scoring, hardware)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not _is_whole(target):
                _replace(checkpoint, scoring, target)
        refused = None
    except OSError as error:
        refused = error
    if refused is None:
        yield target
        return
    logger.warning(
        "int8 models cannot be kept in %s (%s), so each process makes its own; set %s to a "
        "directory that can be written",
        target.parent,
        refused,
        CACHE_VARIABLE,
    )
    with tempfile.TemporaryDirectory(prefix="moos-openvino-") as name:
        _make(checkpoint, scoring, Path(name))
        yield Path(name)


def read_hash(directory: Path) -> str:
    """The hash of an int8 model, by which models that should be the same are told apart."""
    return _read_hashes(directory)[_WEIGHTS]


def _key(checkpoint: Checkpoint, scoring: Scoring, hardware: str) -> str:
    parts = {
        "format": FORMAT,
        "checkpoint": checkpoint.sha256,
        "preserve_index": checkpoint.preserve_index,
        "outlier": [scoring.outlier_statistics, scoring.outlier_reduction],
        "window": [scoring.max_length, scoring.context_tokens],
        "calibration": hashlib.sha256(CALIBRATION.read_bytes()).hexdigest(),
        "hardware": hardware,
        "versions": {name: _version(name) for name in _VERSIONED},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _is_whole(directory: Path) -> bool:
    """True for a directory whose files are those that were written."""
    if not directory.is_dir():
        return False
    try:
        whole = _read_hashes(directory) == _hash_files(directory)
    except (OSError, ValueError):
        whole = False
    if not whole:
        logger.warning("the int8 model in %s is damaged, and is made again", directory)
    return whole


def _read_hashes(directory: Path) -> dict[str, str]:
    hashes: dict[str, str] = json.loads((directory / _HASHES).read_text(encoding="utf-8"))
    return hashes


def _hash_files(directory: Path) -> dict[str, str]:
    hashes = {}
    for name in (_GRAPH, _WEIGHTS):
        with (directory / name).open("rb") as stream:
            hashes[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashes


def _replace(checkpoint: Checkpoint, scoring: Scoring, target: Path) -> None:
    made = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    try:
        _make(checkpoint, scoring, made)
        shutil.rmtree(target, ignore_errors=True)
        made.replace(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _make(checkpoint: Checkpoint, scoring: Scoring, directory: Path) -> None:
    """Convert, calibrate and write."""
    logger.info("making the int8 model of %s, once on this machine", checkpoint.path)
    began = time.monotonic()
    convert_int8(checkpoint, scoring, directory / _GRAPH)
    (directory / _HASHES).write_text(json.dumps(_hash_files(directory)), encoding="utf-8")
    logger.info("the int8 model is ready after %.0f s", time.monotonic() - began)
