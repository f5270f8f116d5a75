"""Train a compressor's classifier on Ray Train and write its checkpoint.

moos train configs/train.own.yaml data.path=out/labels training.base=BASE output.path=out/train
moos train configs/train.default.yaml training.base=BASE output.path=out/train training.beta=0

OUT/checkpoint is what `moos compress checkpoint=OUT/checkpoint` reads; OUT/report.html shows the
run. The same command resumes a run that was stopped. Progress goes to stderr, one JSON line with
the figures to stdout. Exit code 0: the checkpoint is written; 1: the run failed or was stopped, or
the labels are faulty; 2: it could not start as configured, or its loss stopped being a number.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.command import CommandParser, config_parser, run_config_job, summary_alone
from pipelines.train_config import TrainConfig


def run(config: TrainConfig) -> Mapping[str, Any]:
    """Run the pipeline. Imported late: `--help` and config errors need neither Ray nor torch."""
    from pipelines.train import run_train

    with summary_alone(executor="ray"):
        return run_train(config)


def build_parser() -> CommandParser:
    """The command's arguments."""
    return config_parser("moos train", __doc__ or "", TrainConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_config_job(
        build_parser(),
        TrainConfig,
        lambda config, options: run(config),
        argv,
        resume_hint="; run the same command again to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
