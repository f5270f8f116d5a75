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


# Each with the places that may have it, and why it is safe there.
CALLS_OF_FEW_PLACES = {
    "from_pretrained": {"moos/pretrained.py"},  # refuses pickles and a checkpoint's own code
    # Between processes of one job, through pipes and Ray's object store; never from a file.
    "pickle.loads": {"moos/pieces.py", "pipelines/staged_split.py", "pipelines/ray_graph.py"},
    "yaml.load": {"moos/yaml_text.py"},  # by a loader of plain values
    "yaml.safe_load": set(),  # makes more than plain values
}
CALLS_OF_NO_PLACE = {
    *("torch.load", "pickle.load", "yaml.unsafe_load", "yaml.full_load", "marshal.loads", "eval"),
    *("exec", "os.system", "os.popen", "tempfile.mktemp", "shelve.open", "joblib.load", "np.load"),
}


def calls(path: Path):
    """Every call of a file as (name, keywords): `torch.load`, `from_pretrained` for any class."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            name = "from_pretrained" if name.endswith(".from_pretrained") else name
            yield name, {k.arg: ast.unparse(k.value) for k in node.keywords}


def project_calls():
    for package in FORBIDDEN:
        for path in (ROOT / package).rglob("*.py"):
            for name, keywords in calls(path):
                yield str(path.relative_to(ROOT)), name, keywords


def test_what_could_run_code_from_a_file_is_called_in_few_places():
    strays = {
        f"{place} calls {name}"
        for place, name, _ in project_calls()
        if name in CALLS_OF_NO_PLACE or place not in CALLS_OF_FEW_PLACES.get(name, {place})
    }
    assert strays == set()


def test_what_is_loaded_is_never_trusted():
    found = list(project_calls())
    told = [keywords for _, name, keywords in found if name == "from_pretrained"]
    assert len(told) >= 4
    assert all(keywords["trust_remote_code"] == "False" for keywords in told)
    assert not [place for place, _, k in found if k.get("shell") == "True"]
    trusting = [place for place, _, k in found if k.get("trust_remote_code", "False") != "False"]
    assert trusting == []
