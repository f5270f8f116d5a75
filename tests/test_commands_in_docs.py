"""Every command and snippet of the documents is run, or at least read as the command reads it."""

import ast
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.cli import main
from moos import Compressor
from moos.integrations import passages
from tests.commands import PARSERS, check_command

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("*.md", "configs/**/*.md", "moos/**/*.md", "tests/**/*.md")
PLACEHOLDERS = {"B": "0.1", "S": "0", "N": "5", "R": "0.5"}
"""What a capital stands for behind `=`; longer names (MODEL, BASE, DIR) are paths as they are."""


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("\\\n", " ")


def documents() -> list[Path]:
    found = {path for pattern in DOCUMENTS for path in ROOT.glob(pattern)}
    hidden = {"out", "CHANGELOG.md"}
    return sorted(
        path
        for path in found
        if not any(part in hidden or part.startswith(".") for part in path.relative_to(ROOT).parts)
    )


def shell_lines(text: str) -> Iterator[str]:
    """The lines of shell blocks and of indented ones that begin with a command, less comments."""
    for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
        yield from (line.strip() for line in block.splitlines())
    yield from (
        line.strip() for line in re.findall(r"^    (?:moos|python|make|pip) .*$", text, re.M)
    )


def commands(text: str) -> Iterator[str]:
    """Every `moos COMMAND ...` of a document, in blocks and within sentences."""
    for line in shell_lines(text):
        yield from re.findall(r"(?:^|-- +|&& )(moos [a-z]+(?![\w=]).*)$", line)
    flat = re.sub(r"```.*?```", "", text, flags=re.DOTALL).replace("\n", " ")
    yield from re.findall(r"`(moos [a-z]+(?![\w=])[^`]*)`", flat)


def in_configs() -> Iterator[tuple[str, str]]:
    """The command lines in the comments at the head of each config."""
    start = re.compile(r"^#\s+(?:ray job submit .*-- )?((?:moos |python -m jobs\.)\w+ .*)$", re.M)
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        text = re.sub(r"\\\n#\s*", "", path.read_text(encoding="utf-8"))
        for command in start.findall(text):
            yield path.name, command.replace("python -m jobs.", "moos ")


def fill(words: list[str]) -> list[str]:
    """A command line with a value for each placeholder, and the keys that a fragment leaves out."""
    words = [re.sub(r"=(\.\.\.|…)$", "=x", word) for word in words if word not in ("...", "…")]
    words = [re.sub(r"=([A-Z])$", lambda name: f"={PLACEHOLDERS[name[1]]}", word) for word in words]
    is_whole = any(word.endswith(".yaml") or word.startswith("input.path=") for word in words)
    if words[1] == "compress" and not is_whole:
        words += ["input.path=docs", "output.path=out"]
    return words


FOUND = [(p.relative_to(ROOT).as_posix(), c) for p in documents() for c in commands(read(p))]


@pytest.mark.parametrize(
    ("document", "command"),
    list(dict.fromkeys([*FOUND, *in_configs()])),
    ids=lambda value: value[:60],
)
def test_every_command_is_valid(document, command, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command, comments=True)
    if len(words) == 2:  # a command's name
        assert words[1] in PARSERS
        return
    check_command(shlex.join(fill(words)))


def test_commands_are_found():
    assert len(FOUND) > 40
    assert ("README.md", "moos verify out/docs") in FOUND


def lines_that_begin(program: str) -> list[str]:
    lines = [line for path in documents() for line in shell_lines(read(path))]
    return list(dict.fromkeys(line for line in lines if line.startswith(f"{program} ")))


def test_make_targets_that_are_named_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = {line.split()[1] for line in lines_that_begin("make")}
    named |= {
        target for path in documents() for target in re.findall(r"`make ([a-z-]+)", read(path))
    }
    assert {"demo", "test"} <= named <= set(targets)


def test_extras_that_are_named_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = "".join(read(path) for path in documents())
    named = set(re.findall(r"pip install '?(?:\.|moos)\[([\w,-]+)\]", text))
    assert {"train", "s3"} <= {extra for extras in named for extra in extras.split(",")}
    extras = {extra for extras in named for extra in extras.split(",")}
    assert extras <= set(project["optional-dependencies"])


def test_modules_and_scripts_that_are_run_exist():
    text = "\n".join(read(path) for path in documents())
    modules = set(re.findall(r"python -m ([\w.]+)", text)) - {"pip", "venv", "http.server"}
    assert modules
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
    scripts = set(re.findall(r"python ([\w/]+\.py)", text))
    assert [name for name in scripts if not (ROOT / name).exists()] == []


def snippets() -> list[str]:
    return re.findall(r"```python\n(.*?)```", read(ROOT / "README.md"), flags=re.DOTALL)


def missing_packages(code: str) -> list[str]:
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return [name for name in sorted(names) if importlib.util.find_spec(name) is None]


def test_the_python_of_the_readme_runs(tmp_path, tiny_checkpoint, monkeypatch):
    """In order, beside an output as the commands before it make one; optional packages aside."""
    monkeypatch.chdir(tmp_path)
    text = "The committee met on Tuesday and decided nothing. Invoice 4711 is due. " * 4
    records = [{"id": f"q{number}", "text": text} for number in range(3)]
    Path("docs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    arguments = ("executor=local", "engine=torch", f"checkpoint={tiny_checkpoint}")
    paths = ("input.path=docs.jsonl", "output.path=out/docs")
    assert main(["compress", *paths, *arguments]) == 0
    load = Compressor.load
    tiny = lambda name="default", **settings: load(tiny_checkpoint, engine="torch")  # noqa: E731
    monkeypatch.setattr(Compressor, "load", tiny)
    scope = {"text": text, "question": "What was decided?"}
    if importlib.util.find_spec("langchain_core"):
        from langchain_core.documents import Document

        monkeypatch.setattr(passages, "_loaded", {})
        scope["documents"] = [Document(page_content=text)]
    ran = 0
    for code in snippets():
        compiled = compile(code, "README.md", "exec")
        if "moos.integrations" in code and "documents" not in scope:
            continue
        if not missing_packages(code):
            exec(compiled, scope)
            ran += 1
    assert ran >= 2
    assert scope["document"].text == scope["render"](text, scope["document"].spans)


def test_the_module_form_of_a_command_works():
    """`python -m jobs.compress`, as `ray job submit` may name it."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.completion", "--words", "moos", "verif"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.startswith("verify\t")
