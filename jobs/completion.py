"""Print what completes moos's commands, options, config files and keys in a shell.

moos completion bash
moos completion zsh
moos completion fish

Load it where the shell starts: `eval "$(moos completion bash)"` in ~/.bashrc,
`eval "$(moos completion zsh)"` in ~/.zshrc below compinit, `moos completion fish | source` in
~/.config/fish/config.fish. Keys complete part by part with the values that they allow.
"""

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jobs.cli import COMMANDS
from jobs.command import CommandParser
from jobs.completion_scripts import SCRIPTS

CONFIG_SUFFIXES = (".yaml", ".yml")


class Candidate(NamedTuple):
    """A word that could stand at the cursor, and what it is for.

    One that ends in `.`, `=`, `/` or `,`, or holds an open `[`, is not the whole word yet.
    """

    word: str
    description: str = ""


def complete(words: Sequence[str]) -> list[Candidate]:
    """What may stand in place of the last of `words`, which begin with `moos`."""
    _, *rest = words
    if len(rest) == 1:
        known = [*COMMANDS.items(), ("--help", "show help"), ("--version", "show the version")]
        return [Candidate(*pair) for pair in known if pair[0].startswith(rest[0])]
    if not rest or rest[0] not in COMMANDS:
        return []
    # Only this command's module is loaded, and no module of a command loads torch or Ray.
    parser: CommandParser = importlib.import_module(f"jobs.{rest.pop(0)}").build_parser()
    while parser.subcommands and len(rest) > 1:
        if rest[0] not in parser.subcommands:
            return []
        parser = parser.subcommands[rest.pop(0)]()
    return [*_complete_argument(parser, rest[-1], rest[-2] if len(rest) > 1 else "")]


def _complete_argument(parser: CommandParser, word: str, before: str) -> Iterator[Candidate]:
    """An option, the value of the option before it, or what else the command takes."""
    options = {name: action for action in parser.shown_actions for name in action.option_strings}
    if before in options and options[before].nargs != 0:
        yield from _complete_value(options[before], word)
    elif word.startswith("-"):
        for name, action in options.items():
            if name.startswith(word if len(word) > 1 else "--"):
                yield Candidate(name, action.help or "")
    elif parser.config is not None:
        yield from _complete_setting(parser, word)
    else:
        for action in parser.shown_actions:
            if not action.option_strings:
                yield from _complete_value(action, word)


def _complete_value(action: argparse.Action, word: str) -> Iterator[Candidate]:
    if action.choices is not None:
        yield from (Candidate(name) for name in action.choices if name.startswith(word))
    elif action.type not in (int, float):
        yield from _files(word)


def _complete_setting(parser: CommandParser, word: str) -> Iterator[Candidate]:
    """A config file, the next part of a key, or the value of one."""
    from moos.config_keys import iterate_keys

    assert parser.config is not None
    name, equals, value = word.partition("=")
    keys = [key for key in iterate_keys(parser.config) if "[]" not in key.name]
    if equals:
        # A key that several members of a union have is listed once for each.
        found = [key for key in keys if key.name == name]
        choices = list(dict.fromkeys(choice for key in found for choice in key.choices))
        if any(key.is_list for key in found) and choices:
            yield from _complete_list(name, value, choices)
        elif choices:
            yield from (Candidate(f"{name}={c}") for c in choices if c.startswith(value))
        elif any(key.is_text for key in found):
            yield from (Candidate(f"{name}={file}") for file, _ in _files(value))
        return
    yield from _files(word, CONFIG_SUFFIXES)
    parts: dict[str, str] = {}
    for key in keys:
        if key.name.startswith(word):
            head, dot, _ = key.name[len(word) :].partition(".")
            part = f"{word}{head}{dot or '='}"
            parts.setdefault(part, "" if dot else f"{key.condition}{key.description}")
    yield from (Candidate(part, text) for part, text in parts.items())


def _complete_list(name: str, value: str, choices: Sequence[str]) -> Iterator[Candidate]:
    """`[` and its elements one by one, each once, then `]`."""
    head, _, last = value.removeprefix("[").rpartition(",")
    taken = head.split(",") if head else []
    if last in choices:
        yield Candidate(f"{name}={value}]")
        yield Candidate(f"{name}={value},")
        return
    before = "".join(f"{element}," for element in taken)
    for choice in choices:
        if choice.startswith(last) and choice not in taken:
            yield Candidate(f"{name}=[{before}{choice}")


def _files(word: str, suffixes: tuple[str, ...] = ()) -> Iterator[Candidate]:
    """Directories, and files with one of the suffixes if there are any, that begin with `word`."""
    head, slash, start = word.rpartition("/")
    directory = Path(head + slash).expanduser()
    if not directory.is_dir():
        return
    try:
        found = sorted(directory.iterdir())
    except OSError:
        return  # What may not be listed is not proposed.
    for path in found:
        if path.name.startswith(start) and (start or not path.name.startswith(".")):
            if path.is_dir():
                yield Candidate(f"{head}{slash}{path.name}/")
            elif not suffixes or path.name.endswith(suffixes):
                yield Candidate(f"{head}{slash}{path.name}")


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = CommandParser("moos completion", __doc__)
    parser.add_argument("shell", choices=list(SCRIPTS), nargs="?")
    # What the scripts call; its arguments are a command line's words up to the cursor.
    parser.add_argument("--words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print a script, or the candidates for a command line, and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--words"]:
        for word, description in complete(arguments[1:]):
            print(f"{word}\t{' '.join(description.split())}")
        return 0
    parser = build_parser()
    options = parser.read(arguments)
    if options.shell is None:
        parser.error(f"which shell? One of {', '.join(SCRIPTS)}")
    print(SCRIPTS[options.shell], end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
