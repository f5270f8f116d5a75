"""Compress every document of a corpus and write it with what was kept.

moos compress input.path=docs.jsonl output.path=out
moos compress configs/compress.yaml selection.rate=0.4 --dry-run

Run the same command again to resume. Exit codes: 0 complete, 1 incomplete (run again), 2 config or
usage, 3 complete but too many records quarantined, or a damaged file.
"""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.cli import (
    EXIT_USAGE,
    config_parser,
    print_config,
    read_config,
    run_reported,
    set_up_logging,
)
from moos.errors import ConfigError
from moos.redaction import redact
from pipelines.config import CompressConfig


def run(
    config: CompressConfig, *, dry_run: bool = False, retry_quarantined: bool = False
) -> Mapping[str, Any]:
    """Run the pipeline. Imported late: `--help` and config errors need neither Ray nor torch."""
    from pipelines.compress import describe_plan, prepare_compress, run_compress

    if dry_run:
        return describe_plan(prepare_compress(config))
    # Ray prints what its processes say to stdout, some of it when it leaves; the summary stands
    # there alone.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            return run_compress(config, retry_quarantined=retry_quarantined)
        finally:
            if config.executor == "ray" and "ray" in sys.modules:
                sys.modules["ray"].shutdown()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    parser = config_parser("moos compress", __doc__ or "")
    parser.add_argument("--dry-run", action="store_true", help="plan, check, write nothing")
    parser.add_argument(
        "--retry-quarantined",
        action="store_true",
        help="try quarantined records again, and only those, besides what is not done yet",
    )
    options = parser.parse_intermixed_args(argv)
    set_up_logging(options.verbose)
    try:
        config = read_config(CompressConfig, options.arguments)
    except ConfigError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return EXIT_USAGE
    if options.print_config:
        return print_config(config)
    hint = "\nrun the same command again to resume"
    return run_reported(
        lambda: run(config, dry_run=options.dry_run, retry_quarantined=options.retry_quarantined),
        resume_hint=hint,
    )


if __name__ == "__main__":
    sys.exit(main())
