"""What the guides say is so: quoted messages, keys, commands, snippets, pictures."""

import ast
import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from moos import Compressor, ConfigError
from moos.config import load_config
from moos.config_keys import iterate_keys
from pipelines.config import CompressConfig
from pipelines.label_config import LabelConfig
from pipelines.train_config import TrainConfig
from tests.commands import PARSERS, check_command

ROOT = Path(__file__).parents[1]
GUIDES = ("TROUBLESHOOTING.md", "MIGRATION.md", "OBSERVABILITY.md", "cluster/README.md")
BASES = {
    CompressConfig: ["input.path=a", "output.path=b"],
    LabelConfig: ["input.path=a", "output.path=b", "teacher.kind=local", "teacher.path=c"],
    TrainConfig: ["data.path=a", "output.path=b", "training.base=c", "training.base_name=d"],
}
CODE = re.compile(r"`([^`]+)`")


def read(name: str) -> str:
    return (ROOT / "configs" / name).read_text(encoding="utf-8")


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each row of each table, without headings."""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith(("| what you see", "| code")):
            yield [cell.strip() for cell in line.strip("| ").split(" | ")]


@cache
def strings() -> list[str]:
    """Every string of the code, with a mark where a value is put in."""
    found = []
    for package in ("moos", "pipelines", "jobs"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [p.value if isinstance(p, ast.Constant) else "\0" for p in node.values]
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


def is_printed(message: str) -> bool:
    """Whether a string of the code holds the parts of a message, in order."""
    pattern = re.compile(".*".join(map(re.escape, message.split("..."))), re.DOTALL)
    return any(pattern.search(string) for string in strings())


def quoted_messages() -> list[str]:
    return [
        message
        for row in rows(read("TROUBLESHOOTING.md"))
        if not row[0].endswith("from Ray")
        for message in CODE.findall(row[0])
        if " " in message
    ]


def test_every_message_that_is_quoted_is_one_that_moos_prints():
    with pytest.raises(ConfigError) as unknown:
        load_config(CompressConfig, None, ["nosuch=1"])
    messages = quoted_messages()
    assert len(messages) > 50
    missing = [message for message in messages if not is_printed(message)]
    assert [message for message in missing if message not in str(unknown.value)] == []


def test_a_message_that_moos_does_not_print_is_found_out():
    assert not is_printed("another run is sleeping on output.path")
    assert not is_printed("node(s), whose labels are ... fit none of the")


def settings(cell: str) -> list[str]:
    """Every `key=value` of a cell."""
    parts = [
        part for code in CODE.findall(cell) for part in shlex.split(code.replace("\\", "\\\\"))
    ]
    return [part for part in parts if re.match(r"[a-z_]+(\.[a-z_]+)*=", part)]


ADVICE = [
    setting
    for name in ("TROUBLESHOOTING.md", "MIGRATION.md")
    for row in rows(read(name))
    for cell in row[1:]
    for setting in settings(cell)
    if "." in setting.partition("=")[0] or setting.startswith(("checkpoint=", "executor="))
]


@pytest.mark.parametrize("setting", dict.fromkeys(ADVICE))
def test_every_setting_that_is_advised_is_valid(setting):
    key = setting.partition("=")[0]
    of = [cls for cls in BASES if key in {k.name for k in iterate_keys(cls)}]
    assert of, f"{key} is no key"
    load_config(of[0], None, [*BASES[of[0]], setting.replace("=N", "=5").replace("=R", "=0.5")])


@pytest.mark.parametrize("name", GUIDES)
def test_every_key_that_is_named_exists(name):
    keys = {key.name for cls in BASES for key in iterate_keys(cls)}
    groups = {key.partition(".")[0] for key in keys if "." in key}
    named = {
        code
        for code in CODE.findall(read(name))
        if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", code)
        and code.partition(".")[0] in groups
        and not code.endswith(".html")
    }
    assert named - keys == set()


@pytest.mark.parametrize("name", GUIDES)
def test_every_file_that_is_named_exists(name):
    text = read(name)
    linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)}
    assert [
        link for link in linked if not (ROOT / "configs" / name).parent.joinpath(link).exists()
    ] == []
    named = set(re.findall(r"(?<![\w/])configs/[\w./-]+\w", text))
    assert [path for path in named if not (ROOT / path).exists()] == []


def commands() -> Iterator[str]:
    for name in GUIDES:
        text = read(name).replace("\\\n", " ")
        found = [code for code in CODE.findall(text.replace("\n", " ")) if code.startswith("moos ")]
        found += re.findall(r"^.*?-- +(moos .*)$", text, flags=re.MULTILINE)
        yield from (command for command in found if "..." not in command)


@pytest.mark.parametrize("command", list(dict.fromkeys(commands())))
def test_every_command_is_valid(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    _, name, *arguments = shlex.split(command)
    if not arguments:
        assert name in PARSERS
        return
    check_command(command)


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", read(name), flags=re.DOTALL)


def test_the_code_after_migrating_runs(tiny_checkpoint, monkeypatch):
    before, after = blocks("MIGRATION.md")
    compile(before, "before", "exec")
    load = Compressor.load
    monkeypatch.setattr(Compressor, "load", lambda name: load(tiny_checkpoint, engine="torch"))
    text = "Herr Müller met the committee in Q3 and decided nothing. " * 5
    scope = {"text": text}
    exec(compile(after, "after", "exec"), scope)
    assert 0 < len(scope["compressed"]) < len(text)
    assert scope["compressed"].count("Müller") == 5
    kept = [word for word, is_kept in scope["labels"] if is_kept]
    assert {"Müller", "Q3"} <= set(kept)


ARGUMENTS = {  # of compress_prompt_llmlingua2, llmlingua 0.2.2
    "context", "rate", "target_token", "use_context_level_filter", "use_token_level_filter",
    "target_context", "context_level_rate", "context_level_target_token", "force_context_ids",
    "return_word_label", "word_sep", "label_sep", "token_to_word", "force_tokens",
    "force_reserve_digit", "drop_consecutive", "chunk_end_tokens",
}  # fmt: skip


def test_every_argument_of_llmlingua2_is_in_the_table():
    table = read("MIGRATION.md").partition("## Arguments")[2].partition("| `PromptCompressor`")[0]
    named = {
        re.match(r"\w+", code)[0]
        for row in rows(table)
        if row[0] != "`compress_prompt_llmlingua2`"
        for code in CODE.findall(row[0])
    }
    assert named == ARGUMENTS


def test_the_arguments_are_those_of_the_package():
    llmlingua = pytest.importorskip("llmlingua")
    import inspect

    method = llmlingua.PromptCompressor.compress_prompt_llmlingua2
    assert set(inspect.signature(method).parameters) - {"self"} == ARGUMENTS


def test_the_picture_of_over_smoothing_is_what_the_table_says():
    import importlib.util

    path = ROOT / "configs/train/plot_over_smoothing.py"
    spec = importlib.util.spec_from_file_location("plot_over_smoothing", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table = module.read_table(read("train/README.md"))
    assert [len(values) for values in table.values()] == [7, 7]
    assert module.draw(table) == read("train/over-smoothing.svg")
    with pytest.raises(ValueError, match="lacks rows"):
        module.read_table("| 0.1 | 0.9 |")


@pytest.mark.parametrize("name", ["flow.svg", "train/over-smoothing.svg"])
def test_pictures_are_readable_anywhere_and_described(name):
    root = ET.fromstring(read(name))
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}rect").get("fill") == "#ffffff"
    assert root.find(f"{space}title").text
    assert len(root.find(f"{space}desc").text) > 100
