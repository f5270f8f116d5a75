"""Measure moos on this machine, as ratios within one run.

    moos bench loss [key=value ...]

`loss`: what the similarity term costs of a training step at XLM-RoBERTa-large geometry, beside the
double sum that it stands for. Keys: num_layers, hidden_size, length, windows, repeats, bf16. One
JSON line goes to stdout.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import yaml

from jobs.cli import run_reported
from moos.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="moos bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benchmark", choices=["loss"])
    parser.add_argument("settings", nargs="*", metavar="key=value")
    options = parser.parse_args(argv)
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
