"""Train a compressor's classifier and write its checkpoint directory.

    python -m jobs.train configs/train.default.yaml base=DIRECTORY output=DIRECTORY [key=value ...]

One process of plain torch; the distributed job on Ray Train comes later. Progress goes to stderr,
one JSON line with the figures to stdout. Exit code 0: the checkpoint is written; 1: the labels are
faulty; 2: the run could not start as configured, or its loss stopped being a number.
"""

import sys
from collections.abc import Sequence
from typing import Any

from jobs.cli import config_parser, print_config, read_config, run_reported
from moos.training_config import TrainingConfig


def run(config: TrainingConfig) -> dict[str, Any]:
    """Train. Imported late: a config error needs no torch."""
    from moos.training import train

    metrics = train(config, lambda line: print(line, file=sys.stderr, flush=True))
    return {"output": config.output, **metrics}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    options = config_parser("moos train", __doc__ or "").parse_intermixed_args(argv)

    def job() -> dict[str, Any]:
        config = read_config(TrainingConfig, options.arguments)
        if options.print_config:
            print_config(config)
            return {}
        return run(config)

    return run_reported(job)


if __name__ == "__main__":
    sys.exit(main())
