"""What every command shares: its parser, logging, errors told as exit codes, one JSON line.

Loads no more than argparse does, so that `--help` and shell completion answer at once.
"""

import argparse
import json
import logging
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from moos.errors import ConfigError, DataError, ModelError, MoosError
from moos.redaction import RedactingFormatter, redact
from moos.suggestions import suggest

if TYPE_CHECKING:
    from pydantic import BaseModel

ConfigT = TypeVar("ConfigT", bound="BaseModel")

EXIT_FAILED = 1
EXIT_USAGE = 2

LOGGERS = ("moos", "pipelines", "jobs")


class CommandParser(argparse.ArgumentParser):
    """The arguments of one command, and `--quiet` and `--verbose`, which every command takes.

    Attributes:
        config: The model of the keys that the command takes; None where it takes none.
        subcommands: What builds the parsers of the commands below this one, by their names.
    """

    def __init__(
        self,
        program: str,
        description: str | None,
        *,
        config: "type[BaseModel] | None" = None,
        subcommands: "Mapping[str, Callable[[], CommandParser]] | None" = None,
    ) -> None:
        super().__init__(
            prog=program,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            # What an abbreviation means would change with every new option.
            allow_abbrev=False,
        )
        self.config = config
        self.subcommands = dict(subcommands or {})
        loudness = self.add_mutually_exclusive_group()
        loudness.add_argument(
            "-q", "--quiet", action="store_true", help="only warnings and errors on stderr"
        )
        loudness.add_argument(
            "-v", "--verbose", action="store_true", help="log more, Ray's own lines too"
        )

    @property
    def shown_actions(self) -> list[argparse.Action]:
        """Options and positional arguments as `--help` lists them."""
        return [action for action in self._actions if action.help != argparse.SUPPRESS]

    def read(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse a command line, options anywhere in it, and log as it says."""
        options = self.parse_intermixed_args(argv)
        set_up_logging(quiet=options.quiet, verbose=options.verbose)
        return options

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line and what was probably meant; exit code 2."""
        report_error(f"{message}{self._hint(message)}\n`{self.prog} --help` tells more")
        sys.exit(EXIT_USAGE)

    def _hint(self, message: str) -> str:
        if found := re.search(r"unrecognized arguments: (.*)", message):
            wrong = found[1].split()[0]
            if self.config is not None and re.fullmatch(r"--[\w.]+=.*", wrong):
                return f"; a key stands without dashes: {wrong.removeprefix('--')}"
            return suggest(wrong.partition("=")[0], self._option_string_actions)
        if found := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            return suggest(found[1], re.findall(r"'([^']*)'", found[2]))
        return ""


def config_parser(program: str, description: str, config: "type[BaseModel]") -> CommandParser:
    """The arguments of a command that is told by a config: a file, overrides, `--print-config`."""
    parser = CommandParser(program, description, config=config)
    parser.add_argument("arguments", nargs="*", metavar="config.yaml | key.path=value")
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved config and stop"
    )
    return parser


def output_parser(program: str, description: str | None) -> CommandParser:
    """The arguments of a command that looks at a run's output: where it is, and its filesystem."""
    parser = CommandParser(program, description)
    parser.add_argument("output", help="output.path of a run: a directory or an fsspec URL")
    add_storage_options(parser, "output")
    return parser


def add_storage_options(parser: CommandParser, name: str) -> None:
    """Add `--storage-options`, for the filesystem of what `name` stands for."""
    parser.add_argument(
        "--storage-options", default="{}", help=f"options of the {name}'s filesystem, as JSON"
    )


def read_storage_options(parser: CommandParser, text: str) -> dict[str, Any]:
    """What `--storage-options` holds; exit code 2 where that is not valid, or a secret."""
    from pydantic import ValidationError

    from moos.config_errors import describe_errors
    from pipelines.config import StorageConfig

    try:
        return StorageConfig(storage_options=json.loads(text)).storage_options
    except ValidationError as error:
        parser.error(f"--storage-options is not valid:\n{describe_errors(error)}")
    except ValueError as error:
        parser.error(f"--storage-options is not JSON: {error}")


def read_config(cls: type[ConfigT], arguments: Sequence[str]) -> ConfigT:
    """The config of a command line: at most one file, then overrides in order.

    Raises:
        ConfigError: There are two files, one cannot be read, or the config is not valid.
    """
    from moos.config import load_config

    files = [argument for argument in arguments if "=" not in argument]
    for name in files:
        if name.partition(".")[0] in cls.model_fields and not name.endswith((".yaml", ".yml")):
            raise ConfigError(f"{name!r} is a key without a value; write {name}=VALUE")
    if len(files) > 1:
        raise ConfigError(f"one config file at most, got {', '.join(files)}")
    overrides = [argument for argument in arguments if "=" in argument]
    return load_config(cls, files[0] if files else None, overrides)


def run_config_job(
    parser: CommandParser,
    cls: type[ConfigT],
    run: Callable[[ConfigT, argparse.Namespace], Mapping[str, Any]],
    argv: Sequence[str] | None,
    *,
    resume_hint: str = "",
    defaults: Callable[[argparse.Namespace], Sequence[str]] = lambda options: (),
) -> int:
    """Run a job that is told by a config, or print the config; the exit code.

    Args:
        parser: The command's arguments, made by `config_parser`.
        cls: The config's model.
        run: What is done with the config and the options; its summary.
        argv: The command line; None is the process's own.
        resume_hint: What to say when the job was stopped, by anything but its data.
        defaults: `key=value` settings that options stand for; arguments override them.
    """
    options = parser.read(argv)

    def job() -> Mapping[str, Any]:
        config = read_config(cls, [*defaults(options), *options.arguments])
        if options.print_config:
            print_config(config)
            return {}
        return run(config, options)

    return run_reported(job, resume_hint=resume_hint)


def add_retry_option(parser: CommandParser) -> None:
    """Add `--retry-quarantined` to a command that works a corpus."""
    parser.add_argument(
        "--retry-quarantined",
        action="store_true",
        help="try quarantined records again, and only those, besides what is not done yet",
    )


@contextmanager
def summary_alone(*, executor: str) -> Iterator[None]:
    """Keep stdout for the summary; what else is printed goes to stderr.

    Ray prints what its processes say to stdout, some of it when it leaves, so it leaves in here;
    with it goes what hangs there.
    """
    with redirect_stdout(sys.stderr):
        try:
            yield
        finally:
            if executor == "ray" and "ray" in sys.modules:
                sys.modules["ray"].shutdown()


def print_config(config: "BaseModel") -> None:
    """Print a resolved config as YAML."""
    import yaml

    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")


def run_reported(run: Callable[[], Mapping[str, Any]], *, resume_hint: str = "") -> int:
    """Run a job, print its summary as one JSON line, and turn errors into exit codes.

    SIGTERM, the signal of preemption, ends a job like Ctrl-C: what is committed stays committed.
    """
    try:
        with _terminated_as_interrupted():
            summary = run()
    except (ConfigError, ModelError) as error:
        report_error(str(error))
        return EXIT_USAGE
    except (MoosError, OSError) as error:
        # A full disk or a lost connection is nobody's config; what is committed stays committed.
        logging.getLogger(__name__).debug("where it failed", exc_info=error)
        # The same data is as faulty in another run.
        report_error(f"{error}{'' if isinstance(error, DataError) else resume_hint}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        print(f"interrupted{resume_hint}", file=sys.stderr)
        return EXIT_FAILED
    if summary:
        print(json.dumps(summary))
    return int(summary.get("exit_code", 0))


def report_error(message: str) -> None:
    """Print `error: ...` to stderr, without secrets.

    The word is red on a terminal unless NO_COLOR is set.
    """
    if sys.stderr.isatty():
        from rich.console import Console

        Console(stderr=True).print("error: ", style="bold red", end="")
    else:
        print("error: ", end="", file=sys.stderr)
    print(redact(message), file=sys.stderr)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What Python prints of an error that nobody expected, without secrets."""
    print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def set_up_logging(*, quiet: bool = False, verbose: bool = False) -> None:
    """Log to stderr: the job's own messages, and other libraries' warnings.

    Args:
        quiet: Warnings and errors alone; progress is not shown.
        verbose: What helps to find a fault, and what Ray says about itself.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[handler])
    sys.excepthook = _print_traceback
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    for name in LOGGERS:
        logging.getLogger(name).setLevel(level)
    # One line for each HTTP request of the hub client is no news.
    logging.getLogger("httpx").setLevel(logging.WARNING)
