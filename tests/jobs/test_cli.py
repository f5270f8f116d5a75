"""The commands as a user meets them: exit codes, messages, one JSON line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from moos import __version__
from moos.config import load_config
from moos.storage import Storage
from pipelines.config import CompressConfig
from pipelines.lease import Lease

ROOT = Path(__file__).parents[2]


def test_a_run_ends_with_one_json_line_and_exit_code_0(moos, arguments, tmp_path):
    result = moos("compress", *arguments)
    assert result.code == 0
    assert result.summary["status"] == "complete"
    assert result.summary["documents"] == 10
    assert result.summary["output"] == str(tmp_path / "out")
    assert "1 files, 1 splits: 0 done, 1 to do" in result.err


def test_the_same_command_again_resumes(moos, arguments):
    moos("compress", *arguments)
    result = moos("compress", *arguments)
    assert (result.code, result.summary["splits_resumed"]) == (0, 1)


def test_verify_agrees_and_then_does_not(moos, arguments, tmp_path):
    moos("compress", *arguments)
    result = moos("verify", tmp_path / "out")
    assert (result.code, result.summary["status"], result.summary["documents"]) == (
        0,
        "verified",
        10,
    )
    next((tmp_path / "out/data").iterdir()).unlink()
    result = moos("verify", tmp_path / "out")
    assert (result.code, result.summary["status"]) == (1, "broken")
    assert "broken: data/docs-jsonl-" in result.err
    assert "missing" in result.err


def test_verify_says_when_it_could_not_see_the_source(moos, arguments, docs, tmp_path):
    moos("compress", *arguments)
    docs.unlink()
    result = moos("verify", tmp_path / "out")
    assert result.code == 0
    assert "1 splits were not compared with their source" in result.err


def test_verify_without_a_run_is_a_usage_error(moos, tmp_path):
    result = moos("verify", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "holds no complete run" in result.err


def test_verify_refuses_storage_options_that_are_no_json(moos, tmp_path):
    result = moos("verify", tmp_path, "--storage-options", "{a: 1}")
    assert result.code == 2
    assert "--storage-options is not JSON" in result.err


def test_an_interrupted_run_is_exit_code_1_and_says_how_to_go_on(moos, arguments, monkeypatch):
    from pipelines.work import SplitWorker

    def interrupt(self, split, report, pieces=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SplitWorker, "work", interrupt)
        result = moos("compress", *arguments)
    assert (result.code, result.out) == (1, "")
    assert "run the same command again to resume" in result.err
    assert moos("compress", *arguments).code == 0


def test_a_failed_run_is_exit_code_1_with_its_reason(moos, arguments, docs, monkeypatch):
    from pipelines.work import SplitWorker

    work = SplitWorker.work

    def change(self, split, report, pieces=None):
        docs.write_text('{"text": "other"}\n')
        return work(self, split, report, pieces)

    monkeypatch.setattr(SplitWorker, "work", change)
    result = moos("compress", *arguments)
    assert (result.code, result.out) == (1, "")
    assert "error: input file docs.jsonl changed while the run was on" in result.err
    assert "run the same command again to resume" in result.err
    assert "Traceback" not in result.err


def test_too_many_bad_records_are_exit_code_3(moos, arguments, docs):
    docs.write_text('{"text": "good"}\nbad\n')
    result = moos("compress", *arguments)
    assert (result.code, result.summary["exit_code"]) == (3, 3)
    assert result.summary["status"] == "quarantined"
    assert "over max_quarantined=0.01. First: docs.jsonl at 17: line is not a JSON" in result.err
    assert moos("compress", *arguments, "max_quarantined=0.5").code == 0


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["selection.rat=0.5"], "selection.rat: "),
        (["selection.rate=2"], "selection.rate: "),
        (["selection.rate=0.5", "selection.target_tokens=5"], "set one budget, not 2"),
        (["selection.threshold=0.5"], "set scoring.outlier.statistics=checkpoint or"),
        (["selection.corpus_rate=0.5"], "set scoring.outlier.statistics=checkpoint or"),
        (["selection.corpus_rate=2"], "selection.corpus_rate: "),
        (["selection.corpus_rate=0.5", "selection.rate=0.5"], "set one budget, not 2"),
        (["stages=split"], "stages=split has no effect with executor=local"),
        (["stages=three"], "stages: "),
        (["pool.replicas=2"], "pool.replicas=2 has no effect with executor=local"),
        (["pool.device=tpu"], "pool.device: "),
        (["pool.labels=gpu"], "pool.labels: "),
        (["cpu_stages.cpus_per_task=0"], "cpu_stages.cpus_per_task: "),
        (["document_limits.timeout_s=0"], "document_limits.timeout_s: "),
        (["document_limits.memory=lots"], "document_limits.memory"),
        (["input.retries=-1"], "input.retries: "),
        (["output.retries=many"], "output.retries: "),
        (["output.format=csv"], "output.format: "),
        (["input.split_bytes=1"], "input.split_bytes: "),
        (["selection.protect_patterns=['(']"], "is not a regular expression"),
        (["max_quarantined=2"], "max_quarantined: "),
        (["input.path=nowhere.jsonl"], "'nowhere.jsonl' names no file"),
        (["input.text_column=body"], "no sampled record has the key 'body', only id, text"),
        (["input.id_column=name"], "input.id_column='name' is none of the input's columns"),
        (["checkpoint=/nowhere"], "checkpoint '/nowhere' is not a directory"),
        (["checkpoint=./nowhere"], "checkpoint './nowhere' is not a directory"),
        (["window.max_length=512"], "window.max_length=512 exceeds"),
        (["scoring.outlier.statistics=checkpoint"], "needs outlier.safetensors"),
        (["scoring.preserve_label=maybe"], "is none of the labels ['discard', 'preserve']"),
        (["output.path=nosuch://out"], "nosuch://out cannot be opened"),
        (["input=docs.jsonl"], "input: "),
        (["input.path.more=1"], "holds a value, not a mapping"),
        (["selection.rate={"], "the value is not valid YAML"),
        (["a.yaml", "b.yaml"], "one config file at most, got a.yaml, b.yaml"),
        (["nowhere.yaml"], "config nowhere.yaml cannot be read"),
        (["=5"], "must look like key.path=value"),
        (["selection.budget_tokenizer=nowhere.json"], "selection.budget_tokenizer: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_exit_code_2_and_named_before_anything_is_written(
    moos, arguments, tmp_path, extra, told
):
    result = moos("compress", *arguments, *extra)
    assert (result.code, result.out) == (2, "")
    assert told in result.err
    assert "error: " in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "out").exists()


def test_a_missing_input_and_output_are_named(moos):
    result = moos("compress")
    assert (result.code, result.out) == (2, "")
    assert "input.path: this key is required" in result.err
    assert "output.path: this key is required" in result.err


def test_a_checkpoint_with_three_labels_is_exit_code_2(moos, arguments, copy_checkpoint):
    labels = {"0": "a", "1": "b", "2": "c"}
    path = copy_checkpoint(config={"id2label": labels, "label2id": None})
    result = moos("compress", *arguments, f"checkpoint={path}")
    assert result.code == 2
    assert "has 3 labels ['a', 'b', 'c']; a compressor needs two" in result.err


def test_another_run_on_the_same_output_is_exit_code_2(moos, arguments):
    moos("compress", *arguments)
    result = moos("compress", *arguments, "selection.rate=0.25")
    assert (result.code, result.out) == (2, "")
    assert "selection.rate: was None, now 0.25" in result.err


def test_a_corpus_rate_is_met_and_verifies(moos, arguments, tmp_path):
    extra = ("selection.corpus_rate=0.6", "scoring.alpha=1", "selection.protect=[]")
    result = moos("compress", *arguments, *extra)
    assert (result.code, result.summary["documents_scored"]) == (0, 10)
    assert 0.5 < result.summary["rate"] <= 0.6
    assert moos("verify", tmp_path / "out").code == 0
    assert moos("compress", *arguments, *extra).summary["documents_scored"] == 0


def test_an_output_that_another_run_works_on_is_exit_code_1_and_named(moos, arguments, tmp_path):
    with Lease(Storage(str(tmp_path / "out")), heartbeat_s=0.2):
        result = moos("compress", *arguments)
    assert (result.code, result.out) == (1, "")
    assert "error: another run is working on output.path=" in result.err
    assert f"process {os.getpid()} on " in result.err
    assert "Traceback" not in result.err
    assert moos("compress", *arguments).code == 0


def test_dry_run_writes_nothing_and_prints_one_json_line(moos, arguments, tmp_path, docs):
    result = moos("compress", *arguments, "--dry-run")
    assert result.code == 0
    assert result.summary["status"] == "planned"
    assert result.summary["columns"] == ["id", "text", "extra_json"]
    assert (result.summary["splits"], result.summary["splits_to_do"]) == (1, 1)
    assert result.summary["bytes_to_do"] == docs.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs.jsonl"]
    moos("compress", *arguments)
    assert moos("compress", *arguments, "--dry-run").summary["splits_to_do"] == 0


def test_dry_run_finds_what_would_be_refused(moos, arguments):
    assert moos("compress", "--dry-run", *arguments, "checkpoint=/nowhere").code == 2


def test_the_printed_config_is_a_config_file(moos, arguments, tmp_path):
    extra = (
        "selection.rate=0.4",
        "selection.protect=[numbers]",
        "pool.gpus_per_replica=0.5",
        "input.storage_options={anon: true}",
    )
    printed = moos("compress", *arguments, *extra, "--print-config")
    assert printed.code == 0
    path = tmp_path / "config.yaml"
    path.write_text(printed.out)
    assert load_config(CompressConfig, path) == load_config(
        CompressConfig, None, [*arguments, *extra]
    )
    assert moos("compress", path, "--print-config").out == printed.out
    assert not (tmp_path / "out").exists()


def test_the_printed_config_tells_every_key(moos, arguments):
    printed = yaml.safe_load(moos("compress", *arguments, "--print-config").out)
    assert printed.keys() == CompressConfig.model_fields.keys()
    assert printed["input"]["split_bytes"] == 8 << 20


def test_overrides_win_over_the_file_and_later_ones_over_earlier(moos, arguments, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("selection: {rate: 0.1}\nmax_quarantined: 0.5\n")
    printed = moos(
        "compress", "selection.rate=0.2", path, "--print-config", *arguments, "selection.rate=0.3"
    )
    config = yaml.safe_load(printed.out)
    assert (config["selection"]["rate"], config["max_quarantined"]) == (0.3, 0.5)


def test_overrides_may_stand_behind_flags(moos, arguments):
    result = moos("compress", arguments[0], "--dry-run", "--verbose", *arguments[1:])
    assert (result.code, result.summary["status"]) == (0, "planned")


def test_an_empty_section_of_a_config_file_is_named(moos, arguments, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("scoring:\n")
    result = moos("compress", path, *arguments, "--print-config")
    assert result.code == 2
    assert "scoring: Input should be a section with the keys alpha, outlier," in result.err


def test_an_unknown_command_is_named_with_the_known_ones(moos):
    result = moos("compres")
    assert (result.code, result.out) == (2, "")
    assert "no command 'compres'" in result.err
    assert "  compress " in result.err


def test_without_a_command_there_is_help(moos):
    assert moos().code == 2
    result = moos("--help")
    assert result.code == 0
    assert "compress" in result.out
    assert moos("--version").out.strip() == __version__


@pytest.mark.parametrize("command", ["compress", "verify"])
def test_every_command_has_help_that_tells_its_exit_codes(moos, command):
    result = moos(command, "--help")
    assert result.code == 0
    assert "Exit codes:" in result.out


def test_an_unknown_flag_is_exit_code_2(moos, arguments):
    result = moos("compress", *arguments, "--dryrun")
    assert result.code == 2
    assert "--dryrun" in result.err


@pytest.mark.parametrize("extra", [["--print-config"], ["--help"], ["selection.rat=1"]])
def test_reading_a_config_loads_neither_torch_nor_ray(extra):
    script = (
        "import sys\nfrom jobs.cli import main\n"
        "try: main(['compress', 'input.path=a', 'output.path=b', *sys.argv[1:]])\n"
        "except SystemExit: pass\n"
        "heavy = {'ray', 'torch', 'pyarrow', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *extra], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_job_runs_as_a_module_with_one_json_line_on_stdout(arguments):
    """As `ray job submit` and a shell pipe see it."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.compress", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["documents"] == 10
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
