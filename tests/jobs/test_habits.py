"""What people expect of any command: help with examples, quiet, verbose, hints, colours."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cli import EXAMPLES
from pipelines.executors import _paint_for_terminals_only, _ray_level
from tests.commands import PARSERS, check_command

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PARSERS)
def test_every_command_has_help_with_examples_that_work(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = PARSERS[name].format_help()
    examples = re.findall(rf"^moos {name}\b.*?(?=  |$)", text, flags=re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        check_command(example)


def test_the_examples_of_the_whole_work():
    for example in EXAMPLES:
        check_command(example)


@pytest.mark.parametrize("name", PARSERS)
def test_every_command_can_be_quiet_or_verbose_but_not_both(name, capsys):
    assert {"-q, --quiet", "-v, --verbose"} <= set(
        re.findall(r"-\w, --\w+", PARSERS[name].format_help())
    )
    with pytest.raises(SystemExit) as leaving:
        PARSERS[name].parse_args(["--quiet", "--verbose"])
    assert leaving.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_quiet_run_says_nothing_but_its_summary(moos, arguments):
    result = moos("compress", *arguments, "--quiet")
    assert (result.code, result.err) == (0, "")
    assert result.summary["documents"] == 10


def test_a_quiet_run_still_warns(moos, arguments, docs):
    docs.write_text('{"text": "good"}\nbad\n')
    result = moos("compress", *arguments, "-q")
    assert result.code == 3
    assert "over max_quarantined=0.01" in result.err


def test_a_verbose_run_says_where_it_failed(moos, arguments, monkeypatch):
    from moos.errors import MoosError
    from pipelines.work import SplitWorker

    def fail(self, split, report, pieces=None):
        raise MoosError("no luck")

    monkeypatch.setattr(SplitWorker, "work", fail)
    assert "Traceback" not in moos("compress", *arguments).err
    assert "Traceback" in moos("compress", *arguments, "--verbose").err


def test_ray_tells_more_where_moos_does(monkeypatch):
    logger = logging.getLogger("pipelines.executors")
    levels = {}
    for level in (logging.WARNING, logging.INFO, logging.DEBUG):
        monkeypatch.setattr(logger, "level", level)
        logger.manager._clear_cache()
        levels[level] = _ray_level()
    logger.manager._clear_cache()
    assert levels == {
        logging.WARNING: logging.ERROR,
        logging.INFO: logging.WARNING,
        logging.DEBUG: logging.INFO,
    }


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "told"),
    [(False, "", "0"), (True, "1", "0"), (True, "", None)],
)
def test_ray_colours_its_lines_on_terminals_only(is_terminal, no_color, told, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal, raising=False)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.delenv("RAY_COLOR_PREFIX", raising=False)
    _paint_for_terminals_only()
    assert os.environ.get("RAY_COLOR_PREFIX") == told
    monkeypatch.delenv("RAY_COLOR_PREFIX", raising=False)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("compres", "no command 'compres'; did you mean 'compress'?"),
        ("input.path=a", "the command stands first: moos compress input.path=a"),
        ("configs/compress.yaml", "the command stands first: moos compress configs/compress.yaml"),
        ("compress --dryrun", "unrecognized arguments: --dryrun; did you mean '--dry-run'?"),
        ("compress --selection.rate=1", "a key stands without dashes: selection.rate=1"),
        ("verify out --storage-option={}", "did you mean '--storage-options'?"),
        ("compress selection.rat=1", "did you mean 'rate'?"),
        ("compress rate=0.5", "did you mean 'selection.rate'?"),
        ("compress path=a", "did you mean 'input.path' or 'output.path'?"),
        ("compress executor=locl", "did you mean 'local'?"),
        ("compress selection.protect=[number]", "did you mean 'numbers'?"),
        (
            "compress pool.replicas=atuo",
            "pool.replicas: Input should be 'auto'; or a valid integer, unable to parse string as "
            "an integer; or a section with the keys min, max (got 'atuo'); did you mean 'auto'?",
        ),
        ("compress pool.replicas.maxx=3", "pool.replicas.maxx: Extra inputs are not permitted"),
        (
            "compress selection.protect_words=Müller",
            "Input should be a list (got 'Müller'); write selection.protect_words=[Müller]\n",
        ),
        ("compress selection.protect_words='a,b'", "Input should be a list (got 'a,b')\n"),
        (
            "compress input=docs.jsonl",
            "input: Input should be a section (got 'docs.jsonl'); did you mean "
            "input.path=docs.jsonl?\n",
        ),
        (
            "compress output.chunks=256",
            "output.chunks: Input should be a section with the keys tokens, overlap (got 256)\n",
        ),
        (
            "label teacher=local",
            "teacher: Input should be a section with the key kind, one of pairs, endpoint, local "
            "(got 'local')\n",
        ),
        ("label teacher.kind=lokal", "did you mean 'local'?"),
        ("evaluate tasks=[{name:a}] retention.pth=a", "did you mean 'path'?"),
        ("compress selection.rate", "'selection.rate' is a key without a value; write selection"),
        ("compress selection.rate 0.5", "'selection.rate' is a key without a value"),
        ("compress configs/compress.yml", "did you mean configs/compress.yaml?"),
        ("compress docs.jsonl", "data is given by a key, such as input.path=docs.jsonl"),
        ("train out/labels/", "data is given by a key, such as data.path=out/labels/"),
        ("compress configs", "configs is no config, which is YAML"),
    ],
)  # fmt: skip
def test_what_was_probably_meant_is_said(line, told, moos, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = moos(*line.split(" "))
    assert (result.code, result.out) == (2, "")
    assert told in result.err
    assert result.err.startswith("error: ")


@pytest.mark.parametrize(
    ("is_terminal", "environment", "begins"),
    [
        (True, {}, "\x1b[1;31merror:"),
        (True, {"NO_COLOR": "1"}, "\x1b[1merror:"),  # bold is no colour
        (True, {"TERM": "dumb"}, "error:"),
        (False, {}, "error:"),
    ],
)
def test_colours_are_for_terminals(is_terminal, environment, begins):
    reading, writing = os.openpty() if is_terminal else os.pipe()
    subprocess.run(
        [sys.executable, "-m", "jobs.cli", "compres"],
        stderr=writing,
        check=False,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "", **environment},
    )
    os.close(writing)
    assert os.read(reading, 100).decode().startswith(begins)
    os.close(reading)
