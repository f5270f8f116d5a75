"""The methods of a run: at which rates they run, what tells their models apart, fresh ones."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moos.checkpoint import read_checkpoint
from moos.evaluation.example import Method
from moos.evaluation.method_config import MethodConfig, MoosMethodConfig
from moos.evaluation.methods import load_method
from pipelines.evaluate_contexts import BudgetTokenizer

logger = logging.getLogger(__name__)

# Enough words for any method; a budget of 1 makes it compress them.
WARM_UP = "The committee met on Tuesday, and it decided that 3 reports were not needed. " * 4


@dataclass(frozen=True, slots=True)
class Cell:
    """A method at a rate; None for the two that meet no budget."""

    method: MethodConfig
    rate: float | None

    @property
    def key(self) -> tuple[str, float | None]:
        """Name and rate, as rows have them."""
        return self.method.display_name, self.rate

    @property
    def name(self) -> str:
        """For people, such as `moos at 0.5`."""
        return self.method.display_name + ("" if self.rate is None else f" at {self.rate:g}")


def plan_cells(methods: Sequence[MethodConfig], rates: Sequence[float]) -> list[Cell]:
    """Every method at every rate, in the config's order; `full` and `none` once."""
    return [
        Cell(method, rate)
        for method in methods
        for rate in ((None,) if method.kind in ("full", "none") else rates)
    ]


class FreshMethod:
    """A method that has met none of the contexts before, its model loaded and warmed up.

    Methods remember what they scored, for other budgets. The second budget would then seem to take
    no time, so a method is loaded anew before it meets a context again.
    """

    def __init__(
        self, config: MethodConfig, tokenizer: BudgetTokenizer, device: str | None
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._device = device
        self._method: Method | None = None
        self._met: set[str] = set()

    def take(self, texts: Sequence[str]) -> Method:
        """The method, about to compress these contexts.

        Raises:
            ConfigError: It cannot work as configured.
            ModelError: Its model cannot be loaded.
        """
        if self._method is None or not self._met.isdisjoint(texts):
            self._method = None  # frees its memory before the next is loaded
            self._met.clear()
            logger.debug("loading method %s", self._config.display_name)
            self._method = load_method(self._config, self._tokenizer.tokenizer, device=self._device)
            self._method.compress([WARM_UP], [1])
        self._met.update(texts)
        return self._method


def needs_all_contexts(method: MethodConfig) -> bool:
    """Other contexts have a part in what is left of one."""
    return method.kind in ("tf-idf", "stop-words") or (
        isinstance(method, MoosMethodConfig) and method.budget_per == "corpus"
    )


def hash_content(method: MethodConfig) -> str | None:
    """Hash of the files of a method's model; None without one, and for an id of the hub.

    Raises:
        ModelError: A checkpoint cannot be read.
    """
    if isinstance(method, MoosMethodConfig):
        return read_checkpoint(method.checkpoint, method.scoring.preserve_label).sha256
    path = getattr(method, "path", None)
    if path is None or not Path(path).is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted(file for file in Path(path).iterdir() if file.is_file()):
        with file.open("rb") as stream:
            digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def describe_settings(method: MethodConfig) -> dict[str, Any]:
    """A method's settings for people; what is null is left out."""
    settings = method.model_dump(mode="json", exclude={"kind", "name"}, exclude_none=True)
    return _drop_empty(settings)


def _drop_empty(settings: dict[str, Any]) -> dict[str, Any]:
    """Without sections that hold nothing; an empty list is a setting."""
    kept = {
        name: _drop_empty(value) if isinstance(value, dict) else value
        for name, value in settings.items()
    }
    return {name: value for name, value in kept.items() if value != {}}
