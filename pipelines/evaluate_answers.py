"""The reader's part: prompts from compressed contexts, answers through the cache, rows of scores.

A reader answers the prompts of one task with one method at one rate at a time, since what it reads
together shares its seconds evenly.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moos.errors import MoosError
from moos.evaluation.example import Reader, ReaderAnswer, ReaderPrompt, Task
from moos.evaluation.readers.cached import CachedReader
from moos.storage import Storage
from pipelines.evaluate_compress import Compression, Compressions
from pipelines.evaluate_contexts import ContextSet, name_context
from pipelines.evaluate_figures import ContextRow, ResultRow
from pipelines.evaluate_methods import Cell
from pipelines.evaluate_progress import EvaluateProgress

logger = logging.getLogger(__name__)

ANSWERS = "_run/answers"
READER = "_run/reader.json"


class WatchedReader:
    """A reader that is warm when its seconds begin to count, and says when it is at work."""

    def __init__(self, reader: Reader, *, warms_up: bool) -> None:
        """Take a reader.

        Args:
            reader: Who answers.
            warms_up: Ask it something first, whose answer nobody waits for.
        """
        self.name = reader.name
        self.is_answering = False
        self._reader = reader
        self._is_cold = warms_up

    def count(self, text: str) -> int:
        """Tokens of a text, special tokens left out."""
        return self._reader.count(text)

    def answer(
        self,
        prompts: Sequence[ReaderPrompt],
        on_answer: Callable[[int, ReaderAnswer], None] | None = None,
    ) -> list[ReaderAnswer]:
        """As the reader does."""
        if self._is_cold:
            self._is_cold = False
            self._reader.answer([ReaderPrompt("Hello", "", False, 2, ())])
        self.is_answering = True
        try:
            return self._reader.answer(prompts, on_answer)
        finally:
            self.is_answering = False


class _NotAnsweredError(MoosError):
    """Raised in place of answering."""


class _AbsentReader:
    """Stands for a reader that is not loaded: counts what it would be asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.num_asked = 0

    def count(self, text: str) -> int:
        raise _NotAnsweredError(text)

    def answer(
        self,
        prompts: Sequence[ReaderPrompt],
        on_answer: Callable[[int, ReaderAnswer], None] | None = None,
    ) -> list[ReaderAnswer]:
        self.num_asked += len(prompts)
        raise _NotAnsweredError("this reader is not loaded")


def remember_reader(storage: Storage, settings: Mapping[str, Any], name: str) -> None:
    """Note what a reader of these settings calls itself, which only a loaded one knows."""
    storage.put(READER, json.dumps({"settings": settings, "name": name}).encode())


def count_missing(
    storage: Storage,
    settings: Mapping[str, Any] | None,
    prompts: Sequence[Sequence[ReaderPrompt]],
) -> int:
    """How many of the prompts, a list per task and cell, the cache has no answer to.

    All of them, if another reader was asked last.
    """
    absent = _AbsentReader("")
    try:
        known = json.loads(storage.get(READER))
    except (FileNotFoundError, ValueError):
        known = {}
    if "name" not in known or known["settings"] != settings:
        return sum(map(len, prompts))
    absent.name = known["name"]
    cached = CachedReader(absent, storage, ANSWERS)
    for some in prompts:
        try:
            cached.answer(some)
        except _NotAnsweredError:
            continue
    return absent.num_asked


def build_prompts(
    task: Task, contexts: ContextSet, compressed: Sequence[Compression]
) -> list[ReaderPrompt]:
    """A prompt for each example of a task, with its context as a method left it."""
    by_text = dict(zip(contexts.texts, compressed, strict=True))
    return [
        ReaderPrompt(
            shared=each.before + by_text[each.context].text,
            own=each.after,
            chat=task.chat,
            max_new_tokens=task.max_new_tokens,
            stop=task.stop,
        )
        for each in task.examples
    ]


def ask_reader(
    reader: WatchedReader,
    storage: Storage,
    tasks: Sequence[tuple[Task, ContextSet]],
    cells: Sequence[Cell],
    compressions: Compressions,
) -> list[ResultRow]:
    """Every example's answer and score with every method at every rate.

    Raises:
        MoosError: The reader does not answer; its answers so far are kept.
    """
    cached = CachedReader(reader, storage, ANSWERS)
    planned = [
        (task, contexts, cell, build_prompts(task, contexts, compressions[task.name, *cell.key]))
        for task, contexts in tasks
        for cell in cells
    ]
    lengths = [len(each.shared) + len(each.own) for *_, prompts in planned for each in prompts]
    progress = EvaluateProgress("answers", len(lengths), sum(lengths))
    rows: list[ResultRow] = []
    for task, contexts, cell, prompts in planned:

        def take(index: int, answer: ReaderAnswer, asked: Sequence[ReaderPrompt] = prompts) -> None:
            progress.add(
                num_done=1,
                tokens=answer.num_prompt_tokens + answer.num_answer_tokens,
                work=len(asked[index].shared) + len(asked[index].own),
                is_new=reader.is_answering,
            )

        answers = cached.answer(prompts, take)
        compressed = compressions[task.name, *cell.key]
        rows += _build_rows(task, contexts, cell, compressed, answers)
    logger.info("%s", progress.describe())
    return rows


def _build_rows(
    task: Task,
    contexts: ContextSet,
    cell: Cell,
    compressed: Sequence[Compression],
    answers: Sequence[ReaderAnswer],
) -> list[ResultRow]:
    places = {text: place for place, text in enumerate(contexts.texts)}
    method, rate = cell.key
    rows: list[ResultRow] = []
    for example, answer in zip(task.examples, answers, strict=True):
        place = places[example.context]
        rows.append(
            ResultRow(
                task=task.name,
                group=task.group,
                metric=task.metric,
                example=example.id,
                context=name_context(example.context),
                method=method,
                rate=rate,
                score=float(task.score(answer.text, example)),
                answer=answer.text,
                answers=list(example.answers),
                question=example.question,
                num_context_tokens=contexts.num_tokens[place],
                num_compressed_tokens=compressed[place].num_tokens,
                num_prompt_tokens=answer.num_prompt_tokens,
                compress_seconds=compressed[place].seconds,
                read_seconds=answer.seconds,
            )
        )
    return rows


def build_context_rows(
    sets: Sequence[ContextSet], cells: Sequence[Cell], compressions: Compressions
) -> list[ContextRow]:
    """A row for every context of the tasks by every method at every rate."""
    return [
        ContextRow(
            task=contexts.name,
            context=name_context(text),
            method=cell.method.display_name,
            rate=cell.rate,
            text=compressed.text,
            num_tokens=compressed.num_tokens,
            num_full_tokens=num_tokens,
            seconds=compressed.seconds,
        )
        for contexts in sets
        for cell in cells
        for text, num_tokens, compressed in zip(
            contexts.texts,
            contexts.num_tokens,
            compressions[contexts.name, *cell.key],
            strict=True,
        )
    ]
