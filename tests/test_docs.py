"""What the documents name exists, and what is generated is up to date."""

import re
from pathlib import Path

import pytest

from jobs.cli import COMMANDS
from moos.checkpoint import read_checkpoint
from moos.checkpoint_files import DEFAULT_DIRECTORY
from moos.config import load_config
from moos.schema import annotation_schema
from pipelines.bench_config import BenchConfig
from pipelines.config import CompressConfig
from pipelines.config_reference import build_reference, first_paragraph
from pipelines.evaluate_config import EvaluateConfig
from pipelines.label_config import LabelConfig
from pipelines.train_config import TrainConfig
from tests.commands import PARSERS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_loads(path):
    if path.name.startswith("train."):
        load_config(TrainConfig, path)
    elif path.name.startswith("label."):
        load_config(LabelConfig, path)
    elif path.name.startswith("evaluate."):
        load_config(EvaluateConfig, path)
    elif path.name.startswith("bench."):
        load_config(BenchConfig, path)
    else:
        load_config(CompressConfig, path, ["input.path=docs", "output.path=out"])


def test_the_config_reference_is_what_the_models_say(monkeypatch):
    monkeypatch.chdir(ROOT)
    written = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    assert written == build_reference(), "run `make config-reference`"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# One. Two\n# goes on.\n#   moos compress\ninput:\n", "One. Two goes on."),
        ("# One; the command:\n#\n# Two.\n", "One; the command."),
        ("# One.\ninput:  # Two.\n", "One."),
    ],
)
def test_a_config_file_is_described_in_whole_sentences(text, told):
    assert first_paragraph(text) == told


def test_every_key_of_the_config_is_described():
    bare = re.findall(r"^\| `([^`]+)` \| `[^`]*` \|  \|$", build_reference(), flags=re.MULTILINE)
    assert bare == []


def test_every_file_that_the_readme_names_exists():
    named = set(re.findall(r"\b(?:configs|moos|pipelines|jobs)/[\w./-]+\w", README))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_command_that_the_readme_names_exists():
    named = set(re.findall(r"\bmoos (\w+) (?:configs|input|output|out|OUTPUT|checkpoint)", README))
    assert named <= set(COMMANDS)
    assert {"label", "train"} <= named
    modules = set(re.findall(r"python -m jobs\.(\w+)", README))
    assert modules <= set(COMMANDS)


def test_every_command_has_a_parser_for_help_and_completion():
    assert set(COMMANDS) <= set(PARSERS)


def test_the_readme_describes_every_added_column():
    for name in annotation_schema("all").names:
        assert f"`{name}`" in README


def test_the_readme_is_short_enough_to_be_read():
    assert len(README.splitlines()) <= 250


def test_the_default_checkpoint_ships_whole_and_small():
    checkpoint = read_checkpoint("default")
    files = list(DEFAULT_DIRECTORY.iterdir())
    assert sum(file.stat().st_size for file in files) <= 30 << 20
    assert checkpoint.moos.training
    assert (DEFAULT_DIRECTORY / "README.md").exists()
