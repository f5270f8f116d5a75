"""Train a compressor's classifier on Ray Train and write its checkpoint.

    moos train configs/train.default.yaml training.base=DIRECTORY output.path=OUT [key=value ...]

OUT/checkpoint is what `moos compress checkpoint=OUT/checkpoint` reads; OUT/report.html shows the
run. The same command resumes a run that was stopped. Progress goes to stderr, one JSON line with
the figures to stdout. Exit code 0: the checkpoint is written; 1: the run failed or was stopped, or
the labels are faulty; 2: it could not start as configured, or its loss stopped being a number.
"""

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

from jobs.cli import config_parser, print_config, read_config, run_reported, set_up_logging
from pipelines.train_config import TrainConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    options = config_parser("moos train", __doc__ or "").parse_intermixed_args(argv)

    def job() -> dict[str, Any]:
        config = read_config(TrainConfig, options.arguments)
        if options.print_config:
            print_config(config)
            return {}
        set_up_logging(options.verbose)
        # Imported late: a config error needs neither Ray nor torch.
        from pipelines.train import run_train

        # Ray prints a lost worker's end to stdout, which is for the figures alone.
        with contextlib.redirect_stdout(sys.stderr):
            return run_train(config)

    return run_reported(job, resume_hint="; run the same command again to go on")


if __name__ == "__main__":
    sys.exit(main())
