"""`moos evaluate` as a user meets it."""

import subprocess
import sys
from pathlib import Path

import pytest

from moos.config import load_config
from pipelines.evaluate_config import EvaluateConfig

ROOT = Path(__file__).parents[2]
SMOKE = "configs/evaluate.smoke.yaml"


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Where configs and what they name are found."""
    monkeypatch.chdir(ROOT)


@pytest.mark.timeout(900)
def test_the_smoke_config_runs_and_runs_again(moos, tmp_path):
    output = tmp_path / "out"
    arguments = (SMOKE, f"output.path={output}", "device=cpu")
    planned = moos("evaluate", *arguments, "--dry-run")
    assert (planned.code, output.exists()) == (0, False)
    assert planned.summary["tasks"] == {"custom/notes": {"questions": 12, "contexts": 6}}
    assert planned.summary["cells"][:3] == ["full", "none", "random at 0.5"]
    assert planned.summary["answers_to_fetch"] == planned.summary["answers"] == 96
    result = moos("evaluate", *arguments)
    assert (result.code, result.summary["answers"]) == (0, 96)
    assert "answers: 96 of 96" in result.err
    assert (output / "report.html").exists()
    planned = moos("evaluate", *arguments, "--dry-run")
    assert (planned.summary["compressions_to_do"], planned.summary["answers_to_fetch"]) == (0, 0)
    other = moos("evaluate", *arguments, "--dry-run", "rates=[0.5, 0.3]")
    assert (other.summary["answers"], other.summary["answers_cached"]) == (168, 96)


def test_the_printed_config_is_a_config_file(moos, tmp_path):
    printed = moos("evaluate", SMOKE, "rates=[0.4]", "--print-config")
    assert printed.code == 0
    path = tmp_path / "config.yaml"
    path.write_text(printed.out)
    assert load_config(EvaluateConfig, path) == load_config(EvaluateConfig, SMOKE, ["rates=[0.4]"])


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ("baselin=random", "baselin: Extra inputs are not permitted"),
        ("baseline=best", "baseline: 'best' is none of the methods"),
        ("tasks=[{name: custm, path: x}]", "there is no task 'custm', only xquad-en"),
        ("tasks=[{name: custom, path: nowhere.jsonl}]", "nowhere.jsonl cannot be read"),
        ("tasks=[{name: squad, path: configs/evaluate/notes.jsonl, demonstrations: x}]", "squad"),
        ("reader.path=/nowhere", "reader /nowhere has no tokenizer"),
        ("budget_tokenizer=nowhere.json", "tokenizer nowhere.json cannot be read"),
        ("retention.text_column=body", "has no 'body', only"),
        ("deletions.path=nowhere.jsonl", "nowhere.jsonl cannot be read"),
        ("smoothing.labels=nowhere.parquet", "nowhere.parquet"),
        ("methods=[{kind: moos, checkpoint: /nowhere}]", "checkpoint '/nowhere' is not a dir"),
    ],
)
def test_what_cannot_work_is_named_before_anything_is_written(moos, tmp_path, extra, told):
    result = moos("evaluate", SMOKE, f"output.path={tmp_path / 'out'}", "baseline=null", extra)
    assert result.out == ""
    assert told in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "out").exists()
    # Data of another layout are no fault of the config.
    assert result.code == (1 if "text_column" in extra else 2)


def test_help_tells_the_exit_codes(moos):
    result = moos("evaluate", "--help")
    assert result.code == 0
    assert "Exit codes:" in result.out


@pytest.mark.parametrize("extra", [["--print-config"], ["baselin=random"]])
def test_reading_a_config_loads_no_torch(extra):
    script = (
        "import sys\nfrom jobs.cli import main\n"
        f"main(['evaluate', {SMOKE!r}, *sys.argv[1:]])\n"
        "heavy = {'ray', 'torch', 'transformers', 'datasets'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *extra], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"
