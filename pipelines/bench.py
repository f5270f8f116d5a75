"""`moos bench compress`: contestants in turn on the same documents, in one run.

In each round every contestant compresses the corpus once, each round in another order, and the
machine's ceilings are measured beside them. A contestant that fails is reported with its error;
the others go on.
"""

import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from moos.benchmark.contestants import LibrarySpec
from moos.benchmark.corpora import build_corpus, read_corpus
from moos.benchmark.llmlingua2 import LLMLingua2Spec, is_installed
from moos.benchmark.machine import CeilingSpec, count_cores, describe_machine
from moos.benchmark.turns import ContestantError, ContestantProcess, Spec
from moos.checkpoint import Checkpoint, read_checkpoint
from moos.errors import ConfigError
from moos.tokens import TextTokenizer
from pipelines.bench_config import BenchConfig, GeometryName
from pipelines.bench_job import JobSpec
from pipelines.bench_rounds import Processes, describe_corpus, run_rounds

logger = logging.getLogger(__name__)


def run_bench(config: BenchConfig) -> dict[str, Any]:
    """Measure all that the config names; every figure, with `exit_code` 1 where one is missing.

    Raises:
        ConfigError: There is no CUDA device, no contestant, or nowhere to write.
        ModelError: The checkpoint cannot serve as a compressor.
    """
    began = time.monotonic()
    check_config(config)
    names, left_out = _choose_contestants(config)
    result: dict[str, Any] = {
        "format_version": 1,
        "config": config.model_dump(mode="json"),
        "threads": _threads(config),
        "machine": describe_machine(),
        "left_out": left_out,
        "geometries": [_run_geometry(name, names, config) for name in config.effective_geometries],
        "seconds": 0.0,
    }
    result["seconds"] = round(time.monotonic() - began, 1)
    result["exit_code"] = int(any(_errors(result)))
    if config.output is not None:
        _write(Path(config.output), result)
    return result


def check_config(config: BenchConfig) -> None:
    """Refuse what cannot be measured here, before anything is.

    Raises:
        ConfigError: CUDA is asked for and torch sees none, or the output cannot be written.
    """
    if config.output is not None and not os.access(Path(config.output).absolute().parent, os.W_OK):
        raise ConfigError(f"output={config.output} is in no directory that can be written to")
    if not config.gpu:
        return
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            f"gpu=true, but torch {torch.__version__} sees no CUDA device here; install a CUDA "
            "build of torch, or leave out --gpu to measure on the CPU"
        )


def _choose_contestants(config: BenchConfig) -> tuple[list[str], dict[str, str]]:
    names: list[str] = list(config.contestants)
    if is_installed():
        return names, {}
    reason = "the package llmlingua is not installed: pip install 'moos[bench]'"
    left_out = {name: reason for name in names if name.startswith("llmlingua2")}
    if left_out:
        logger.warning("%s left out: %s", " and ".join(left_out), reason)
    names = [name for name in names if name not in left_out]
    if not names:
        raise ConfigError(f"contestants={list(config.contestants)} leaves nobody: {reason}")
    return names, left_out


def _threads(config: BenchConfig) -> int:
    return min(config.threads or count_cores(), count_cores())


def build_spec(name: str, checkpoint: str, config: BenchConfig) -> Spec:
    """What a contestant's process loads."""
    shared: dict[str, Any] = {
        "checkpoint": checkpoint,
        "device": "cuda" if config.gpu else "cpu",
        "threads": _threads(config),
        "rate": config.rate,
    }
    if name.startswith("llmlingua2"):
        return LLMLingua2Spec(**shared, is_tuned=name == "llmlingua2-tuned")
    if name == "library":
        return LibrarySpec(**shared, engine=config.engine)
    executor: Any = name
    return JobSpec(**shared, engine=config.engine, executor=executor)


def _run_geometry(
    geometry: GeometryName, names: Sequence[str], config: BenchConfig
) -> dict[str, Any]:
    with ExitStack() as stack:
        location = config.checkpoint
        if geometry != "checkpoint":
            from moos.benchmark.geometries import write_geometry

            logger.info("%s: making a checkpoint with random weights", geometry)
            location = stack.enter_context(tempfile.TemporaryDirectory(prefix="moos-bench-"))
            write_geometry(geometry, Path(location), seed=config.seed)
        checkpoint = read_checkpoint(location)
        specs = {name: build_spec(name, location, config) for name in names}
        logger.info("%s: loading %s", geometry, ", ".join(names))
        processes, errors = stack.enter_context(_started(specs, _threads(config)))
        ceiling = _start_ceiling(config)
        stack.callback(ceiling.close)
        corpora = []
        for name, texts in _corpora(config, checkpoint):
            run = run_rounds(
                name,
                texts,
                processes,
                ceiling,
                num_rounds=config.rounds,
                with_stages=config.stages,
                failed=errors,
            )
            corpora.append(describe_corpus(name, texts, run, checkpoint))
        memory = {name: _peak_mb(process) for name, process in processes.items()}
    keys = ("model_type", "num_hidden_layers", "hidden_size", "intermediate_size")
    return {
        "name": geometry,
        "encoder": {key: checkpoint.config.get(key) for key in keys},
        "peak_memory_mb": memory,
        "corpora": corpora,
    }


def _start_ceiling(config: BenchConfig) -> ContestantProcess:
    threads = _threads(config)
    spec = CeilingSpec("cuda" if config.gpu else "cpu", threads)
    ceiling = ContestantProcess("ceilings", spec, threads=threads)
    ceiling.wait_loaded()
    return ceiling


@contextmanager
def _started(specs: Mapping[str, Spec], threads: int) -> Iterator[tuple[Processes, dict[str, str]]]:
    """The contestants that could be loaded, in processes, and why others could not."""
    processes: Processes = {}
    errors: dict[str, str] = {}
    try:
        for name, spec in specs.items():
            processes[name] = ContestantProcess(name, spec, threads=threads)
        for name in specs:
            try:
                processes[name].wait_loaded()
            except ContestantError as error:
                logger.error("%s could not be loaded: %s", name, error)
                errors[name] = str(error)
                processes.pop(name).close()
        yield processes, errors
    finally:
        for process in processes.values():
            process.close()


def _peak_mb(process: ContestantProcess) -> float | None:
    try:
        peak: int = process.ask("peak_memory")
        return round(peak / 1e6, 1)
    except ContestantError:  # it ended, which its corpus tells
        return None


def _corpora(config: BenchConfig, checkpoint: Checkpoint) -> Iterator[tuple[str, list[str]]]:
    tokenizer = TextTokenizer.from_file(checkpoint.tokenizer_path)
    if config.input is not None:
        yield "input", read_corpus(config.input, config.text_column, config.tokens, tokenizer)
        return
    for name in config.corpora:
        yield name, build_corpus(name, config.tokens, tokenizer, seed=config.seed)


def _errors(result: Mapping[str, Any]) -> Iterator[str]:
    for geometry in result["geometries"]:
        for corpus in geometry["corpora"]:
            yield from (c["error"] for c in corpus["contestants"].values() if c["error"])


def _write(path: Path, result: Mapping[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
