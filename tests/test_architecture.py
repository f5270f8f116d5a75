"""The layering of the project, as rules that can fail."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"moos": {"ray", "pipelines", "jobs"}, "pipelines": {"jobs"}, "jobs": set()}
MAX_LINES = 350


def imported_packages(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package):
    crossings = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / package).rglob("*.py")
        for name in imported_packages(path)
        if name in FORBIDDEN[package]
    }
    assert crossings == set()


@pytest.mark.parametrize("module", ["moos", "moos.config", "pipelines.config", "jobs.compress"])
def test_a_config_is_read_without_loading_ray_or_torch(module):
    script = f"import sys, {module}; print(*sorted({{'ray', 'torch'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_the_library_is_imported_without_loading_torch():
    script = "import sys, moos.compressor; print(*sorted({'ray', 'torch'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == ""


def test_no_job_is_named_like_a_standard_module():
    # `python jobs/compress.py` puts jobs/ first on the import path.
    names = {path.stem for path in (ROOT / "jobs").glob("*.py")} - {"__init__"}
    assert names & sys.stdlib_module_names == set()


def test_no_file_is_named_for_being_useful():
    vague = {"utils", "util", "common", "helpers", "base", "misc"}
    files = [path for package in FORBIDDEN for path in (ROOT / package).rglob("*.py")]
    assert {path.stem for path in files} & vague == set()


def test_every_file_can_be_read_in_one_sitting():
    files = [path for package in FORBIDDEN for path in (ROOT / package).rglob("*.py")]
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in files
    }
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def test_every_module_says_what_it_is_for():
    files = [path for package in FORBIDDEN for path in (ROOT / package).rglob("*.py")]
    silent = [
        str(path.relative_to(ROOT))
        for path in files
        if (text := path.read_text(encoding="utf-8")).strip()
        and not ast.get_docstring(ast.parse(text))
    ]
    assert silent == []
