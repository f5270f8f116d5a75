"""Fixtures of commands: input files, and `moos` run in this process."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from jobs.cli import main


@contextmanager
def own_logging() -> Iterator[None]:
    """Logging as in a process of the command's own: to its stderr, and gone afterwards."""
    root = logging.getLogger()
    handlers, root.handlers[:] = root.handlers[:], []
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for name in ("moos", "pipelines", "jobs", "httpx"):
            logging.getLogger(name).setLevel(logging.NOTSET)


class Result:
    """What a command did: its exit code, its output, and the one JSON line of it."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def summary(self):
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        return json.loads(lines[0])


@pytest.fixture
def moos(capsys):
    """`moos("compress", "input.path=...")`: run a command; its exit code and what it printed."""

    def run(*arguments) -> Result:
        capsys.readouterr()
        try:
            with own_logging():
                code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:  # argparse
            code = leaving.code
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def run_moos():
    """`moos` for fixtures that outlive a test, which `capsys` does not."""

    def run(*arguments) -> Result:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), own_logging():
            code = main([str(argument) for argument in arguments])
        return Result(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def docs(tmp_path) -> Path:
    """Ten short records, one of them with an id that is no string."""
    path = tmp_path / "docs.jsonl"
    records = [
        {"id": i, "text": f"Document {i} is not long. It holds 3.5 words."} for i in range(10)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def arguments(docs, tmp_path, tiny_checkpoint) -> list[str]:
    """The arguments of a run that works."""
    return [
        f"input.path={docs}",
        f"output.path={tmp_path / 'out'}",
        f"checkpoint={tiny_checkpoint}",
        "executor=local",
        "pool.cpus_per_replica=1",
    ]
