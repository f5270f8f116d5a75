"""A program that uses moos as it is installed sees its types (PEP 561)."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """\
from moos import Compressor, render

compressor = Compressor.load("default")
reveal_type(compressor.compress("text", rate=0.5).spans)
reveal_type(compressor.compress(["one", "two"]))
reveal_type(render("text", [(0, 4)]))
"""


def test_the_marker_is_packaged():
    assert (ROOT / "moos" / "py.typed").is_file()
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "py.typed" in setuptools["package-data"]["moos"]


@pytest.mark.slow
def test_mypy_sees_the_types_of_the_wheel(tmp_path):
    pytest.importorskip("mypy")
    source = tmp_path / "source"
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "moos", "pipelines", "jobs"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, source], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    python = tmp_path / "venv" / "bin" / "python"
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", python, program],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
    )
    revealed = re.findall(r'Revealed type is "([^"]+)"', checked.stdout)
    assert [re.sub(r"\bbuiltins\.", "", kind) for kind in revealed] == [
        "list[tuple[int, int]]",
        "list[moos.document.CompressedDocument]",
        "str",
    ], checked.stdout + checked.stderr
