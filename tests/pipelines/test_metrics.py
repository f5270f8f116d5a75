"""Figures for Prometheus: counted once, from what is done, and really served by Ray."""

import importlib.util
import time
import urllib.request
from collections import Counter

import pytest
import ray.util.metrics

from moos.storage import Storage
from pipelines.events import read_run
from pipelines.metrics import PassMetrics

TOLD: list[tuple[str, dict[str, str], float]] = []


class FakeMetric:
    """Any of Ray's metrics, which tells this module.

    Ray pickles some, and a class that is not of a module would be another one afterwards.
    """

    def __init__(self, name, description="", tag_keys=(), boundaries=None):
        assert description
        self.name, self.tag_keys, self.tags = name, tag_keys, {}

    def set_default_tags(self, tags):
        assert set(tags) <= set(self.tag_keys)
        self.tags = tags

    def record(self, value, tags=None):
        tags = {**self.tags, **(tags or {})}
        if self.name.startswith("moos_"):  # Ray Data has its own
            assert set(tags) == set(self.tag_keys)
            TOLD.append((self.name, tags, value))

    def inc(self, value=1, tags=None):
        assert value > 0, "Ray refuses others"
        self.record(value, tags)

    set = observe = record


@pytest.fixture
def told(monkeypatch):
    """What was told of each metric: its tags and value, in order."""
    TOLD.clear()
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(ray.util.metrics, kind, FakeMetric)
    return TOLD


def test_each_figure_is_counted_with_its_tags(told):
    metrics = PassMetrics(
        job="compress", run="r1", pass_name="compress", unit="tokens", num_splits=2
    )
    record = {
        "counts": {"documents": 3, "tokens": 30, "kept_tokens": 15, "quarantined": 2},
        "quarantined_by_reason": {"not_json": 2},
    }
    empty = {"counts": {"documents": 0, "tokens": 0, "quarantined": 0}}
    metrics.finish_split(record, 1.5)
    metrics.finish_split(empty, 0.5)
    metrics.restart_replica()
    tags = {"job": "compress", "run": "r1", "pass_name": "compress"}
    assert told == [
        ("moos_splits_to_do", tags, 2),
        ("moos_documents", tags, 3),
        ("moos_tokens", tags, 30),
        ("moos_kept_tokens", tags, 15),
        ("moos_quarantined", {**tags, "reason": "not_json"}, 2),
        ("moos_split_seconds", tags, 1.5),
        ("moos_splits_to_do", tags, 1),
        ("moos_split_seconds", tags, 0.5),
        ("moos_splits_to_do", tags, 0),
        ("moos_replica_restarts", tags, 1),
    ]


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_on_ray_tells_what_its_summary_says_and_notes_its_replicas(
    ray_cluster, told, compress, write_jsonl, documents, tmp_path
):
    source = write_jsonl("docs.jsonl", [*documents(30), b"nope"])
    pool = ("executor=ray", "pool.gpus_per_replica=0", "pool.replicas=1")
    splits = ("input.split_bytes=2KiB", "max_quarantined=1")
    summary = compress(source, tmp_path / "out", *pool, *splits)
    sums = Counter()
    for name, _, value in told:
        sums[name] += value
    assert sums["moos_documents"] == summary["documents"] == 30
    assert sums["moos_tokens"] == summary["tokens"]
    assert sums["moos_kept_tokens"] == summary["kept_tokens"]
    assert sums["moos_quarantined"] == 1
    assert told[-1][0::2] == ("moos_splits_to_do", 0)
    log = read_run(Storage(str(tmp_path / "out")))
    (started,) = [event for event in log if event["event"] == "replica_started"]
    done = [event for event in log if event["event"] == "split_done"]
    assert {event["replica"] for event in done} == {started["replica"]}
    assert len(done) == summary["splits"] > 1


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(
    importlib.util.find_spec("opentelemetry") is None, reason="metrics are served by ray[default]"
)
def test_ray_serves_them_to_prometheus(ray_cluster):
    metrics = PassMetrics(
        job="compress", run="served", pass_name="compress", unit="tokens", num_splits=2
    )
    counts = {"documents": 3, "tokens": 30, "kept_tokens": 15, "quarantined": 1}
    metrics.finish_split({"counts": counts, "quarantined_by_reason": {"null": 1}}, 1.5)
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline, text = time.monotonic() + 90, ""
    while "ray_moos_tokens" not in text and time.monotonic() < deadline:
        time.sleep(1)
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
    lines = [line for line in text.splitlines() if line.startswith("ray_moos_")]
    served = {line.split("{")[0]: line for line in lines if 'run="served"' in line}
    assert served["ray_moos_tokens_total"].endswith(" 30.0")
    assert 'reason="null"' in served["ray_moos_quarantined_total"]
    assert served["ray_moos_splits_to_do"].endswith(" 1.0")
    assert served["ray_moos_split_seconds_count"].endswith(" 1.0")
