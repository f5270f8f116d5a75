"""The `moos` command, and what every job shares: arguments, logging, exit codes, one JSON line."""

import argparse
import importlib
import json
import logging
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from moos.config import load_config
from moos.errors import ConfigError, ModelError, MoosError
from moos.redaction import RedactingFormatter, redact

ConfigT = TypeVar("ConfigT", bound=BaseModel)

COMMANDS = {
    "compress": "compress a corpus",
    "verify": "check an output against its own promises, without a model",
    "show": "show what was kept and dropped, in colour",
    "label": "label words by a teacher, to train on",
    "train": "train a compressor",
    "evaluate": "compare compressors by what a reader still answers",
    "bench": "measure speed, as ratios within one run",
}

EXIT_FAILED = 1
EXIT_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run `moos COMMAND ...` and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    listing = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    usage = f"usage: moos COMMAND ...\n\ncommands:\n{listing}\n\n`moos COMMAND --help` tells more"
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else EXIT_USAGE
    name, *rest = arguments
    if name == "--version":
        from moos import __version__

        print(__version__)
        return 0
    if name not in COMMANDS:
        print(f"error: no command {name!r}\n\n{usage}", file=sys.stderr)
        return EXIT_USAGE
    result: int = importlib.import_module(f"jobs.{name}").main(rest)
    return result


def config_parser(program: str, description: str) -> argparse.ArgumentParser:
    """The arguments of a job that is told by a config: a file, overrides, `--print-config`."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("arguments", nargs="*", metavar="config.yaml | key.path=value")
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved config and stop"
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    return parser


def read_config(cls: type[ConfigT], arguments: Sequence[str]) -> ConfigT:
    """The config of a command line: at most one file, then overrides in order.

    Raises:
        ConfigError: There are two files, or the config is not valid.
    """
    files = [argument for argument in arguments if "=" not in argument]
    if len(files) > 1:
        raise ConfigError(f"one config file at most, got {', '.join(files)}")
    overrides = [argument for argument in arguments if "=" in argument]
    return load_config(cls, files[0] if files else None, overrides)


def print_config(config: BaseModel) -> int:
    """Print a resolved config as YAML."""
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")
    return 0


def run_reported(run: Callable[[], Mapping[str, Any]], *, resume_hint: str = "") -> int:
    """Run a job, print its summary as one JSON line, and turn errors into exit codes.

    SIGTERM, the signal of preemption, ends a job like Ctrl-C: what is committed stays committed.
    """
    try:
        with _terminated_as_interrupted():
            summary = run()
    except (ConfigError, ModelError) as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return EXIT_USAGE
    except (MoosError, OSError) as error:
        # A full disk or a lost connection is nobody's config; what is committed stays committed.
        logging.getLogger(__name__).debug("where it failed", exc_info=error)
        print(f"error: {redact(str(error))}{resume_hint}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print(f"interrupted{resume_hint}", file=sys.stderr)
        return EXIT_FAILED
    if summary:
        print(json.dumps(summary))
    return int(summary.get("exit_code", 0))


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


def set_up_logging(verbose: bool) -> None:
    """Log to stderr: the job's own messages, and other libraries' warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[handler])
    sys.excepthook = _print_traceback
    level = logging.DEBUG if verbose else logging.INFO
    for name in ("moos", "pipelines", "jobs"):
        logging.getLogger(name).setLevel(level)
    # One line for each HTTP request of the hub client is no news.
    logging.getLogger("httpx").setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
