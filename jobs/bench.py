"""Measure moos on this machine, as ratios within one run.

moos bench compress --quick
moos bench loss num_layers=6

`compress`: text to compressed text and spans, against LLMLingua-2 and the machine's ceilings.
`loss`: what the similarity term costs of a training step. `moos bench BENCHMARK --help` tells more.
"""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.command import CommandParser, config_parser, run_config_job, run_reported
from moos.errors import ConfigError
from moos.yaml_text import parse_yaml
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

moos bench loss
moos bench loss num_layers=6 hidden_size=384 length=512

Beside the double sum that it stands for. Keys: num_layers, hidden_size, length, windows, repeats,
bf16. One JSON line goes to stdout.
"""

QUICK = ("corpora=[mixed]", "tokens=16000", "rounds=1")
"""About a minute on two cores. What is set on the command line holds."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    benchmark = build_parser().read(arguments[:1]).benchmark
    return {"compress": _main_compress, "loss": _main_loss}[benchmark](arguments[1:])


def build_parser() -> CommandParser:
    """The command's arguments: which benchmark."""
    benchmarks = {"compress": _build_compress_parser, "loss": _build_loss_parser}
    parser = CommandParser("moos bench", __doc__, subcommands=benchmarks)
    parser.add_argument("benchmark", choices=list(benchmarks))
    return parser


def _build_compress_parser() -> CommandParser:
    parser = config_parser("moos bench compress", COMPRESS_HELP, BenchConfig)
    parser.add_argument(
        "--quick", action="store_true", help=f"about a minute on two cores: {' '.join(QUICK)}"
    )
    parser.add_argument("--gpu", action="store_true", help="compute on CUDA: gpu=true")
    return parser


def _main_compress(arguments: Sequence[str]) -> int:
    return run_config_job(
        _build_compress_parser(), BenchConfig, _measure_compress, arguments, defaults=_defaults
    )


def _defaults(options: argparse.Namespace) -> list[str]:
    """What flags stand for, as settings that those on the command line override."""
    return [*(QUICK if options.quick else ()), *(["gpu=true"] if options.gpu else ())]


def _measure_compress(config: BenchConfig, options: argparse.Namespace) -> Mapping[str, Any]:
    """Run the pipeline. Imported late: `--help` and config errors need no torch."""
    from rich.console import Console

    from pipelines.bench import run_bench
    from pipelines.bench_report import print_bench, summarise_bench

    with contextlib.redirect_stdout(sys.stderr):
        result = run_bench(config)
        # A log has no width of its own; tables are not to be cut there.
        width = None if sys.stderr.isatty() else 140
        print_bench(result, Console(stderr=True, quiet=options.quiet, width=width))
    return summarise_bench(result)


def _build_loss_parser() -> CommandParser:
    parser = CommandParser("moos bench loss", LOSS_HELP)
    parser.add_argument("settings", nargs="*", metavar="key=value")
    return parser


def _main_loss(arguments: Sequence[str]) -> int:
    options = _build_loss_parser().read(arguments)
    return run_reported(lambda: _measure_loss(options.settings))


def _measure_loss(settings: Sequence[str]) -> dict[str, Any]:
    from moos.loss_benchmark import LossBenchmark, measure_loss

    kinds = {field.name: field.type for field in dataclasses.fields(LossBenchmark)}
    values: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        value: Any = parse_yaml(text)
        if name not in kinds or type(value) is not kinds[name] or not (value or value is False):
            raise ConfigError(f"{setting!r} must be key=value with a key of {', '.join(kinds)}")
        values[name] = value
    return measure_loss(LossBenchmark(**values))


if __name__ == "__main__":
    sys.exit(main())
