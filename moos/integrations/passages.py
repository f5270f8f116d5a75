"""Retrieved passages compressed by a compressor that a process loads once.

What the integrations share: their settings, the loaded compressor, and what they note on a passage.
"""

import logging
import os
import threading
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from moos.compressor import Compressor
from moos.config import EngineName, SelectionConfig
from moos.document import CompressedDocument
from moos.errors import DataError

logger = logging.getLogger(__name__)

_loaded: dict[tuple[int, str, EngineName, str | None, int | None], Compressor] = {}
_loading = threading.Lock()
_imported_by = os.getpid()


class CompressionSettings(SelectionConfig):
    """What to compress with, beside the budget and what stays: the keys of `SelectionConfig`."""

    checkpoint: str = "default"
    """`default`, a directory, an fsspec URL of one, or a hub id."""

    engine: EngineName = "auto"
    """What runs the model: `auto`, `torch` or `openvino`."""

    device: str | None = None
    """`cpu`, `cuda` or `cuda:N`; None takes CUDA where there is one."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of a process's model; None takes all that it may use."""

    def load(self) -> Compressor:
        """The process's compressor for these settings, loaded by the first call.

        Raises:
            ModelError: The checkpoint cannot serve as a compressor.
        """
        # A process made by fork loads its own: the threads of its parent's engine are not there.
        # The parent's stays in the table, so that nothing waits for those threads to end.
        if os.getpid() != _imported_by:
            # Nor are those of the tokenizers, for which it would wait for ever.
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
        key = (os.getpid(), self.checkpoint, self.engine, self.device, self.threads)
        with _loading:
            if key not in _loaded:
                _loaded[key] = Compressor.load(
                    self.checkpoint, engine=self.engine, device=self.device, threads=self.threads
                )
            return _loaded[key]

    def compress_each(self, texts: Sequence[str]) -> list[CompressedDocument | DataError]:
        """Each text compressed, or what is wrong with it, in order.

        Raises:
            ConfigError: A threshold is set on scores that are not comparable across windows.
            ModelError: The checkpoint cannot serve as a compressor.
        """
        if not texts:
            return []
        keys = {name: getattr(self, name) for name in SelectionConfig.model_fields}
        compressor = self.load()
        return compressor.compress_each(texts, compressor.selector(**keys))


class PassageSettings(CompressionSettings):
    """What to compress retrieved passages with, and what to note on them.

    A budget is each passage's, but for `corpus_rate`: one threshold for all passages of a query, so
    that those that say more keep more.
    """

    metadata_key: str = "moos"
    """Key of a passage's metadata that takes `kept_spans` and the figures."""

    keep_original: bool = False
    """Add the passage as it was, as `original` below that key: a citation then needs no store."""

    def compress_passages(
        self, texts: Sequence[str], metadata: Sequence[dict[str, Any]]
    ) -> list[tuple[str, dict[str, Any]]]:
        """The compressed text and the new metadata of each passage; nothing given is changed.

        The value under `metadata_key` is plain JSON: `kept_spans` as `[start, end]` pairs of code
        points of the passage, `num_tokens`, `num_kept_tokens`, `rate`, `over_budget`. A passage
        that cannot be compressed comes back as it was, with the reason as `error`, and is warned
        about: an answer from the whole passage is better than none.

        Args:
            texts: The passages.
            metadata: What is known of each.

        Raises:
            DataError: A passage has `metadata_key` already, as one that was compressed has.
            ConfigError: A threshold is set on scores that are not comparable across windows.
            ModelError: The checkpoint cannot serve as a compressor.
        """
        for place, known in enumerate(metadata):
            if self.metadata_key in known:
                raise DataError(
                    f"passage {place} has metadata {self.metadata_key!r} already; spans of a "
                    "second compression would not point into the original: compress once, or set "
                    "another metadata_key"
                )
        results = self.compress_each(texts)
        return [
            (
                text if isinstance(result, DataError) else result.text,
                {**known, self.metadata_key: self._describe(text, result)},
            )
            for text, known, result in zip(texts, metadata, results, strict=True)
        ]

    def _describe(self, text: str, result: CompressedDocument | DataError) -> dict[str, Any]:
        if isinstance(result, DataError):
            logger.warning("a passage is passed on uncompressed: %s", result)
            return {"error": str(result)}
        noted: dict[str, Any] = {
            "kept_spans": [list(span) for span in result.spans],
            "num_tokens": result.num_tokens,
            "num_kept_tokens": result.num_kept_tokens,
            "rate": round(result.rate, 6),
            "over_budget": result.over_budget,
        }
        return {**noted, "original": text} if self.keep_original else noted


def missing_package(package: str, install: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The error to raise where a package is missing; `error` itself where something else is.

    Args:
        package: The module that was to be imported.
        install: What gives it, as pip takes it.
        error: What importing it raised.
    """
    if (error.name or "").split(".")[0] != package:
        return error
    return ModuleNotFoundError(
        f"this part of moos.integrations needs {package}, which is not installed: pip install "
        f"{install}",
        name=package,
    )
