"""`configs/OBSERVABILITY.md` says what is so."""

import json
import re
from pathlib import Path

from moos.config import load_config
from pipelines.compress import run_compress
from pipelines.config import AUTO_STALL_S, CompressConfig
from pipelines.events import MILESTONES, PART_BYTES, RUNS_KEPT
from pipelines.metrics import TAGS
from pipelines.status import ENDS, EXIT_CODES
from tests.commands import check_command

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "configs" / "OBSERVABILITY.md").read_text(encoding="utf-8")


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_its_commands_are_valid():
    lines = [line for block in code_blocks("sh") for line in block.splitlines()]
    assert len(lines) == 3
    for line in lines:
        check_command(line)


def test_it_names_every_state_with_its_exit_code():
    table = re.findall(r"^\| (\d) \| (.*?) \|", TEXT, flags=re.MULTILINE)
    states = {state: int(code) for code, cell in table for state in re.findall(r"`(\w+)`", cell)}
    ended = {state: 1 for state in ("interrupted", *ENDS.values()) if state != "complete"}
    states.pop("max_quarantined")
    assert states.pop("complete") == 3  # the later row; the earlier one is 0
    assert {**states, "complete": 0} == {**ended, **EXIT_CODES}


def test_it_names_every_milestone_and_bound():
    history = TEXT.split("milestones of every run on the output: ")[1].split(".\n")[0]
    assert set(re.findall(r"`(\w+)`", history)) == set(MILESTONES)
    assert f"latest {RUNS_KEPT} runs, in files of {PART_BYTES >> 10} KiB" in TEXT
    assert f"`auto` is {AUTO_STALL_S:g} s" in TEXT


def test_it_names_every_metric_as_prometheus_sees_it():
    source = (ROOT / "pipelines" / "metrics.py").read_text(encoding="utf-8")
    made = set(re.findall(r"moos_\w+", source)) - {"moos_words", "moos_kept_words"}
    named = {name.removesuffix("_total") for name in re.findall(r"`ray_(moos_\w+)`", TEXT)}
    assert named == made
    assert all(f"`{tag}`" in TEXT for tag in TAGS)


def test_its_code_reads_the_log_of_a_run(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    docs = tmp_path / "docs.jsonl"
    docs.write_text("".join(json.dumps({"text": f"Document {i}."}) + "\n" for i in range(7)))
    paths = (f"input.path={docs}", f"output.path={tmp_path / 'out'}")
    settings = (f"checkpoint={tiny_checkpoint}", "executor=local", "pool.cpus_per_replica=1")
    run_compress(load_config(CompressConfig, None, [*paths, *settings]))
    monkeypatch.chdir(tmp_path)
    (code,) = code_blocks("python")
    exec(compile(code, "OBSERVABILITY.md", "exec"), {})
    assert re.fullmatch(r"\d+\.\d+ docs\.jsonl 7\n", capsys.readouterr().out)
