"""However a run is laid out, its data and quarantine files are the same bytes."""

import json
import logging

import moto.server
import pytest
import s3fs

from moos.config import load_config
from pipelines.compress import run_compress
from pipelines.config import CompressConfig

SPLIT = ("input.split_bytes=1KiB", "max_quarantined=1", "input.id_column=id")


@pytest.fixture(scope="module")
def source(tmp_path_factory, documents):
    """A directory of plain and compressed files, records that cannot be compressed among them."""
    import gzip

    import pyarrow as pa

    place = tmp_path_factory.mktemp("same") / "docs"
    place.mkdir()
    lines = [json.dumps(record).encode() + b"\n" for record in documents(90)]
    lines[10:10] = [b"nope\n", b'{"id": "null", "text": null}\n']
    (place / "a.jsonl").write_bytes(b"".join(lines[:30]))
    (place / "b.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[30:70]), mtime=0))
    (place / "c.jsonl.zst").write_bytes(pa.compress(b"".join(lines[70:]), "zstd", asbytes=True))
    return place


@pytest.fixture(scope="module")
def bucket(source, aws_credentials):
    """The same in a bucket: the server's endpoint and its filesystem."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    filesystem = s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False)
    filesystem.call_s3("create_bucket", Bucket="same")
    for path in source.iterdir():
        filesystem.put_file(str(path), f"same/docs/{path.name}")
    yield endpoint, filesystem
    server.stop()


@pytest.fixture(scope="module")
def expected(source, tiny_checkpoint, snapshot):
    """What one process writes to a disk, nobody disturbing it; per budget."""
    made = {}

    def run(budget):
        if budget not in made:
            output = source.parent / budget.replace("=", "-")
            overrides = (f"checkpoint={tiny_checkpoint}", "executor=local", budget, *SPLIT)
            paths = (f"input.path={source}", f"output.path={output}", "pool.cpus_per_replica=1")
            run_compress(load_config(CompressConfig, None, (*paths, *overrides, "scoring.alpha=1")))
            taken = snapshot(output)
            made[budget] = {name: taken[name] for name in taken if name != "manifest.json"}
        return made[budget]

    return run


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("replicas", "stages", "place", "budget"),
    [
        (3, "fused", "disk", "selection.rate=0.4"),
        (1, "fused", "s3", "selection.rate=0.4"),
        (3, "split", "s3", "selection.rate=0.4"),
        (1, "split", "disk", "selection.corpus_rate=0.6"),
    ],
)
def test_the_layout_of_a_run_does_not_show(
    replicas, stages, place, budget, source, bucket, expected, ray_cluster, tiny_checkpoint,
    tmp_path, snapshot,
):  # fmt: skip
    endpoint, filesystem = bucket
    where = (f"input.path={source}", f"output.path={tmp_path / 'out'}")
    name = f"{stages}{replicas}"
    if place == "s3":
        options = json.dumps({"endpoint_url": endpoint})
        where = (
            "input.path=s3://same/docs",
            f"output.path=s3://same/{name}",
            f"input.storage_options={options}",
            f"output.storage_options={options}",
        )
    pool = (f"pool.replicas={replicas}", "pool.cpus_per_replica=1", "pool.gpus_per_replica=0")
    common = (f"checkpoint={tiny_checkpoint}", "executor=ray", f"stages={stages}", budget)
    config = load_config(CompressConfig, None, (*where, *pool, *common, *SPLIT, "scoring.alpha=1"))
    summary = run_compress(config)
    assert (summary["documents"], summary["quarantined"]) == (90, 2)
    if place == "s3":
        found = {
            path.removeprefix(f"same/{name}/"): filesystem.cat_file(path)
            for kind in ("data", "quarantine")
            for path in filesystem.ls(f"same/{name}/{kind}", detail=False)
        }
    else:
        found = snapshot(tmp_path / "out")
        del found["manifest.json"]
    assert found == expected(budget)
