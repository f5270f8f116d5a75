"""What an evaluation is about, read and checked before any model is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moos.errors import ConfigError
from moos.evaluation.deletions import DeletionExample
from moos.evaluation.example import Task
from moos.evaluation.tasks import load_task
from moos.labels import LabelledDocument
from moos.storage import Storage
from pipelines.evaluate_answers import build_prompts, count_missing
from pipelines.evaluate_compress import ContextCompressor
from pipelines.evaluate_config import EvaluateConfig, TaskConfig
from pipelines.evaluate_contexts import (
    BudgetTokenizer,
    ContextSet,
    cut_contexts,
    load_budget_tokenizer,
)
from pipelines.evaluate_measures import read_documents, read_labelled_texts, read_sentences
from pipelines.evaluate_methods import Cell, hash_content, plan_cells

CONFIG = "_run/evaluate.yaml"
"""The resolved config: the first thing that a run writes."""


@dataclass(frozen=True, slots=True)
class PreparedEvaluation:
    """An evaluation that can begin.

    Attributes:
        config: Its settings.
        output: Where it writes.
        tokenizer: What budgets are counted by; None where nothing is compressed.
        tasks: Each task with its contexts.
        documents: Those that retention is measured on; None if it is not.
        cells: Every method at every rate.
        contents: Hash of each method's model, by the method's name, as `hash_content` has it.
        sentences: Those that deletions are measured on.
        labelled: Those that over-smoothing is measured on.
    """

    config: EvaluateConfig
    output: Storage
    tokenizer: BudgetTokenizer | None
    tasks: Sequence[tuple[Task, ContextSet]]
    documents: ContextSet | None
    cells: Sequence[Cell]
    contents: Mapping[str, str | None]
    sentences: Sequence[DeletionExample]
    labelled: Sequence[LabelledDocument]

    @property
    def sets(self) -> list[ContextSet]:
        """Everything that is compressed."""
        documents = [] if self.documents is None else [self.documents]
        return [*(contexts for _, contexts in self.tasks), *documents]

    @property
    def reader_settings(self) -> dict[str, Any] | None:
        """The reader's, as JSON."""
        reader = self.config.reader
        return None if reader is None else reader.model_dump(mode="json")

    def make_compressor(self) -> ContextCompressor | None:
        """What compresses the sets; None where there are none."""
        if self.tokenizer is None:
            return None
        return ContextCompressor(
            self.output, self.tokenizer, self.contents, device=self.config.device
        )


def prepare_evaluate(config: EvaluateConfig) -> PreparedEvaluation:
    """Read all data; nothing is written.

    Raises:
        ConfigError: The run cannot start as configured.
        DataError: A file has another layout.
        ModelError: The tokenizer or a method's checkpoint cannot be read.
    """
    place = config.output
    output = Storage(place.path, place.storage_options, retries=place.retries)
    check_output(output)
    counter, tasks, documents = None, [], None
    if config.tasks or config.retention is not None:
        counter = load_budget_tokenizer(config)
        tasks = [cut_contexts(_load_task(config, task), counter.tokenizer) for task in config.tasks]
        if config.retention is not None:
            documents = read_documents(config.retention, counter.tokenizer)
    return PreparedEvaluation(
        config=config,
        output=output,
        tokenizer=counter,
        tasks=tasks,
        documents=documents,
        cells=plan_cells(config.methods, config.rates),
        contents={method.display_name: hash_content(method) for method in config.methods},
        sentences=[] if config.deletions is None else read_sentences(config.deletions),
        labelled=[] if config.smoothing is None else read_labelled_texts(config.smoothing),
    )


def _load_task(config: EvaluateConfig, task: TaskConfig) -> Task:
    return load_task(
        task.name,
        task.path,
        limit=task.limit,
        seed=config.seed,
        max_context_tokens=task.max_context_tokens,
        demonstrations=task.demonstrations,
    )


def check_output(output: Storage) -> None:
    """Refuse to write among things that no evaluation wrote.

    Raises:
        ConfigError: The place holds such a thing.
    """
    found = output.list("", directories=True)
    if found and not output.exists(CONFIG):
        raise ConfigError(
            f"output.path {output.url} holds {found[0]!r}, which is not of an evaluation; name "
            "another"
        )


def describe_evaluate(prepared: PreparedEvaluation) -> dict[str, Any]:
    """What a run would do, and what of it is there already."""
    tasks, cells, sets = prepared.tasks, prepared.cells, prepared.sets
    compressor = prepared.make_compressor()
    found = {} if compressor is None else compressor.find(cells, sets)
    prompts = [
        build_prompts(task, contexts, found[key])
        for task, contexts in tasks
        for cell in cells
        if (key := (task.name, *cell.key)) in found
    ]
    num_answers = len(cells) * sum(len(task.examples) for task, _ in tasks)
    missing = count_missing(prepared.output, prepared.reader_settings, prompts)
    num_cached = sum(map(len, prompts)) - missing
    num_compressions = len(cells) * sum(len(contexts.texts) for contexts in sets)
    num_found = sum(len(compressed) for compressed in found.values())
    return {
        "status": "planned",
        "output": prepared.config.output.path,
        "tasks": {
            task.name: {"questions": len(task.examples), "contexts": len(contexts.texts)}
            for task, contexts in tasks
        },
        "cells": [cell.name for cell in cells],
        "compressions": num_compressions,
        "compressions_to_do": num_compressions - num_found,
        "answers": num_answers,
        "answers_cached": num_cached,
        "answers_to_fetch": num_answers - num_cached,
    }
