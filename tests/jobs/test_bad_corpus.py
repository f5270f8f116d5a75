"""Every case of `tests/data/bad` through the real job: the rows, the reasons, the exit code.

Cases that a run accepts are worked together, each in a directory of its own, since a run costs half
a second; what becomes of a file does not depend on its neighbours. Those that are refused, or that
need settings or a schema of their own, are run alone.
"""

import base64
import json
from collections import defaultdict

import pytest

from moos import Compressor
from moos.storage import Storage
from pipelines.outputs import iterate_rows, read_manifest
from tests.data.bad.corpus import read_cases

CASES = read_cases()
ALONE = [case for case in CASES if case.alone or case.refused is not None]
TOGETHER = [case for case in CASES if case not in ALONE]


@pytest.fixture(autouse=True, scope="module")
def load_once(tiny_checkpoint):
    """One compressor for all runs of this module: they differ in input alone."""
    loaded = {}
    load = Compressor.load

    def load_or_take(path, **settings):
        key = (path, json.dumps(settings, default=repr, sort_keys=True))
        if key not in loaded:
            loaded[key] = load(path, **settings)
        return loaded[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Compressor, "load", load_or_take)
        yield


@pytest.fixture(scope="module")
def run(run_moos, tiny_checkpoint):
    """`run(input, output, *settings)`: compress, and verify what came of it."""

    def compress(source, output, *settings):
        result = run_moos(
            "compress",
            f"input.path={source}",
            f"output.path={output}",
            f"checkpoint={tiny_checkpoint}",
            "executor=local",
            "engine=torch",
            "pool.cpus_per_replica=1",
            *settings,
        )
        assert "Traceback" not in result.err
        if result.code in (0, 3):
            verified = run_moos("verify", output)
            assert verified.code == 0, verified.err
        return result

    return compress


def write_files(case, directory):
    directory.mkdir()
    for name, content in case.files.items():
        (directory / name).write_bytes(content)
    return directory


class Found:
    """What a run made of each directory of its input."""

    def __init__(self, output):
        storage = Storage(str(output))
        self.rows, self.quarantined = defaultdict(list), defaultdict(list)
        self.counts = defaultdict(lambda: (0, 0))
        for entry in read_manifest(storage)["splits"]:
            directory = entry["source"]["path"].rpartition("/")[0]
            documents, quarantined = self.counts[directory]
            documents += entry["documents"]
            self.counts[directory] = (documents, quarantined + entry["quarantined"])
            if entry["data"] is not None:
                name = entry["data"]["name"]
                rows = iterate_rows(name, storage.get(name))
                self.rows[directory].extend(row["text"] for row in rows)
            if entry["quarantine"] is not None:
                lines = storage.get(entry["quarantine"]["name"]).split(b"\n")
                self.quarantined[directory].extend(json.loads(line) for line in lines if line)

    def check(self, case, directory):
        """The case's rows and reasons, and nothing else."""
        records = self.quarantined[directory]
        reasons = [record["reason"] for record in records]
        assert len(reasons) == len(case.quarantined), reasons
        for words, reason in zip(case.quarantined, reasons, strict=True):
            assert words in reason
        rows = self.rows[directory]
        assert (len(rows) if isinstance(case.rows, int) else rows) == case.rows
        assert self.counts[directory] == (len(rows), len(records))
        if case.raw is not None:
            assert [base64.b64decode(record["raw"]) for record in records] == case.raw


@pytest.fixture(scope="module")
def together(run, tmp_path_factory):
    """`together("jsonl", "parquet")`: what one run made of all cases of a kind, in a format."""
    found = {}

    def get(kind, output_format):
        if (kind, output_format) not in found:
            place = tmp_path_factory.mktemp(kind)
            (place / "in").mkdir()
            for number, case in enumerate(TOGETHER):
                if case.kind == kind:
                    write_files(case, place / "in" / str(number))
            settings = ("input.id_column=id", f"output.format={output_format}")
            result = run(place / "in", place / "out", *settings)
            assert result.code == 3, result.err
            assert result.summary["status"] == "quarantined"
            found[kind, output_format] = Found(place / "out")
        return found[kind, output_format]

    return get


@pytest.mark.parametrize("output_format", ["parquet", "jsonl"])
@pytest.mark.parametrize("case", TOGETHER, ids=lambda case: case.name)
def test_what_becomes_of_a_bad_file_among_others(together, case, output_format):
    together(case.kind, output_format).check(case, str(TOGETHER.index(case)))


def mark_slow(cases):
    return [pytest.param(c, id=c.name, marks=[pytest.mark.slow] if c.slow else []) for c in cases]


@pytest.mark.parametrize("case", mark_slow(ALONE))
def test_what_becomes_of_a_bad_file_alone(run, case, tmp_path):
    source = write_files(case, tmp_path / "in")
    result = run(source, tmp_path / "out", *case.settings)
    assert result.code == case.exit_code, result.err
    for words in [*(case.refused or []), *case.warned]:
        assert words in result.err
    if case.refused is not None:
        assert not (tmp_path / "out").exists()
        return
    Found(tmp_path / "out").check(case, "")


def test_there_are_cases_enough_and_none_stands_twice():
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)
