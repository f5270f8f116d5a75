"""Show what was kept and dropped of documents: in the terminal, or as a page to click in.

moos show OUTPUT                        the first documents of a run
moos show OUTPUT --id ID                the one with this id
moos show OUTPUT --position 0           the first one: positions count from 0
moos show docs.jsonl --rate 0.3         documents of a file, compressed now
moos show notes.txt selection.protect='[]'
echo "Some text." | moos show -
moos show OUTPUT --html page.html       a page with a slider over the rate
moos show OUTPUT --compare 0.25         beside another rate
moos show docs.parquet --compare DIR    beside another checkpoint
moos show s3://bucket/out --storage-options '{"endpoint_url": "https://minio.example.org"}'

Without colours (a pipe, NO_COLOR): [-dropped-] and {protected}.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.command import (
    CommandParser,
    add_storage_options,
    read_storage_options,
    run_reported,
)
from moos.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.show_views import Shown


def run(options: argparse.Namespace, storage_options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find, compress where needed, and show. Imported late: `--help` needs no torch."""
    from pipelines.show_choice import FIRST, Choice
    from pipelines.show_views import ShowRequest, build_views

    if options.chars < 1:
        raise ConfigError(f"--chars must be at least 1, got {options.chars}")
    if options.html is not None and not options.html.parent.is_dir():
        raise ConfigError(f"--html {options.html}: there is no directory {options.html.parent}")
    overrides = list(options.overrides)
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"one SOURCE at a time; {override!r} is no key=value")
    if options.rate is not None:
        overrides.append(f"selection.rate={options.rate}")
    if options.checkpoint is not None:
        overrides.append(f"checkpoint={json.dumps(options.checkpoint)}")
    request = ShowRequest(
        source=options.source,
        choice=Choice(
            id=options.id,
            position=options.position,
            first=FIRST if options.first is None else options.first,
        ),
        storage_options=storage_options,
        overrides=tuple(overrides),
        compare=options.compare,
        with_figures=options.html is not None,
    )
    shown = build_views(request)
    if options.html is not None:
        from pipelines.show_page import write_show_page

        if not shown:
            raise ConfigError(f"{options.source} holds no document to make a page of")
        write_show_page(options.html, shown)
    else:
        print_shown(shown, options)
    return {}


def print_shown(shown: Sequence["Shown"], options: argparse.Namespace) -> None:
    """Print documents to the terminal."""
    from moos.show.terminal import print_view

    in_colour = wants_colour(options.color)
    if not shown:
        print("no document")
    for view, other in shown:
        print_view(
            view,
            other,
            in_colour=in_colour,
            max_chars=None if options.full else options.chars,
            fold=not options.full,
        )


def wants_colour(choice: str) -> bool:
    """Whether to print in colour: `auto` looks at the terminal, `NO_COLOR` and `TERM`."""
    if choice != "auto":
        return choice == "always"
    is_dumb = os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and not is_dumb


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = CommandParser("moos show", __doc__)
    add = parser.add_argument
    add(
        "source",
        metavar="SOURCE",
        help="output.path of a run; a .jsonl or .parquet file (.gz, .zst) or a directory of them; "
        "a text file; - for stdin",
    )
    # A default, so that argparse does not call them required where the source is missing.
    add(
        "overrides",
        nargs="*",
        default=[],
        metavar="key.path=value",
        help="settings as of moos compress",
    )
    add("--id", help="id of the document: input.id_column, or the column id")
    add("--position", type=int, metavar="N", help="place of the document, counted from 0")
    add("--first", type=int, metavar="N", help="how many documents from the beginning (3)")
    add("--rate", help="kept tokens / all tokens, in (0, 1]; same as selection.rate=")
    add("--checkpoint", help="what compresses; same as checkpoint=")
    add("--compare", metavar="RATE_OR_CHECKPOINT", help="mark the differences to another one")
    add("--html", type=Path, metavar="FILE", help="write a page instead")
    add("--chars", type=int, default=4000, metavar="N", help="characters to print (4000)")
    add("--full", action="store_true", help="print everything, long cuts too")
    add("--color", choices=("auto", "always", "never"), default="auto", help="colours")
    add_storage_options(parser, "source")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    parser = build_parser()
    options = parser.read(argv)
    storage_options = read_storage_options(parser, options.storage_options)
    return run_reported(lambda: run(options, storage_options))


if __name__ == "__main__":
    sys.exit(main())
