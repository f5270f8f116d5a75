"""Evaluate compressors side by side: what a reader still answers, what is lost, what is saved.

moos evaluate configs/evaluate.smoke.yaml output.path=out/evaluate
moos evaluate configs/evaluate.local.yaml reader.path=MODEL output.path=out/evaluate
moos evaluate configs/evaluate.local.yaml reader.path=MODEL rates=[0.25] --dry-run

OUT/report.html shows the run, OUT/results.jsonl every answer. Run the same command again to
resume; with another method, rate or task it does only what is new. Progress goes to stderr, one
JSON line to stdout. Exit codes: 0 complete, 1 incomplete (run again), 2 config or usage.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.command import CommandParser, config_parser, run_config_job
from pipelines.evaluate_config import EvaluateConfig


def run(config: EvaluateConfig, *, command: str, dry_run: bool = False) -> Mapping[str, Any]:
    """Run the pipeline. Imported late: `--help` and config errors need no torch."""
    if dry_run:
        from pipelines.evaluate_plan import describe_evaluate, prepare_evaluate

        return describe_evaluate(prepare_evaluate(config))
    from pipelines.evaluate import run_evaluate

    return run_evaluate(config, command=command)


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = config_parser("moos evaluate", __doc__ or "", EvaluateConfig)
    parser.add_argument(
        "--dry-run", action="store_true", help="count what is to do; load no model, write nothing"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_config_job(
        build_parser(),
        EvaluateConfig,
        lambda config, options: run(
            config,
            command=shlex.join(["moos", "evaluate", *options.arguments]),
            dry_run=options.dry_run,
        ),
        argv,
        resume_hint="; run the same command again to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
