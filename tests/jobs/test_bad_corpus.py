"""Every case of `tests/data/bad` through the real job: the rows, the reasons, the exit code.

Cases that a run accepts are worked together, lines in one file with good ones between, files in
directories of their own: what becomes of a record does not depend on its neighbours. Cases that are
refused, or that need settings or a schema of their own, are run alone.
"""

import base64
import json
from bisect import bisect
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


class Found:
    """What a run made of each directory of its input, and of each line among good ones."""

    def __init__(self, output):
        storage = Storage(str(output))
        self.rows, self.quarantined = defaultdict(list), defaultdict(list)
        counts = defaultdict(lambda: [0, 0])
        for entry in read_manifest(storage)["splits"]:
            directory = entry["source"]["path"].rpartition("/")[0]
            counts[directory][0] += entry["documents"]
            counts[directory][1] += entry["quarantined"]
            if entry["data"] is not None:
                name = entry["data"]["name"]
                self.rows[directory].extend(iterate_rows(name, storage.get(name), ["id", "text"]))
            if entry["quarantine"] is not None:
                lines = storage.get(entry["quarantine"]["name"]).split(b"\n")
                self.quarantined[directory].extend(json.loads(line) for line in lines if line)
        for directory, (documents, quarantined) in counts.items():
            assert len(self.rows[directory]) == documents
            assert len(self.quarantined[directory]) == quarantined
        self._part_lines()

    def _part_lines(self):
        """The rows and records of the directory of lines, each to its own case."""
        number = None
        for row in self.rows.pop(LINES_DIRECTORY, []):
            name = str(row.get("id"))
            if name.startswith("before "):
                number = name.removeprefix("before ")
            else:
                self.rows[number].append(row)
        starts = list(LINE_STARTS)
        for record in self.quarantined.pop(LINES_DIRECTORY, []):
            at = starts[bisect(starts, record["position"]) - 1]
            self.quarantined[LINE_STARTS[at]].append(record)

    def check(self, case, key):
        """The case's rows and reasons, and nothing else."""
        records = self.quarantined[key]
        reasons = [record["reason"] for record in records]
        assert len(reasons) == len(case.quarantined), reasons
        for words, reason in zip(case.quarantined, reasons, strict=True):
            assert words in reason
        rows = [row["text"] for row in self.rows[key]]
        assert (len(rows) if isinstance(case.rows, int) else rows) == case.rows
        if case.line is not None and records:
            assert [base64.b64decode(record["raw"]) for record in records] == [case.line]


def join_lines():
    """The cases of one line in one file, a good line before each; where each begins, by case."""
    content, starts = b"", {}
    for number, case in enumerate(TOGETHER):
        if case.line is not None:
            content += b'{"id": "before %d", "text": "Fine."}\n' % number
            starts[len(content)] = str(number)
            content += case.line + b"\n"
    return content, starts


LINES, LINE_STARTS = join_lines()
LINES_DIRECTORY = "(lines)"
"""First in order, so that the columns are inferred from it whatever else is in the sample."""


@pytest.fixture(scope="module")
def together(run, tmp_path_factory):
    """`together("jsonl", "parquet")`: what one run made of all cases of a kind, in a format."""
    found = {}

    def get(kind, output_format):
        if (kind, output_format) not in found:
            found[kind, output_format] = None  # a run that fails is not tried for each case
            place = tmp_path_factory.mktemp(kind)
            (place / "in").mkdir()
            if kind == "jsonl":
                (place / "in" / LINES_DIRECTORY).mkdir()
                (place / "in" / LINES_DIRECTORY / "docs.jsonl").write_bytes(LINES)
            for number, case in enumerate(TOGETHER):
                if case.kind == kind and case.line is None:
                    case.write(place / "in" / str(number))
            settings = ("input.id_column=id", f"output.format={output_format}")
            result = run(place / "in", place / "out", *settings)
            assert result.code == 3, result.err
            assert result.summary["status"] == "quarantined"
            found[kind, output_format] = Found(place / "out")
        assert found[kind, output_format] is not None, "the run failed, see the first case"
        return found[kind, output_format]

    return get


@pytest.mark.parametrize("output_format", ["parquet", "jsonl"])
@pytest.mark.parametrize("case", TOGETHER, ids=lambda case: case.name)
def test_what_becomes_of_bad_input_among_other(together, case, output_format):
    together(case.kind, output_format).check(case, str(TOGETHER.index(case)))


def mark_slow(cases):
    return [pytest.param(c, id=c.name, marks=[pytest.mark.slow] if c.slow else []) for c in cases]


@pytest.mark.parametrize("case", mark_slow(ALONE))
def test_what_becomes_of_bad_input_alone(run, case, tmp_path):
    source = case.write(tmp_path / "in")
    result = run(source, tmp_path / "out", *case.settings)
    assert result.code == case.exit_code, result.err
    for words in [*(case.refused or []), *case.warned]:
        assert words in result.err
    if case.refused is not None:
        assert not (tmp_path / "out").exists()
        return
    Found(tmp_path / "out").check(case, next(iter(case.files), "").rpartition("/")[0])


def test_there_are_cases_enough_and_none_stands_twice():
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)
