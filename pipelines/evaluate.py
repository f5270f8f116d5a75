"""The evaluation job: compress contexts by every method, ask the reader, tell what is left.

Contexts and answers are kept below `_run/` under hashes of all that they depend on. So the same
command goes on where it stopped, a changed config does only what is new, and the files beside it
are made anew each time, from what is kept, without asking for anything twice.
"""

import json
import logging
import platform
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from moos import __version__
from moos.evaluation.example import Reader
from moos.evaluation.reader_config import LocalReaderConfig
from moos.evaluation.readers import load_reader
from moos.evaluation.statistics import CONFIDENCE, NUM_RESAMPLES
from moos.storage import Storage
from pipelines.evaluate_answers import (
    WatchedReader,
    ask_reader,
    build_context_rows,
    remember_reader,
)
from pipelines.evaluate_compress import Compressions
from pipelines.evaluate_config import EvaluateConfig
from pipelines.evaluate_figures import (
    ContextRow,
    Figures,
    MethodFigure,
    ResultRow,
    RunFigure,
    TaskFigure,
)
from pipelines.evaluate_measures import (
    measure_all_deletions,
    measure_encoders,
    measure_retention,
)
from pipelines.evaluate_methods import describe_settings
from pipelines.evaluate_plan import CONFIG, PreparedEvaluation, prepare_evaluate
from pipelines.evaluate_scores import ScoreSettings, measure_cells, measure_groups
from pipelines.evaluate_speed import measure_speed

logger = logging.getLogger(__name__)

RESULTS = "results.jsonl"
CONTEXTS = "contexts.jsonl"
FIGURES = "figures.json"
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "datasets", "rouge", "llmlingua")


def run_evaluate(config: EvaluateConfig, *, command: str = "moos evaluate") -> dict[str, Any]:
    """Run the job to its end, or from where it stopped; the summary.

    Args:
        config: The settings.
        command: The command line that runs it again, for the report.

    Raises:
        ConfigError: The run cannot start as configured.
        DataError: A file has another layout, or a method fails on a context.
        ModelError: A model cannot be loaded.
        MoosError: The reader does not answer; the same command resumes.
    """
    began = time.monotonic()
    _set_threads(config.threads)
    prepared = prepare_evaluate(config)
    # Before any work: that it cannot be loaded must not be found out at the end of it.
    reader = _load_reader(config)
    output, compressor = prepared.output, prepared.make_compressor()
    output.put(CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())
    compressions: Compressions = {}
    if compressor is not None:
        compressions = compressor.compress(prepared.cells, prepared.sets)
    figures = _measure_without_reader(prepared, compressions, command)
    rows: list[ResultRow] = []
    if reader is not None:
        rows = _ask(prepared, reader, compressions)
        _add_scores(figures, prepared, reader, rows)
    contexts = build_context_rows(
        [each for _, each in prepared.tasks], prepared.cells, compressions
    )
    _write(output, figures, rows, contexts)
    return {
        "output": config.output.path,
        "tasks": [task.name for task, _ in prepared.tasks],
        "cells": [cell.name for cell in prepared.cells],
        "answers": len(rows),
        "seconds": round(time.monotonic() - began, 1),
    }


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _load_reader(config: EvaluateConfig) -> Reader | None:
    """The reader, where something is to be asked."""
    if config.reader is None or not config.tasks:
        return None
    return load_reader(config.reader, device=config.device)


def _ask(
    prepared: PreparedEvaluation, reader: Reader, compressions: Compressions
) -> list[ResultRow]:
    settings = prepared.reader_settings
    assert settings is not None, "a reader has settings"
    remember_reader(prepared.output, settings, reader.name)
    # An endpoint is warm, and paid for.
    is_local = isinstance(prepared.config.reader, LocalReaderConfig)
    watched = WatchedReader(reader, warms_up=is_local)
    return ask_reader(watched, prepared.output, prepared.tasks, prepared.cells, compressions)


def _measure_without_reader(
    prepared: PreparedEvaluation, compressions: Compressions, command: str
) -> Figures:
    """All figures but those of answers."""
    config, documents = prepared.config, prepared.documents
    return Figures(
        run=_describe_run(prepared, command),
        cells=[],
        groups=[],
        speed=[],
        retention=[]
        if documents is None
        else measure_retention(documents, prepared.cells, compressions),
        deletions=[]
        if config.deletions is None
        else measure_all_deletions(prepared.sentences, config.methods, config.device),
        smoothing=[]
        if config.smoothing is None
        else measure_encoders(config.smoothing.checkpoints, prepared.labelled),
    )


def _add_scores(
    figures: Figures, prepared: PreparedEvaluation, reader: Reader, rows: list[ResultRow]
) -> None:
    """Put in what the answers tell."""
    config = prepared.config
    names = (method.display_name for method in config.methods if method.kind == "full")
    full = next(names, None)
    settings = ScoreSettings(
        full=full, baseline=config.baseline, price=config.price_per_million_tokens, seed=config.seed
    )
    groups = {task.name: task.group for task, _ in prepared.tasks}
    figures["run"]["reader"] = reader.name
    figures["cells"] = measure_cells(rows, settings)
    figures["groups"] = measure_groups(figures["cells"], groups, full)
    figures["speed"] = measure_speed(rows, full)


def _describe_run(prepared: PreparedEvaluation, command: str) -> RunFigure:
    config = prepared.config
    return RunFigure(
        reader=None,
        reader_settings=prepared.reader_settings,
        tasks=_describe_tasks(prepared),
        methods=[
            MethodFigure(
                name=method.display_name,
                kind=method.kind,
                settings=describe_settings(method),
                content=prepared.contents[method.display_name],
            )
            for method in config.methods
        ],
        rates=list(config.rates),
        baseline=config.baseline,
        budget_tokenizer=None if prepared.tokenizer is None else prepared.tokenizer.path,
        retention=None if config.retention is None else config.retention.path,
        deletions=None if config.deletions is None else config.deletions.path,
        smoothing=None if config.smoothing is None else config.smoothing.labels,
        price_per_million_tokens=config.price_per_million_tokens,
        confidence=CONFIDENCE,
        num_resamples=NUM_RESAMPLES,
        seed=config.seed,
        versions=_find_versions(),
        device=_name_device(config.device),
        command=command,
    )


def _describe_tasks(prepared: PreparedEvaluation) -> list[TaskFigure]:
    return [
        TaskFigure(
            name=task.name,
            group=task.group,
            metric=task.metric,
            source=task.source,
            num_examples=len(task.examples),
            num_contexts=len(contexts.texts),
            mean_context_tokens=sum(contexts.num_tokens) / len(contexts.num_tokens),
            max_context_tokens=max(contexts.num_tokens),
            num_cut=contexts.num_cut,
        )
        for task, contexts in prepared.tasks
    ]


def _find_versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "moos": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _name_device(device: str | None) -> str:
    """What models ran on, as its maker calls it."""
    import torch

    if torch.cuda.is_available() and not (device or "cuda").startswith("cpu"):
        return str(torch.cuda.get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    processor = next(names, platform.machine())
    return f"{processor}, {torch.get_num_threads()} threads"


def _write(
    output: Storage, figures: Figures, rows: list[ResultRow], contexts: list[ContextRow]
) -> None:
    from pipelines.evaluate_report import write_evaluate_report  # loads what draws

    output.put(RESULTS, _to_lines(rows))
    output.put(CONTEXTS, _to_lines(contexts))
    output.put(FIGURES, json.dumps(figures, indent=1, allow_nan=False).encode() + b"\n")
    write_evaluate_report(output, figures, rows, contexts)


def _to_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
