"""What Tab proposes, and that the shells' scripts ask for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cli import COMMANDS
from jobs.completion import complete
from jobs.completion_scripts import SCRIPTS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def words(line: str) -> list[str]:
    return [candidate.word for candidate in complete(["moos", *line.split(" ")])]


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("co", ["compress", "completion"]),
        ("--v", ["--version"]),
        ("nosuch ", []),
        ("compress --d", ["--dry-run"]),
        ("compress --dry-run --retry", ["--retry-quarantined"]),
        ("compress sel", ["selection."]),
        ("compress selection.ra", ["selection.rate="]),
        ("compress selection.protect_w", ["selection.protect_words="]),
        ("compress executor=", ["executor=ray", "executor=local"]),
        ("compress executor=l", ["executor=local"]),
        ("compress scoring.phrases=", ["scoring.phrases=true", "scoring.phrases=false"]),
        ("compress pool.replicas=", ["pool.replicas=auto"]),
        ("compress selection.protect=[nu", ["selection.protect=[numbers"]),
        ("compress selection.protect=[numbers,u", ["selection.protect=[numbers,urls"]),
        (
            "compress selection.protect=[numbers",
            ["selection.protect=[numbers]", "selection.protect=[numbers,"],
        ),
        ("compress selection.rate=", []),
        ("compress input.path=configs/demo/a", ["input.path=configs/demo/articles.jsonl"]),
        ("compress configs/compress.b", ["configs/compress.budget.yaml"]),
        ("compress configs/demo/art", []),  # data is no config
        ("compress nosuch/", []),
        ("label teacher.k", ["teacher.kind="]),
        ("label teacher.kind=e", ["teacher.kind=endpoint"]),
        ("train workers.use_gpu=t", ["workers.use_gpu=true"]),
        ("bench ", ["compress", "loss"]),
        ("bench compress roun", ["rounds="]),
        ("bench speed roun", []),
        ("bench loss --qu", ["--quiet"]),
        ("verify configs/demo/meet", ["configs/demo/meetings.parquet"]),
        ("completion f", ["fish"]),
    ],
)  # fmt: skip
def test_candidates(line, candidates):
    assert words(line) == candidates


def test_before_anything_is_typed_all_commands_are_proposed():
    assert words("")[: len(COMMANDS)] == list(COMMANDS)


def test_every_key_can_be_reached_part_by_part():
    from moos.config_keys import iterate_keys
    from pipelines.config import CompressConfig

    reached, todo = set(), [""]
    while todo:
        for word in words(f"compress {todo.pop()}"):
            if word.endswith("."):
                todo.append(word)
            elif word.endswith("="):
                reached.add(word.removesuffix("="))
    assert reached == {key.name for key in iterate_keys(CompressConfig)}


def test_candidates_are_described():
    (found,) = complete(["moos", "compress", "executor"])
    assert "`local` needs no Ray" in found.description


def test_candidates_come_without_loading_what_is_slow():
    script = (
        "import sys\nfrom jobs.cli import main\n"
        "main(['completion', '--words', 'moos', *sys.argv[1:]])\n"
        "slow = {'ray', 'torch', 'numpy', 'pyarrow', 'transformers', 'fsspec', 'pydantic'}\n"
        "print(*sorted(slow & set(sys.modules)), file=sys.stderr)"
    )
    for line, loaded in ((["comp"], ""), (["compress", "selection.ra"], "pydantic")):
        done = subprocess.run(
            [sys.executable, "-c", script, *line], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(line[-1])
        assert done.stderr.strip() == loaded


def test_a_shell_that_is_not_known_is_exit_code_2(moos):
    assert "which shell? One of bash, zsh, fish" in moos("completion").err
    result = moos("completion", "bsh")
    assert (result.code, result.out) == (2, "")
    assert "did you mean 'bash'?" in result.err


ASK = {
    "bash": 'COMP_LINE="$line" COMP_POINT=${#line}; _moos moos; printf "%s\\n" "${COMPREPLY[@]}"',
    "fish": 'complete -C "$line"',
}


@pytest.mark.parametrize(
    ("shell", "line", "answer"),
    [
        ("bash", "moos compress executor=lo", "local"),  # readline keeps what is before the =
        ("bash", "moos --ver", "--version"),
        ("fish", "moos compress executor=lo", "executor=local"),
    ],
)
def test_a_shell_shows_what_moos_proposes(shell, line, answer, moos, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    command = tmp_path / "moos"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m jobs.cli "$@"\n')
    command.chmod(0o755)
    script = tmp_path / "script"
    script.write_text(moos("completion", shell).out)
    setting = f"set line '{line}'" if shell == "fish" else f"line='{line}'"
    done = subprocess.run(
        [shell, "-c", f"source {script}; {setting}; {ASK[shell]}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
    )
    proposed = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert proposed == [answer]


@pytest.mark.parametrize("shell", list(SCRIPTS))
def test_each_script_is_valid_in_its_shell(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    path = tmp_path / "script"
    path.write_text(SCRIPTS[shell])
    done = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
