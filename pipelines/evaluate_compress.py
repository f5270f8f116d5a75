"""Contexts through every method at every rate, timed, and never twice: results stay on storage.

Contexts go to a method in groups. A group's compressions are one object, written whole under the
hash of all that decides them, so a run can be killed anywhere, and two may run at once. Seconds of
a group are shared among its contexts by their tokens.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from moos import __version__
from moos.evaluation.method_config import MethodConfig
from moos.selection import budget_of_rate
from moos.storage import Storage
from pipelines.evaluate_contexts import BudgetTokenizer, ContextSet, hash_text
from pipelines.evaluate_methods import Cell, FreshMethod, needs_all_contexts
from pipelines.evaluate_progress import EvaluateProgress

logger = logging.getLogger(__name__)

DIRECTORY = "_run/contexts"
GROUP_TOKENS = 1 << 15
"""Tokens in a group: a minute or so of a large encoder on a CPU, which a kill may lose."""
_FORMAT = "contexts-1"  # another one would compress anew


@dataclass(frozen=True, slots=True)
class Compression:
    """A context as a method left it.

    Attributes:
        text: What is left.
        num_tokens: Its tokens, counted like budgets.
        seconds: What it took.
    """

    text: str
    num_tokens: int
    seconds: float


Compressions = dict[tuple[str, str, float | None], list[Compression]]
"""By set of contexts, method and rate: one for each context, in order."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Contexts that a method compresses in one call, and the object that holds what is left."""

    cell: Cell
    texts: tuple[str, ...]
    num_tokens: tuple[int, ...]
    budgets: tuple[int, ...]
    key: str


class ContextCompressor:
    """Compresses what is not on storage yet."""

    def __init__(
        self,
        storage: Storage,
        tokenizer: BudgetTokenizer,
        contents: Mapping[str, str | None],
        *,
        device: str | None = None,
    ) -> None:
        """Prepare; nothing is loaded yet.

        Args:
            storage: The run's output.
            tokenizer: What counts budgets.
            contents: Hash of each method's model, by the method's name.
            device: Device of the methods' models; None: CUDA where there is one.
        """
        self._storage = storage
        self._tokenizer = tokenizer
        self._device = device
        self._contents = contents

    def find(self, cells: Sequence[Cell], sets: Sequence[ContextSet]) -> Compressions:
        """What is there already; a cell that lacks a context of a set is left out."""
        groups = self._plan_all(cells, sets)
        return self._gather(cells, sets, self._read_all(groups))

    def compress(self, cells: Sequence[Cell], sets: Sequence[ContextSet]) -> Compressions:
        """Every context of every set by every cell.

        Raises:
            ConfigError: A method cannot work as configured.
            DataError: A method fails on a context.
            ModelError: A method's model cannot be loaded.
        """
        groups = self._plan_all(cells, sets)
        parts = self._read_all(groups)
        progress = EvaluateProgress(
            "contexts compressed",
            sum(len(group.texts) for group in groups),
            sum(sum(group.num_tokens) for group in groups),
        )
        todo = [group for group in groups if group.key not in parts]
        for group in groups:
            if group.key in parts:
                _count(progress, group, is_new=False)
        for cell in cells:
            fresh = FreshMethod(cell.method, self._tokenizer, self._device)
            for group in (group for group in todo if group.cell is cell):
                # Two tasks may have the same contexts.
                if group.key not in parts:
                    parts[group.key] = self._work(fresh, group)
                _count(progress, group, is_new=True)
        if groups:
            logger.info("%s", progress.describe())
        return self._gather(cells, sets, parts)

    def _plan_all(self, cells: Sequence[Cell], sets: Sequence[ContextSet]) -> list[_Group]:
        return [group for cell in cells for each in sets for group in self._plan(cell, each)]

    def _plan(self, cell: Cell, contexts: ContextSet) -> Iterator[_Group]:
        """The groups of a set, in order; none where there is no budget to meet."""
        if cell.rate is None:
            return
        settings = cell.method.model_dump(mode="json", exclude={"name"})
        decisive = [_FORMAT, __version__, settings, self._contents[cell.method.display_name]]
        bounds = [(0, len(contexts.texts))]
        if not needs_all_contexts(cell.method):
            bounds = list(_cut_groups(contexts.num_tokens))
        for start, end in bounds:
            texts, num_tokens = contexts.texts[start:end], contexts.num_tokens[start:end]
            budgets = tuple(budget_of_rate(cell.rate, count) for count in num_tokens)
            hashes = [hash_text(text) for text in texts]
            parts = [*decisive, self._tokenizer.sha256, budgets, hashes]
            key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
            yield _Group(cell, texts, num_tokens, budgets, key)

    def _gather(
        self,
        cells: Sequence[Cell],
        sets: Sequence[ContextSet],
        parts: Mapping[str, list[Compression]],
    ) -> Compressions:
        gathered: Compressions = {}
        for contexts in sets:
            for cell in cells:
                keys = [group.key for group in self._plan(cell, contexts)]
                if cell.rate is None:
                    gathered[contexts.name, *cell.key] = _keep_or_drop(cell.method, contexts)
                elif all(key in parts for key in keys):
                    compressed = [each for key in keys for each in parts[key]]
                    gathered[contexts.name, *cell.key] = compressed
        return gathered

    def _work(self, fresh: FreshMethod, group: _Group) -> list[Compression]:
        """A group's compressions, written."""
        method = fresh.take(group.texts)
        began = time.perf_counter()
        texts = method.compress(group.texts, group.budgets)
        seconds = time.perf_counter() - began
        total = max(1, sum(group.num_tokens))
        counted = zip(
            texts, self._tokenizer.tokenizer.tokenize(texts), group.num_tokens, strict=True
        )
        compressed = [
            Compression(text, len(tokens), seconds * own / total) for text, tokens, own in counted
        ]
        lines = "".join(json.dumps(asdict(each)) + "\n" for each in compressed)
        self._storage.put(f"{DIRECTORY}/{group.key}.jsonl", lines.encode())
        return compressed

    def _read_all(self, groups: Sequence[_Group]) -> dict[str, list[Compression]]:
        """The compressions of the groups that are there, by their keys."""
        there = set(self._storage.list(DIRECTORY))
        read = {group.key: self._read(group) for group in groups if f"{group.key}.jsonl" in there}
        return {key: part for key, part in read.items() if part is not None}

    def _read(self, group: _Group) -> list[Compression] | None:
        """A group's compressions; None if the object is not what was written."""
        try:
            data = self._storage.get(f"{DIRECTORY}/{group.key}.jsonl")
            read = [Compression(**json.loads(line)) for line in data.splitlines()]
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return read if len(read) == len(group.texts) else None


def _keep_or_drop(method: MethodConfig, contexts: ContextSet) -> list[Compression]:
    """What `full` and `none` make of contexts."""
    if method.kind == "none":
        return [Compression("", 0, 0.0) for _ in contexts.texts]
    counted = zip(contexts.texts, contexts.num_tokens, strict=True)
    return [Compression(text, count, 0.0) for text, count in counted]


def _cut_groups(num_tokens: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Bounds of groups that hold at most `GROUP_TOKENS`, or one context."""
    start, held = 0, 0
    for at, count in enumerate(num_tokens):
        if at > start and held + count > GROUP_TOKENS:
            yield start, at
            start, held = at, 0
        held += count
    if start < len(num_tokens):
        yield start, len(num_tokens)


def _count(progress: EvaluateProgress, group: _Group, *, is_new: bool) -> None:
    tokens = sum(group.num_tokens)
    progress.add(num_done=len(group.texts), tokens=tokens, work=tokens, is_new=is_new)
