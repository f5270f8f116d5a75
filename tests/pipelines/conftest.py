"""Fixtures of runs: input files, configs, and what an output holds."""

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moos.config import load_config
from moos.storage import Storage
from pipelines.compress import run_compress
from pipelines.config import CompressConfig
from pipelines.outputs import iterate_rows, read_manifest

SENTENCES = (
    "The committee met on Tuesday and decided that no further action was needed.",
    "Prices rose by 3.5 percent before the next report, which is not what anyone expected.",
    "The model keeps the words that matter most for the reader.\nThe rest is left out.",
    "See https://example.org/report?id=7 for all figures; call foo_bar() twice.",
    "It is a test of what can be left out without harm, not of memory.",
)


@pytest.fixture
def write_jsonl(tmp_path):
    """`write_jsonl("docs.jsonl", records)`: a file of records, or of raw lines given as bytes."""

    def write(name: str, records: Iterable[dict[str, Any] | bytes]) -> Path:
        lines = [
            record if isinstance(record, bytes) else json.dumps(record).encode()
            for record in records
        ]
        data = b"".join(line + b"\n" for line in lines)
        if name.endswith(".gz"):
            data = gzip.compress(data)
        elif name.endswith(".zst"):
            data = pa.compress(data, codec="zstd", asbytes=True)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def write_parquet(tmp_path):
    """`write_parquet("docs.parquet", {"text": [...]}, row_group_size=2)`."""

    def write(name: str, columns: dict[str, Any] | pa.Table, row_group_size: int = 4) -> Path:
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=row_group_size)
        return path

    return write


@pytest.fixture(scope="session")
def documents():
    """`documents(8)`: so many short records with an id."""

    def make(count: int, first: int = 0) -> list[dict[str, Any]]:
        return [
            {"id": f"d{i}", "text": f"{i}. {SENTENCES[i % 5]} {SENTENCES[(i * 3 + 1) % 5]}"}
            for i in range(first, first + count)
        ]

    return make


@pytest.fixture
def config(tiny_checkpoint):
    """`config(input, output, "selection.rate=0.4")`: a config on the local executor, one thread."""

    def make(source: Path | str, output: Path | str, *overrides: str) -> CompressConfig:
        base = (
            f"input.path={source}",
            f"output.path={output}",
            f"checkpoint={tiny_checkpoint}",
            "executor=local",
            "engine=torch",  # loads in an eighth of the time; engines have tests of their own
            "pool.cpus_per_replica=1",
        )
        return load_config(CompressConfig, None, (*base, *overrides))

    return make


@pytest.fixture
def compress(config):
    """`compress(input, output, *overrides)`: run the job in this process; its summary."""

    def run(source: Path | str, output: Path | str, *overrides: str) -> dict[str, Any]:
        return run_compress(config(source, output, *overrides))

    return run


@pytest.fixture(scope="session")
def read_rows():
    """`read_rows(output)`: every row that the manifest counts, in order."""

    def read(output: Path) -> list[dict[str, Any]]:
        storage = Storage(str(output))
        rows: list[dict[str, Any]] = []
        for entry in read_manifest(storage)["splits"]:
            if entry["data"] is not None:
                name = entry["data"]["name"]
                rows.extend(iterate_rows(name, storage.get(name)))
        return rows

    return read


@pytest.fixture(scope="session")
def read_quarantine():
    """`read_quarantine(output)`: every quarantine record that the manifest counts, in order."""

    def read(output: Path) -> list[dict[str, Any]]:
        storage = Storage(str(output))
        records: list[dict[str, Any]] = []
        for entry in read_manifest(storage)["splits"]:
            if entry["quarantine"] is not None:
                lines = storage.get(entry["quarantine"]["name"]).split(b"\n")
                records.extend(json.loads(line) for line in lines if line)
        return records

    return read


@pytest.fixture(scope="session")
def snapshot():
    """`snapshot(output)`: the bytes of everything in an output that must not depend on the run."""

    def take(output: Path, names: Sequence[str] = ("data", "quarantine")) -> dict[str, bytes]:
        found = {"manifest.json": (output / "manifest.json").read_bytes()}
        for name in names:
            for path in sorted((output / name).glob("*")):
                found[f"{name}/{path.name}"] = path.read_bytes()
        return found

    return take


@pytest.fixture(scope="session")
def done_times():
    """`done_times(output)`: when each done record was written, in ns, by split id."""

    def read(output: Path) -> dict[str, int]:
        return {p.stem: p.stat().st_mtime_ns for p in output.glob("_run/done/*/*.json")}

    return read


@pytest.fixture(scope="session")
def aws_credentials():
    """Credentials where the usual chain looks for them; servers of tests take any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "something")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory, aws_credentials):
    """Ray on this machine for the whole session, with two GPUs that exist by name only."""
    import ray

    if not ray.is_initialized():
        ray.init(
            num_cpus=4,
            num_gpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    yield ray
    ray.shutdown()
