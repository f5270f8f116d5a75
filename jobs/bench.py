"""Measure moos on this machine, as ratios within one run.

    moos bench compress [config.yaml] [key=value ...] [--quick] [--gpu]
    moos bench loss [key=value ...]

`compress`: text to compressed text and spans, against LLMLingua-2 and the machine's ceilings.
`loss`: what the similarity term costs of a training step. `moos bench BENCHMARK --help` tells more.
"""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from jobs.cli import config_parser, print_config, read_config, run_reported, set_up_logging
from moos.errors import ConfigError
from pipelines.bench_config import BenchConfig

COMPRESS_HELP = """Compress the same documents by each contestant in turn, and compare.

moos bench compress --quick
moos bench compress configs/bench.yaml output=out/bench.json
moos bench compress input=docs.jsonl contestants=[library,ray] rounds=5
moos bench compress --gpu

Contestants: LLMLingua-2 by its own package (pip install 'moos[bench]'), with the same weights, as
its users call it and tuned; the library; the job on Ray and in one process. Every one is a process
of its own on the same cores, and all take turns. Tables and progress go to stderr, one JSON line to
stdout, all figures to output=FILE. Leave the machine alone meanwhile. Exit codes: 0 complete, 1 a
contestant failed, 2 config or usage.
"""

LOSS_HELP = """What the similarity term costs of a training step at XLM-RoBERTa-large geometry.

    moos bench loss [key=value ...]

Beside the double sum that it stands for. Keys: num_layers, hidden_size, length, windows, repeats,
bf16. One JSON line goes to stdout.
"""

QUICK = ("corpora=[mixed]", "tokens=16000", "rounds=1")
"""About a minute on two cores. What is set on the command line holds."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="moos bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benchmark", choices=["compress", "loss"])
    benchmark = parser.parse_args(arguments[:1]).benchmark
    return {"compress": _main_compress, "loss": _main_loss}[benchmark](arguments[1:])


def _main_compress(arguments: Sequence[str]) -> int:
    parser = config_parser("moos bench compress", COMPRESS_HELP)
    parser.add_argument(
        "--quick", action="store_true", help=f"about a minute on two cores: {' '.join(QUICK)}"
    )
    parser.add_argument("--gpu", action="store_true", help="compute on CUDA: gpu=true")
    options = parser.parse_intermixed_args(arguments)
    defaults = [*(QUICK if options.quick else ()), *(["gpu=true"] if options.gpu else ())]

    def job() -> Mapping[str, Any]:
        config = read_config(BenchConfig, [*defaults, *options.arguments])
        if options.print_config:
            print_config(config)
            return {}
        set_up_logging(options.verbose)
        return _measure_compress(config)

    return run_reported(job)


def _measure_compress(config: BenchConfig) -> Mapping[str, Any]:
    """Run the pipeline. Imported late: `--help` and config errors need no torch."""
    from rich.console import Console

    from pipelines.bench import run_bench
    from pipelines.bench_report import print_bench, summarise_bench

    with contextlib.redirect_stdout(sys.stderr):
        result = run_bench(config)
        console = Console(stderr=True)
        # A log has no width of its own; tables are not to be cut there.
        print_bench(result, console if console.is_terminal else Console(stderr=True, width=140))
    return summarise_bench(result)


def _main_loss(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="moos bench loss",
        description=LOSS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="*", metavar="key=value")
    options = parser.parse_args(arguments)
    return run_reported(lambda: _measure_loss(options.settings))


def _measure_loss(settings: Sequence[str]) -> dict[str, Any]:
    from moos.loss_benchmark import LossBenchmark, measure_loss

    kinds = {field.name: field.type for field in dataclasses.fields(LossBenchmark)}
    values: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        value: Any = yaml.safe_load(text) if text else None
        if name not in kinds or type(value) is not kinds[name] or not (value or value is False):
            raise ConfigError(f"{setting!r} must be key=value with a key of {', '.join(kinds)}")
        values[name] = value
    return measure_loss(LossBenchmark(**values))


if __name__ == "__main__":
    sys.exit(main())
