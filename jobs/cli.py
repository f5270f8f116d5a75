"""The `moos` command: finds the job that a name stands for and runs it."""

import importlib
import sys
from collections.abc import Sequence

from jobs.command import EXIT_USAGE, report_error
from moos.suggestions import suggest

COMMANDS = {
    "compress": "compress a corpus",
    "verify": "check an output against its own promises, without a model",
    "status": "tell how far a run is, from its output alone",
    "show": "show what was kept and dropped, in colour",
    "label": "label words by a teacher, to train on",
    "train": "train a compressor",
    "evaluate": "compare compressors by what a reader still answers",
    "bench": "measure speed, as ratios within one run",
    "completion": "print what completes moos's commands and keys in a shell",
}

EXAMPLES = (
    "moos compress input.path=docs.jsonl output.path=out selection.rate=0.4",
    "moos verify out",
    "moos show out",
)


def usage() -> str:
    """What `moos --help` prints."""
    listing = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    examples = "\n".join(f"  {example}" for example in EXAMPLES)
    return (
        f"usage: moos COMMAND ...\n\ncommands:\n{listing}\n\nexamples:\n{examples}\n\n"
        "`moos COMMAND --help` tells more, `moos --version` the version"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run `moos COMMAND ...` and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else EXIT_USAGE
    name, *rest = arguments
    if name == "--version":
        from moos import __version__

        print(__version__)
        return 0
    if name not in COMMANDS:
        report_error(f"no command {name!r}{_hint(name)}\n\n{usage()}")
        return EXIT_USAGE
    result: int = importlib.import_module(f"jobs.{name}").main(rest)
    return result


def _hint(name: str) -> str:
    if "=" in name or name.endswith((".yaml", ".yml")):
        return f"; the command stands first: moos compress {name}"
    return suggest(name, COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
