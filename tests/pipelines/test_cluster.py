"""Several nodes on one machine: labels send each stage where it belongs, and the bytes stay."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Runs the job on a cluster of a CPU node and a "GPU" node, and prints what ran on which.
SCRIPT = """
import json, sys, threading
from pathlib import Path
from ray.cluster_utils import Cluster
import ray
from moos.config import load_config
from pipelines.compress import run_compress
from pipelines.config import CompressConfig

def below(pid):
    children, found, todo = {}, [], [pid]
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    while todo:
        more = children.get(todo.pop(), [])
        found += more
        todo += more
    return found

def name(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\\0")[0].decode()
    except OSError:
        return ""

head = {"num_cpus": 2, "labels": {"role": "cpu"}, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
gpu = cluster.add_node(num_cpus=1, num_gpus=1, labels={"role": "gpu"})
nodes = {"cpu": cluster.head_node, "gpu": gpu}
raylets = {role: node.all_processes["raylet"][0].process.pid for role, node in nodes.items()}
seen, stop = {role: set() for role in nodes}, threading.Event()

def watch():
    while not stop.wait(0.02):
        for role, raylet in raylets.items():
            seen[role] |= {name(pid) for pid in below(raylet)}

watcher = threading.Thread(target=watch)
watcher.start()
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
try:
    run_compress(load_config(CompressConfig, None, sys.argv[1:]))
finally:
    stop.set()
    watcher.join()
    ray.shutdown()
    cluster.shutdown()
print(json.dumps({role: sorted(n for n in names if "MapBatches" in n)
                  for role, names in seen.items()}))
"""


@pytest.fixture
def ray_directory():
    """A directory with a name short enough for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as path:
        yield path


@pytest.mark.ray
@pytest.mark.slow
def test_stages_run_where_their_labels_say(
    compress, write_jsonl, documents, tmp_path, tiny_checkpoint, snapshot, ray_directory
):
    # Compressed, and of more splits than each would read its own way to.
    source = write_jsonl("docs.jsonl.gz", documents(60))
    compress(source, tmp_path / "local", "input.split_bytes=1KiB", "engine=openvino")
    done = subprocess.run(
        [
            sys.executable, "-c", SCRIPT, f"input.path={source}", f"output.path={tmp_path}/out",
            f"checkpoint={tiny_checkpoint}", "stages=split", "input.split_bytes=1KiB",
            "pool.labels={role: gpu}", "pool.device=cpu", "cpu_stages.labels={role: cpu}",
            "engine=openvino",
        ],
        cwd=ROOT,
        # Else whatever else starts Ray here meanwhile would join this cluster.
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": ray_directory},
        capture_output=True,
        check=False,
        timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    ran = json.loads(done.stdout.splitlines()[-1])
    assert any("SplitScorer" in name for name in ran["gpu"])
    assert not any("_in_task" in name or "feed" in name for name in ran["gpu"])
    for stage in ("feed_splits", "prepare_in_task", "commit_in_task"):
        assert any(stage in name for name in ran["cpu"])
    assert not any("SplitScorer" in name for name in ran["cpu"])
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "local")
