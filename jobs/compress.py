"""Compress every document of a corpus and write it with what was kept.

moos compress input.path=docs.jsonl output.path=out
moos compress configs/compress.yaml selection.rate=0.4 --dry-run

Run the same command again to resume. Exit codes: 0 complete, 1 incomplete (run again), 2 config or
usage, 3 complete but too many records quarantined, or a damaged file.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.command import (
    CommandParser,
    add_retry_option,
    config_parser,
    run_config_job,
    summary_alone,
)
from pipelines.config import CompressConfig


def run(
    config: CompressConfig, *, dry_run: bool = False, retry_quarantined: bool = False
) -> Mapping[str, Any]:
    """Run the pipeline. Imported late: `--help` and config errors need neither Ray nor torch."""
    from pipelines.compress import describe_plan, prepare_compress, run_compress

    if dry_run:
        return describe_plan(prepare_compress(config))
    with summary_alone(executor=config.executor):
        return run_compress(config, retry_quarantined=retry_quarantined)


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = config_parser("moos compress", __doc__ or "", CompressConfig)
    parser.add_argument("--dry-run", action="store_true", help="plan, check, write nothing")
    add_retry_option(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_config_job(
        build_parser(),
        CompressConfig,
        lambda config, options: run(
            config, dry_run=options.dry_run, retry_quarantined=options.retry_quarantined
        ),
        argv,
        resume_hint="\nrun the same command again to resume",
    )


if __name__ == "__main__":
    sys.exit(main())
