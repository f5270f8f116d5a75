"""Check an output against its own promises, without a model.

moos verify out
moos verify s3://bucket/out --storage-options '{"endpoint_url": "https://minio.example.org"}'

Says which file, row and promise failed. Exit codes: 0 all promises hold, 1 one is broken, 2 there
is no complete run at OUTPUT.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.command import (
    EXIT_FAILED,
    CommandParser,
    output_parser,
    read_storage_options,
    run_reported,
)


def run(path: str, options: dict[str, Any]) -> Mapping[str, Any]:
    """Verify an output; broken promises go to stderr."""
    from pipelines.verify import verify_output

    findings = verify_output(path, options)
    for line in findings.broken:
        print(f"broken: {line}", file=sys.stderr)
    if findings.num_broken > len(findings.broken):
        print(f"... and {findings.num_broken - len(findings.broken)} more", file=sys.stderr)
    if findings.splits_without_source:
        print(
            f"{findings.splits_without_source} splits were not compared with their source: it is "
            "gone or has changed since the run",
            file=sys.stderr,
        )
    return {
        "status": "broken" if findings.num_broken else "verified",
        "exit_code": EXIT_FAILED if findings.num_broken else 0,
        "output": path,
        "broken": findings.num_broken,
        "files": findings.files,
        "documents": findings.documents,
        "quarantined": findings.quarantined,
        "splits_checked_against_source": findings.splits_checked_against_source,
        "splits_without_source": findings.splits_without_source,
    }


def build_parser() -> CommandParser:
    """The command's arguments."""
    return output_parser("moos verify", __doc__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    parser = build_parser()
    options = parser.read(argv)
    storage_options = read_storage_options(parser, options.storage_options)
    return run_reported(lambda: run(options.output, storage_options))


if __name__ == "__main__":
    sys.exit(main())
