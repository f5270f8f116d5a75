"""Label every word of a corpus by a teacher, for `moos train` to learn from.

moos label input.path=pairs.jsonl teacher.kind=pairs teacher.name=gpt-4 output.path=out/labels
moos label configs/label.local.yaml input.path=docs.jsonl teacher.path=MODEL output.path=out/labels
moos label configs/label.endpoint.yaml input.path=docs.jsonl teacher.url=http://host:8000/v1

OUT/report.html shows what was labelled; `moos train data.path=OUT` learns from it. Run the same
command again to resume. Exit codes: 0 complete, 1 incomplete (run again), 2 config or usage, 3
complete but too many records quarantined, or a damaged file.
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
from pipelines.label_config import LabelConfig


def run(
    config: LabelConfig, *, dry_run: bool = False, retry_quarantined: bool = False
) -> Mapping[str, Any]:
    """Run the pipeline. Imported late: `--help` and config errors need neither Ray nor torch."""
    from pipelines.label import prepare_label, run_label

    if dry_run:
        return prepare_label(config).describe()
    with summary_alone(executor=config.executor):
        return run_label(config, retry_quarantined=retry_quarantined)


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = config_parser("moos label", __doc__ or "", LabelConfig)
    parser.add_argument(
        "--dry-run", action="store_true", help="plan, check, write nothing but a staged dataset"
    )
    add_retry_option(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    return run_config_job(
        build_parser(),
        LabelConfig,
        lambda config, options: run(
            config, dry_run=options.dry_run, retry_quarantined=options.retry_quarantined
        ),
        argv,
        resume_hint="\nrun the same command again to resume",
    )


if __name__ == "__main__":
    sys.exit(main())
