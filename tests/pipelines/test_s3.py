"""Input and output in a bucket, on a server of the test's own."""

import json
import logging

import moto.server
import numpy as np
import pytest
import s3fs

from moos.config import load_config
from moos.labels import read_labelled
from moos.storage import Storage
from pipelines.label import run_label
from pipelines.label_config import LabelConfig
from pipelines.show_choice import Choice
from pipelines.show_views import ShowRequest, build_views
from pipelines.status import HolderWatch, read_status

SECRET = "not-to-be-seen-anywhere"


@pytest.fixture(scope="module")
def endpoint():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    """An empty bucket: its filesystem and the overrides that lead there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    filesystem = s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False)
    filesystem.call_s3("create_bucket", Bucket="corpus")
    yield filesystem
    for path in filesystem.find("corpus"):
        filesystem.rm_file(path)
    filesystem.call_s3("delete_bucket", Bucket="corpus")


@pytest.fixture
def options(endpoint):
    """Overrides of both places."""
    value = json.dumps({"endpoint_url": endpoint})
    return (f"input.storage_options={value}", f"output.storage_options={value}")


@pytest.mark.parametrize(
    ("name", "selection"),
    [
        ("a.jsonl", ["selection.rate=0.5"]),
        ("a.jsonl.gz", ["selection.corpus_rate=0.5", "scoring.alpha=1"]),
    ],
)
def test_a_bucket_gives_the_same_bytes_as_a_disk(
    bucket, options, compress, write_jsonl, documents, tmp_path, name, selection
):
    source = write_jsonl(f"docs/{name}", [*documents(40), b"nope"])
    bucket.put_file(str(source), f"corpus/docs/{name}")
    splits = ("input.split_bytes=2KiB", "max_quarantined=1", *selection)
    on_disk = compress(source.parent, tmp_path / "out", *splits)
    summary = compress("s3://corpus/docs", "s3://corpus/out", *splits, *options)
    assert summary["documents"] == on_disk["documents"] == 40
    assert summary["splits"] == on_disk["splits"] > 2
    for directory in ("data", "quarantine"):
        local = {path.name: path.read_bytes() for path in (tmp_path / "out" / directory).glob("*")}
        remote = {
            path.rpartition("/")[2]: bucket.cat_file(path)
            for path in bucket.ls(f"corpus/out/{directory}", detail=False)
        }
        assert local
        assert remote == local


def test_parquet_in_a_bucket_is_read_in_ranges_of_rows(
    bucket, options, endpoint, compress, write_parquet, documents, tmp_path
):
    from pipelines.verify import verify_output

    records = documents(60)
    columns = {key: [record[key] for record in records] for key in ("id", "text")}
    source = write_parquet("docs/a.parquet", columns, row_group_size=50)
    bucket.put_file(str(source), "corpus/docs/a.parquet")
    splits = "input.split_bytes=2KiB"
    on_disk = compress(source.parent, tmp_path / "out", splits)
    summary = compress("s3://corpus/docs", "s3://corpus/out", splits, *options)
    assert summary["splits"] == on_disk["splits"] > 2
    local = {path.name: path.read_bytes() for path in (tmp_path / "out/data").glob("*")}
    remote = {
        path.rpartition("/")[2]: bucket.cat_file(path)
        for path in bucket.ls("corpus/out/data", detail=False)
    }
    assert remote == local
    assert verify_output("s3://corpus/out", {"endpoint_url": endpoint}).broken == []


def test_a_run_in_a_bucket_verifies_and_resumes(
    bucket, options, endpoint, compress, write_jsonl, documents
):
    from pipelines.verify import verify_output

    source = write_jsonl("a.jsonl", documents(20))
    bucket.put_file(str(source), "corpus/docs/a.jsonl")
    run = ("s3://corpus/docs", "s3://corpus/out", "input.split_bytes=1KiB", *options)
    assert compress(*run)["splits_resumed"] == 0
    findings = verify_output("s3://corpus/out", {"endpoint_url": endpoint})
    assert (findings.broken, findings.documents) == ([], 20)
    assert findings.splits_checked_against_source > 1
    output = Storage("s3://corpus/out", {"endpoint_url": endpoint})
    status = read_status(output, HolderWatch(output))
    assert (status["state"], status["documents"]) == ("complete", 20)
    assert status["last_event"]["event"] == "finished"
    for source in ("s3://corpus/out", "s3://corpus/docs"):
        choice, reached = Choice(position=7), {"endpoint_url": endpoint}
        request = ShowRequest(source=source, choice=choice, storage_options=reached)
        ((view, _),) = build_views(request)
        assert "document 7" in view.title
    again = compress(*run)
    assert again["splits_resumed"] == again["splits"]
    bucket.put_file(str(write_jsonl("b.jsonl", documents(5, 20))), "corpus/docs/b.jsonl")
    grown = compress(*run)
    assert (grown["documents"], grown["splits_resumed"]) == (25, again["splits"])


def test_no_secret_reaches_the_output(bucket, options, compress, write_jsonl, documents, caplog):
    caplog.set_level(logging.DEBUG, logger="pipelines")
    bucket.put_file(str(write_jsonl("a.jsonl", documents(3))), "corpus/docs/a.jsonl")
    compress("s3://corpus/docs", "s3://corpus/out", *options)
    written = b"".join(bucket.cat_file(path) for path in bucket.find("corpus/out"))
    assert b"corpus" in written
    assert SECRET.encode() not in written
    assert SECRET not in caplog.text


def test_labels_in_a_bucket_are_made_from_it_and_read_from_it(
    bucket, options, endpoint, write_jsonl, documents, tmp_path
):
    pairs = [{**record, "compressed": record["text"][3:]} for record in documents(20)]
    source = write_jsonl("pairs.jsonl", pairs)
    bucket.put_file(str(source), "corpus/pairs.jsonl")
    teacher = ("teacher.kind=pairs", "teacher.name=x", "executor=local", "input.split_bytes=1KiB")
    percentile = "filters.variation_percentile=100"

    def label(place, output, *overrides):
        paths = (f"input.path={place}", f"output.path={output}")
        return run_label(load_config(LabelConfig, None, (*paths, *teacher, percentile, *overrides)))

    summary = label("s3://corpus/pairs.jsonl", "s3://corpus/labels", *options)
    assert (summary["documents"], summary["passed"]) == (20, 20)
    assert summary["splits"] > 2
    label(source, tmp_path / "labels")
    there = read_labelled("s3://corpus/labels", {"endpoint_url": endpoint})
    here = read_labelled(str(tmp_path / "labels"))
    assert [d.id for d in there] == [d.id for d in here]
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(there, here, strict=True))
