"""Command lines of help texts and guides, read as the commands themselves read them."""

import importlib
import shlex

from jobs.cli import COMMANDS
from jobs.command import CommandParser, read_config


def all_parsers() -> dict[str, CommandParser]:
    """Each command's parser by what one types, those below `moos bench` too."""
    parsers = {}
    for name in COMMANDS:
        parsers[name] = parser = importlib.import_module(f"jobs.{name}").build_parser()
        for below, build in parser.subcommands.items():
            parsers[f"{name} {below}"] = build()
    return parsers


PARSERS = all_parsers()


def check_command(line: str) -> None:
    """Parse `moos COMMAND ...`, and read the config that it gives.

    Raises:
        SystemExit: The command line is not valid.
        ConfigError: The config is not valid, or its file is missing.
    """
    program, name, *arguments = shlex.split(line, comments=True)
    assert program == "moos"
    if PARSERS[name].subcommands and arguments[:1] != ["--help"]:
        name = f"{name} {arguments.pop(0)}"
    options = PARSERS[name].parse_intermixed_args(arguments)
    if (config := PARSERS[name].config) is not None:
        read_config(config, options.arguments)
