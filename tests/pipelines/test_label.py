"""The labelling job: what it writes, what it refuses, and that it can be stopped anywhere."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import show
from moos.config import load_config
from moos.errors import ConfigError, DataError, MoosError
from moos.labels import read_labelled, split_documents
from moos.storage import Storage
from pipelines.label import prepare_label, run_label
from pipelines.label_config import LabelConfig
from pipelines.label_signature import sign_label
from pipelines.outputs import read_manifest
from pipelines.progress import ProgressReport
from pipelines.run_state import dump_json
from pipelines.verify import verify_output
from pipelines.work import SplitWorker
from tests.endpoint_server import Answer, chat, serve

ROOT = Path(__file__).parents[2]
PAIRS = ("teacher.kind=pairs", "teacher.name=a hand")
DEADLINE_S = 120


def write_labels(source, output, *overrides):
    base = (f"input.path={source}", f"output.path={output}", "executor=local")
    return run_label(load_config(LabelConfig, None, (*base, *overrides)))


def label(source, output, *overrides):
    """Label, and verify what came of it."""
    summary = write_labels(source, output, *overrides)
    findings = verify_output(str(output))
    assert findings.broken == []
    assert findings.splits_checked_against_source == summary["splits"]
    return summary


def rows_of(output):
    output = Storage(str(output))
    names = [entry["data"]["name"] for entry in read_manifest(output)["splits"] if entry["data"]]
    return [row for name in names for row in pq.read_table(f"{output.root}/{name}").to_pylist()]


def quarantined(output):
    files = Path(output, "quarantine").iterdir()
    lines = [line for path in files for line in path.read_text().splitlines()]
    return {record["id"]: record["reason"] for record in map(json.loads, lines)}


def files_of(output):
    """Every byte that counts."""
    paths = [*Path(output, "data").iterdir(), *Path(output).glob("quarantine/*")]
    return {path.name: path.read_bytes() for path in [*paths, Path(output, "manifest.json")]}


@pytest.fixture
def pairs(documents):
    """`pairs(8)`: documents with every third word dropped, and a domain."""

    def make(count, first=0):
        made = []
        for record in documents(count, first):
            words = record["text"].split()
            kept = [word for place, word in enumerate(words) if place % 3]
            domain = "even" if int(record["id"][1:]) % 2 == 0 else "odd"
            made.append({**record, "compressed": " ".join(kept), "domain": domain})
        return made

    return make


def test_a_row_says_which_words_a_pair_kept_and_where_it_is_from(write_jsonl, pairs, tmp_path):
    source = write_jsonl("pairs.jsonl", [*pairs(3), {"text": "", "compressed": "", "id": 7}])
    columns = ("input.id_column=id", "input.domain_column=domain", "input.licence=CC0")
    summary = label(source, tmp_path / "out", *PAIRS, *columns)
    assert (summary["documents"], summary["quarantined"], summary["exit_code"]) == (4, 0, 0)
    rows = rows_of(tmp_path / "out")
    assert [row["id"] for row in rows] == ["d0", "d1", "d2", "7"]
    assert [row["domain"] for row in rows] == ["even", "odd", "even", "text"]
    for row, pair in zip(rows, pairs(3), strict=False):
        words = [row["text"][word["start"] : word["end"]] for word in row["words"]]
        assert words == pair["text"].split()
        assert [word["label"] for word in row["words"]] == [
            float(place % 3 != 0) for place in range(len(words))
        ]
        assert (row["licence"], row["teacher"], row["document"]) == ("CC0", "a hand", row["id"])
        assert row["variation_rate"] == row["alignment_gap"] == 0.0
        assert row["keep_rate"] == pytest.approx(sum(w["label"] for w in row["words"]) / len(words))
        assert row["failed_filters"] == []
    assert rows[3]["words"] == []
    assert summary["words"] == sum(len(row["words"]) for row in rows)


def test_a_domain_may_stand_in_the_path(write_jsonl, pairs, tmp_path):
    for domain in ("even", "odd"):
        lines = [{k: v for k, v in p.items() if k != "domain"} for p in pairs(4)]
        write_jsonl(f"in/domain={domain}/part-0.jsonl", lines)
    label(tmp_path / "in", tmp_path / "out", *PAIRS, "input.domain_column=domain")
    assert [row["domain"] for row in rows_of(tmp_path / "out")] == ["even"] * 4 + ["odd"] * 4


def test_a_date_that_python_lacks_names_its_record(write_parquet, tmp_path):
    columns = {
        "text": ["One two three."] * 4,
        "compressed": ["One three."] * 4,
        "day": pa.array([2932897, 0, None, -(2**31)], pa.date32()),
        "time": pa.array([2**62, 0, None, 1], pa.timestamp("us", "UTC")),
        "days": pa.array([[2932897], [0], None, []], pa.list_(pa.date32())),
        "zone": pa.array([1, 0, None, 1], pa.timestamp("us", "No/Where")),
    }
    source = write_parquet("pairs.parquet", columns)
    named = ("input.id_column=day", "input.document_column=time", "input.domain_column=days")
    label(source, tmp_path / "out", *PAIRS, *named, "input.source_column=zone")
    rows = rows_of(tmp_path / "out")
    last = "<value out of range: -2147483648>"
    assert [row["id"] for row in rows] == ["10000-01-01", "1970-01-01", "pairs.parquet:2", last]
    assert [row["document"] for row in rows] == [
        "17036-07-06 14:00:27.387904Z",
        "1970-01-01 00:00:00+00:00",
        "pairs.parquet:2",
        "1970-01-01 00:00:00.000001+00:00",
    ]
    assert [row["domain"] for row in rows] == ["text", "[datetime.date(1970, 1, 1)]", "text", "[]"]
    assert {row["source"] for row in rows} == {"not stated"}


def test_what_cannot_be_labelled_is_quarantined_with_the_reason(write_jsonl, pairs, tmp_path):
    bad = [
        {"id": "empty", "text": "Some words.", "compressed": " "},
        {"id": "lacks", "text": "Some words."},
        {"id": "null", "text": "Some words.", "compressed": None},
        {"id": "number", "text": "Some words.", "compressed": 3},
        {"id": "surrogate", "text": "Some words.", "compressed": "words \ud800"},
        {"id": "textless", "compressed": "words"},
    ]
    source = write_jsonl("pairs.jsonl", [*pairs(2), *bad, b"no json"])
    summary = label(source, tmp_path / "out", *PAIRS, "input.id_column=id")
    assert (summary["documents"], summary["quarantined"], summary["exit_code"]) == (2, 7, 3)
    reasons = quarantined(tmp_path / "out")
    assert reasons["empty"] == "the compression is empty, although the text is not"
    assert "null or missing" in reasons["lacks"]
    assert "null or missing" in reasons["null"]
    assert "is int, not a string (teacher.compressed_column)" in reasons["number"]
    assert "the compression's text holds the lone surrogate U+D800" in reasons["surrogate"]
    assert "no key 'text'" in reasons["textless"]


def test_filters_mark_rows_and_training_passes_over_them(write_jsonl, pairs, tmp_path):
    other = {"id": "other", "text": "One two three four.", "compressed": "Wholly unlike words."}
    source = write_jsonl("pairs.jsonl", [*pairs(6), other])
    summary = label(source, tmp_path / "out", *PAIRS, "input.id_column=id")
    assert (summary["documents"], summary["passed"]) == (7, 6)
    assert rows_of(tmp_path / "out")[6]["failed_filters"] == ["variation_rate", "keep_rate"]
    documents = read_labelled(str(tmp_path / "out"))
    assert [document.id for document in documents] == [f"d{i}" for i in range(6)]
    label(source, tmp_path / "none", *PAIRS, "filters.max_keep_rate=0.01")
    with pytest.raises(DataError, match=r"hold no record that passes its filters \(7 fail\)"):
        read_labelled(str(tmp_path / "none"))


def test_the_split_is_by_document_and_is_what_training_takes(write_jsonl, pairs, tmp_path):
    records = [{**pair, "book": f"b{number // 4}"} for number, pair in enumerate(pairs(120))]
    source = write_jsonl("pairs.jsonl", records)
    book = ("input.document_column=book", "split.validation_share=0.3")
    label(source, tmp_path / "out", *PAIRS, *book)
    label(source, tmp_path / "other", *PAIRS, *book, "split.seed=1")
    sides = {}
    for row in rows_of(tmp_path / "out"):
        sides.setdefault(row["document"], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    assert {"train", "validation"} == set.union(*sides.values())
    training, validation = split_documents(
        read_labelled(str(tmp_path / "out")), validation_share=None, seed=5
    )
    assert {d.document for d in validation} == {n for n, side in sides.items() if side != {"train"}}
    assert {d.document for d in training} == {n for n, side in sides.items() if side == {"train"}}
    assert [row["split"] for row in rows_of(tmp_path / "out")] != [
        row["split"] for row in rows_of(tmp_path / "other")
    ]


PERCENTILE = "filters.variation_percentile=80"
SPLITS = "input.split_bytes=1KiB"


def test_a_percentile_is_one_of_the_whole_corpus(write_jsonl, pairs, tmp_path):
    records = pairs(40)
    for number, record in enumerate(records[:10]):  # more and more words that are not there
        record["compressed"] += " zz" * (number + 1)
    source = write_jsonl("pairs.jsonl", [*records, b"no json"])
    quiet = ("max_quarantined=1", "filters.max_variation_rate=null")
    summary = label(source, tmp_path / "out", *PAIRS, SPLITS, PERCENTILE, *quiet)
    assert summary["splits"] > 5
    assert (summary["documents"], summary["passed"], summary["quarantined"]) == (40, 32, 1)
    failed = [row["id"] for row in rows_of(tmp_path / "out") if row["failed_filters"]]
    assert len(failed) == 8
    assert not list(Path(tmp_path / "out" / "_run").glob("scores/*"))
    one = label(source, tmp_path / "one", *PAIRS, PERCENTILE, *quiet)
    assert (one["splits"], one["passed"]) == (1, 32)
    # A grown input keeps the bounds that were settled.
    before = read_manifest(Storage(str(tmp_path / "out")))["bounds"]
    write_jsonl("pairs.jsonl", [*records, b"no json", *pairs(20, 40)])
    grown = label(source, tmp_path / "out", *PAIRS, SPLITS, PERCENTILE, *quiet)
    assert grown["documents"] == 60
    assert read_manifest(Storage(str(tmp_path / "out")))["bounds"] == before


@pytest.mark.parametrize("overrides", [(), (PERCENTILE,)])
def test_a_run_that_stops_goes_on_to_the_same_bytes(
    write_jsonl, pairs, tmp_path, monkeypatch, overrides
):
    source = write_jsonl("pairs.jsonl", pairs(60))
    settings = (*PAIRS, SPLITS, *overrides)
    whole = label(source, tmp_path / "whole", *settings)
    work, calls = SplitWorker._write, []
    stops = range(3, 2 * whole["splits"] + 9, 4)

    def stop(self, sink, num_scored):
        calls.append(1)
        if len(calls) in stops:
            raise MoosError("stopped")
        return work(self, sink, num_scored)

    monkeypatch.setattr(SplitWorker, "_write", stop)
    for _ in range(40):
        try:
            summary = label(source, tmp_path / "out", *settings)
            break
        except MoosError:
            continue
    assert len(calls) > 4
    assert summary["splits_resumed"] > 0 or overrides
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.ray
def test_ray_writes_the_same_bytes(ray_cluster, write_jsonl, pairs, tmp_path):
    source = write_jsonl("pairs.jsonl.gz", [*pairs(60), b"no json"])
    for overrides in ((SPLITS,), (SPLITS, PERCENTILE)):
        settings = (*PAIRS, *overrides, "max_quarantined=1")
        here, there = (tmp_path / f"{place}{len(overrides)}" for place in ("local", "ray"))
        label(source, here, *settings)
        label(source, there, *settings, "executor=ray", "pool.replicas=2")
        assert files_of(here) == files_of(there)


@pytest.mark.slow
def test_a_killed_driver_costs_no_finished_split(write_jsonl, pairs, tmp_path):
    source = write_jsonl("pairs.jsonl", pairs(3000))
    settings = (*PAIRS, "input.split_bytes=2KiB", PERCENTILE)
    label(source, tmp_path / "whole", *settings)
    output = tmp_path / "out"
    command = [sys.executable, "-m", "jobs.label", f"input.path={source}", f"output.path={output}"]
    process = subprocess.Popen(
        [*command, "executor=local", *settings],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + DEADLINE_S
    while len(scored := list(output.glob("_run/scored/*/*.json"))) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(output.glob("_SUCCESS"))
    kept = {path: path.stat().st_mtime_ns for path in scored if path.exists()}
    done = subprocess.run(
        [*command, "executor=local", *settings], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    summary = json.loads(done.stdout)
    assert summary["documents_labelled"] < 3000
    assert kept
    assert files_of(output) == files_of(tmp_path / "whole")


def test_a_split_that_a_process_died_over_is_labelled_in_a_child(write_jsonl, pairs, tmp_path):
    source = write_jsonl("pairs.jsonl", pairs(4))
    label(source, tmp_path / "whole", *PAIRS)
    settings = (f"input.path={source}", f"output.path={tmp_path / 'out'}", "executor=local")
    config = load_config(LabelConfig, None, (*settings, *PAIRS))
    run = prepare_label(config)
    (split,) = run.plan.splits
    record = {"drivers": ["gone"], "source": {}}
    state = run.state
    from pipelines.attempts import AttemptRecord
    from pipelines.run_state import describe_source

    AttemptRecord(state, f"{split.id}-label-work", describe_source(split)).write(record["drivers"])
    run_label(config)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


# An endpoint


@pytest.fixture
def server():
    with serve() as server:
        yield server


@pytest.fixture
def endpoint(server):
    return (
        "teacher.kind=endpoint",
        f"teacher.url=http://127.0.0.1:{server.server_address[1]}/v1",
        "teacher.model=m",
        "teacher.concurrency=2",
        "teacher.retries=2",
    )


def test_an_endpoint_is_asked_once_for_every_chunk(
    server, endpoint, write_jsonl, documents, tmp_path, monkeypatch
):
    monkeypatch.setattr("moos.chat_client.FIRST_WAIT_S", 0.01)
    server.script = [Answer(500), Answer(429, headers={"Retry-After": "0"}), Answer(body='{"cho')]
    source = write_jsonl("docs.jsonl", documents(6))
    cache = f"teacher.cache_path={tmp_path / 'answers'}"
    summary = label(source, tmp_path / "out", *endpoint, cache, SPLITS)
    assert (summary["documents"], summary["passed"]) == (6, 6)
    assert len(server.requests) == 6 + 3
    for row in rows_of(tmp_path / "out"):
        assert row["compressed_text"] == " ".join(row["text"].split()[::2])
        assert row["keep_rate"] == pytest.approx(0.5, abs=0.1)
        assert row["teacher"].startswith("m, prompt facts-2-")
    label(source, tmp_path / "again", *endpoint, cache, SPLITS)
    assert len(server.requests) == 6 + 3
    assert files_of(tmp_path / "again") == files_of(tmp_path / "out")


def test_an_answer_of_no_use_costs_its_document_alone(
    server, endpoint, write_jsonl, documents, tmp_path, monkeypatch
):
    monkeypatch.setattr("moos.chat_client.FIRST_WAIT_S", 0.01)
    server.default = Answer(body=chat("wholly other words than any of those"))
    nothing = Answer(body=chat(""))
    server.script = [nothing, nothing, nothing]
    source = write_jsonl("docs.jsonl", documents(4))
    one = ("teacher.concurrency=1", "input.id_column=id")
    summary = label(source, tmp_path / "out", *endpoint, *one)
    assert (summary["documents"], summary["quarantined"], summary["passed"]) == (3, 1, 0)
    assert "an answer without content" in quarantined(tmp_path / "out")["d0"]
    assert all("variation_rate" in row["failed_filters"] for row in rows_of(tmp_path / "out"))


def test_half_a_surrogate_pair_costs_its_document_alone_until_it_is_asked_for_again(
    server, endpoint, write_jsonl, documents, tmp_path
):
    server.script = [Answer(body=chat("Prices \ud83d"))]
    source = write_jsonl("docs.jsonl", documents(4))
    one = ("teacher.concurrency=1", "teacher.retries=0", "input.id_column=id")
    summary = label(source, tmp_path / "out", *endpoint, *one)
    assert (summary["documents"], summary["quarantined"]) == (3, 1)
    assert "lone surrogate U+D83D at character 7" in quarantined(tmp_path / "out")["d0"]
    base = (f"input.path={source}", f"output.path={tmp_path / 'out'}", "executor=local")
    config = load_config(LabelConfig, None, (*base, *endpoint, *one))
    again = run_label(config, retry_quarantined=True)
    assert (again["documents"], again["quarantined"]) == (4, 0)
    assert len(server.requests) == 5


def test_an_endpoint_that_fails_stops_the_run_which_goes_on_from_the_cache(
    server, endpoint, write_jsonl, documents, tmp_path, monkeypatch
):
    monkeypatch.setattr("moos.chat_client.FIRST_WAIT_S", 0.01)
    source = write_jsonl("docs.jsonl", documents(8))
    server.script = [Answer(), Answer(), Answer(), *[Answer(503)] * 20]
    with pytest.raises(MoosError, match="failed 3 times, last with status 503"):
        label(source, tmp_path / "out", *endpoint)
    server.script = []
    before = len(server.requests)
    summary = label(source, tmp_path / "out", *endpoint)
    assert summary["documents"] == 8
    assert len(server.requests) - before <= 5


# A local model


@pytest.mark.slow
def test_a_local_teacher_only_deletes(teacher_directory, write_jsonl, documents, tmp_path):
    source = write_jsonl("docs.jsonl", [*documents(15), {"id": "e", "text": ""}])
    local = ("teacher.kind=local", f"teacher.path={teacher_directory}", "teacher.dtype=float32")
    small = ("teacher.max_words=12", "teacher.rules.skip=3", "pool.cpus_per_replica=1")
    summary = label(source, tmp_path / "out", *local, *small, "teacher.name=tiny")
    assert (summary["documents"], summary["documents_labelled"]) == (16, 16)
    rows = rows_of(tmp_path / "out")
    for row in rows:
        words = [row["text"][word["start"] : word["end"]] for word in row["words"]]
        assert words == row["text"].split()
        assert all(0.0 <= word["label"] <= 1.0 for word in row["words"])
        left = iter(words)
        assert all(word in left for word in row["compressed_text"].split())
        assert row["variation_rate"] == row["alignment_gap"] == 0.0
        assert row["teacher"].startswith("tiny, extractive, prompt facts-2-")
    assert len({label for row in rows for label in (w["label"] for w in row["words"])}) > 10
    again = label(source, tmp_path / "again", *local, *small, "teacher.name=tiny", SPLITS)
    assert again["splits"] > 1
    for row, other in zip(rows, rows_of(tmp_path / "again"), strict=True):
        assert row["compressed_text"] == other["compressed_text"]


def test_a_teacher_tells_how_far_it_is_within_a_split(
    teacher_directory, write_jsonl, documents, tmp_path, monkeypatch
):
    told = []
    update = ProgressReport.update
    monkeypatch.setattr(
        ProgressReport,
        "update",
        lambda self, split, counts: (told.append(dict(counts)), update(self, split, counts)),
    )
    source = write_jsonl("docs.jsonl", documents(12))
    local = ("teacher.kind=local", f"teacher.path={teacher_directory}", "teacher.dtype=float32")
    summary = label(source, tmp_path / "out", *local, "teacher.batch_size=2")
    words = [counts["words"] for counts in told]
    assert summary["splits"] == 1
    assert len(set(words)) >= 6
    assert words == sorted(words)
    assert words[-1] == summary["words"]
    assert [counts["documents"] for counts in told][-1] == 12


# What is refused

NO_DIRECTORY = "teacher.path='{}' is not a directory; give a directory or a hub id such as owner/n"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ((), r"teacher.kind: this key is required: one of pairs, endpoint, local"),
        (("teacher.name=x",), r"teacher.kind: this key is required: one of pairs, endpoint, local"),
        (("teacher.kind=magic",), "'magic'.*'pairs', 'endpoint', 'local'"),
        (("teacher.kind=local",), "  teacher.path: this key is required"),
        (("teacher.kind=pairs", "teacher.nam=x"), "teacher.nam: .*did you mean 'name'"),
        ((*PAIRS, "teacher.aligner=magic"), "teacher.aligner: .*'lcs' or 'greedy'"),
        ((*PAIRS, "filters.gap_percentile=101"), "filters.gap_percentile: .*100.* .got 101"),
        (
            ("teacher.kind=local", "teacher.path=x", "filters.gap_percentile=90"),
            "no effect on a local teacher",
        ),
        (
            (
                "teacher.kind=endpoint",
                "teacher.url=http://h/v1",
                "teacher.model=m",
                "document_limits.timeout_s=30",
            ),
            "document_limits.timeout_s=30 must exceed 60 s",
        ),
        (
            (*PAIRS, "teacher.compressed_column=absent"),
            "teacher.compressed_column='absent' is none of",
        ),
        (
            (*PAIRS, "input.domain_column=absent"),
            "input.domain_column='absent' is none of .*: .*text",
        ),
        ((*PAIRS, "teacher.compressed_column=number"), "is int64; it must hold strings"),
        (("teacher.kind=local", "teacher.path=./no-model"), NO_DIRECTORY.format("./no-model")),
        (("teacher.kind=local", "teacher.path=MODEL"), NO_DIRECTORY.format("MODEL")),
        (("teacher.kind=local", "teacher.path=a/b/c"), NO_DIRECTORY.format("a/b/c")),
        (("teacher.kind=local", "teacher.path=tests"), "teacher.path='tests' has no config.json"),
        (
            ("teacher.kind=local", "teacher.path=tests", "teacher.gguf_file=x.gguf"),
            "teacher.path='tests' has no x.gguf",
        ),
        (
            ("teacher.kind=local", "teacher.path=moos-nobody/nothing"),
            "teacher.path='moos-nobody/nothing' is no local directory, and the hub did not give",
        ),
        (
            (
                "teacher.kind=endpoint",
                "teacher.url=http://h/v1",
                "teacher.model=m",
                "teacher.api_key_env=NO_SUCH_KEY",
            ),
            "the environment variable NO_SUCH_KEY is not set",
        ),
    ],
)
def test_a_config_that_cannot_work_is_refused_before_work(
    write_jsonl, pairs, tmp_path, overrides, told
):
    source = write_jsonl("pairs.jsonl", [{**pair, "number": 1} for pair in pairs(3)])
    with pytest.raises(ConfigError, match=told):
        label(source, tmp_path / "out", *overrides)
    assert not (tmp_path / "out").exists()


def test_the_hub_is_asked_for_the_config_of_a_teacher_before_work(
    teacher_directory, write_jsonl, documents, tmp_path, monkeypatch
):
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        return str(teacher_directory / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    paths = (f"input.path={write_jsonl('docs.jsonl', documents(1))}", f"output.path={tmp_path}/out")
    local = ("teacher.kind=local", "teacher.path=owner/name")
    prepare_label(load_config(LabelConfig, None, (*paths, *local)))
    assert asked == [("owner/name", "config.json")]
    assert not (tmp_path / "out").exists()


def test_another_recipe_on_the_same_output_is_refused(write_jsonl, pairs, tmp_path):
    source = write_jsonl("pairs.jsonl", pairs(3))
    label(source, tmp_path / "out", *PAIRS)
    with pytest.raises(ConfigError, match=r"teacher.aligner: was 'lcs', now 'greedy'"):
        label(source, tmp_path / "out", *PAIRS, "teacher.aligner=greedy")
    assert label(source, tmp_path / "out", *PAIRS)["documents_labelled"] == 0


def test_another_local_teacher_is_another_run(teacher_directory, tmp_path):
    def sign(path):
        settings = ("input.path=a", "output.path=b", "teacher.kind=local", f"teacher.path={path}")
        return sign_label(load_config(LabelConfig, None, settings))

    assert sign("org-a/model-one") == sign("org-a/model-one")
    assert sign("org-a/model-one") != sign("org-b/other-model")
    # A directory is known by what it holds, wherever it lies.
    shutil.copytree(teacher_directory, tmp_path / "copy")
    assert sign(teacher_directory) == sign(tmp_path / "copy") != sign("org-a/model-one")


def test_columns_named_like_those_of_a_compressed_corpus_are_welcome(write_parquet, tmp_path):
    columns = {"text": ["One two three."], "compressed_text": ["One three."], "rate": [0.5]}
    source = write_parquet("docs.parquet", columns)
    label(source, tmp_path / "out", *PAIRS, "teacher.compressed_column=compressed_text")
    assert [word["label"] for word in rows_of(tmp_path / "out")[0]["words"]] == [1.0, 0.0, 1.0]


def test_the_report_shows_domains_and_escapes_what_it_quotes(write_jsonl, pairs, tmp_path):
    hostile = "</script><img src=x onerror=alert(1)> <script>alert(1)</script> went on"
    script = {"text": hostile, "compressed": "went", "domain": f"<b>{hostile}"}
    source = write_jsonl("pairs.jsonl", [*pairs(5), script])
    label(source, tmp_path / "out", *PAIRS, "input.domain_column=domain")
    page = (tmp_path / "out" / "report.html").read_text()
    for shown in ("<td>even</td>", "<td>odd</td>", "&lt;b&gt;", "documents by keep rate"):
        assert shown in page
    assert "<script" not in page
    assert "<img" not in page
    assert "script-src 'none'" in page
    assert "label: " in page


# A dataset


def test_a_dataset_of_lists_is_dealt_out_once(tmp_path, monkeypatch):
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    meetings = [
        {"prompt_list": ["One two three.", "Four five."], "short": ["One three.", "five."], "n": i}
        for i in range(3)
    ]
    (dataset / "train.json").write_text(json.dumps(meetings))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    settings = (
        *PAIRS,
        "teacher.compressed_column=short",
        f"input.dataset.name={dataset}",
        "input.text_column=prompt_list",
        "input.id_column=part",
        "input.document_column=row",
    )
    summary = label(tmp_path / "pairs", tmp_path / "out", *settings)
    assert summary["documents"] == 6
    rows = rows_of(tmp_path / "out")
    assert [row["id"] for row in rows] == ["0/0", "0/1", "1/0", "1/1", "2/0", "2/1"]
    assert [row["document"] for row in rows] == ["0", "0", "1", "1", "2", "2"]
    assert [word["label"] for word in rows[1]["words"]] == [0.0, 1.0]
    (dataset / "train.json").unlink()  # it is not asked for again
    assert label(tmp_path / "pairs", tmp_path / "out", *settings)["documents_labelled"] == 0
    with pytest.raises(ConfigError, match="holds the dataset"):
        label(tmp_path / "pairs", tmp_path / "other", *settings, "input.dataset.split=test")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        label(tmp_path / "new", tmp_path / "other", *settings)


# Looked at afterwards


def break_row(output, name, value):
    """Change one value of the first row, with hash and manifest as if nothing had happened."""
    manifest = json.loads(Path(output, "manifest.json").read_text())
    entry = next(entry for entry in manifest["splits"] if entry["data"])
    path = Path(output, entry["data"]["name"])
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0][name] = value(rows[0][name])
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    entry["data"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    data = dump_json(manifest)
    Path(output, "manifest.json").write_bytes(data)
    Path(output, "_SUCCESS").write_text(hashlib.sha256(data).hexdigest() + "\n")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("words", lambda words: words[1:], "words are not the white-space-separated words"),
        ("words", lambda words: [{**w, "label": 1.5} for w in words], "outside"),
        ("words", lambda words: [{**w, "label": 1.0} for w in words], "labels are not those of"),
        ("split", {"train": "validation", "validation": "train"}.get, "does not give"),
        ("failed_filters", lambda _: ["keep_rate"], "which its figures do not give"),
        ("keep_rate", lambda rate: rate / 2, "figures are not those of its alignment"),
        ("compressed_text", lambda text: f"zz {text}", "figures are not those of its alignment"),
        ("text", lambda text: f"{text}!", "column 'text' differs from its source"),
    ],
)
def test_verify_finds_a_changed_value(write_jsonl, pairs, tmp_path, name, value, told):
    source = write_jsonl("pairs.jsonl", pairs(3))
    label(source, tmp_path / "out", *PAIRS)
    break_row(tmp_path / "out", name, value)
    assert told in " ".join(verify_output(str(tmp_path / "out")).broken)


def test_show_shows_what_a_teacher_kept(write_jsonl, pairs, tmp_path, capsys):
    source = write_jsonl("pairs.jsonl", pairs(3))
    label(source, tmp_path / "out", *PAIRS, "input.id_column=id")
    assert show.main([str(tmp_path / "out"), "--id", "d1"]) == 0
    shown = capsys.readouterr().out
    (row,) = [row for row in rows_of(tmp_path / "out") if row["id"] == "d1"]
    words = len(row["words"])
    assert f"{words - -(-words // 3)} of {words} words kept" in shown.replace("\n", " ")
