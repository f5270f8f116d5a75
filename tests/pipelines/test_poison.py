"""Documents that raise, hang, fill memory or kill their process: quarantined, and nothing else is.

`tests/faults/patched/sitecustomize.py`, first on the path of the processes started here, makes
documents do these things where they are tokenised.
"""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from moos.errors import DataError, MoosError
from moos.preparation import PreparedText, TextPreparer
from pipelines.attempts import AttemptRecord
from pipelines.child import ChildProcess, ProcessEndedError
from pipelines.compress import prepare_compress, run_compress
from pipelines.compress_worker import ChildStages
from pipelines.run_state import describe_source
from pipelines.stages import PROBE, TextStages
from pipelines.verify import verify_output
from pipelines.watchdog import Watchdog, free_memory, memory_limit, resident_memory
from pipelines.work_spec import WorkSpec

ROOT = Path(__file__).parents[2]
POISON = ROOT / "tests" / "faults" / "patched"
SKULL = "\u2620"
SPLIT = "input.split_bytes=1KiB"


@pytest.fixture
def spec(config, write_jsonl, documents, tmp_path):
    """The spec of a run with short limits."""

    def make(*overrides):
        source = write_jsonl("docs.jsonl", documents(3))
        made = config(source, tmp_path / "out", *overrides)
        run = prepare_compress(made)
        return WorkSpec(
            config=made,
            signature=run.state.signature,
            input_schema=run.plan.input_schema.serialize().to_pybytes(),
            task="compress",
            role="all",
            driver="d",
            device="cpu",
            threads=1,
        )

    return make


@pytest.fixture
def poison_on_path(monkeypatch):
    """Children of this process are open to poison; it is not, itself."""
    monkeypatch.syspath_prepend(str(POISON))


@pytest.mark.slow
def test_a_child_outlives_what_kills_hangs_or_fills_it(spec, poison_on_path):
    limits = ("document_limits.timeout_s=2", "document_limits.memory=1500MiB")
    with contextlib.closing(ChildStages(spec(*limits))) as child:
        (part,) = child.prepare(["A sound text."])
        assert isinstance(part, PreparedText)
        for deed, told in (
            ("kill", r"died by signal 9 \(SIGKILL\)"),
            ("hang-gil", r"hung: no progress in 2 s \(document_limits.timeout_s\)"),
            ("memory", r"took more than 1500 MiB \(document_limits.memory\)"),
        ):
            with pytest.raises(ProcessEndedError, match=told):
                child.prepare(["A sound text.", SKULL + deed])
            (scored,) = child.score([part])  # in the next child
            (document,) = child.compress([scored])
            assert document.num_tokens == len(part.token_words)
        with pytest.raises(DataError, match="processing raised RuntimeError: poison"):
            child.prepare([SKULL + "raise"])
        child.probe()


class TiringChild(ChildProcess):
    """Ends over whatever it is given after its first answer, and over `bad` at once."""

    def _call(self, stage, arguments):
        if self._has_answered or arguments == (["bad"],):
            self._has_answered = False
            raise ProcessEndedError("it took too much memory")
        self._has_answered = True
        return list(arguments[0])


def test_a_single_item_is_blamed_only_for_a_child_of_its_own(spec):
    child = TiringChild(spec())
    assert child.call("prepare", ["a", "b"]) == ["a", "b"]
    assert child.call("prepare", ["c"]) == ["c"]
    with pytest.raises(ProcessEndedError):  # several are tried one by one, by who asks
        child.call("prepare", ["d", "e"])
    assert child.call("prepare", ["d"]) == ["d"]
    with pytest.raises(ProcessEndedError):
        child.call("prepare", ["bad"])


def test_a_child_for_which_the_machine_has_no_room_is_an_error_of_the_run(spec, monkeypatch):
    def refuse(*arguments, **settings):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr("pipelines.child.subprocess.Popen", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MoosError, match=r"could not be started: .*Cannot allocate memory"):
        ChildStages(spec()).prepare(["A sound text."])
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_that_cannot_begin_is_an_error_of_the_run(spec):
    broken = spec()
    broken = replace(broken, signature={**broken.signature, "checkpoint_sha256": "other"})
    with pytest.raises(MoosError, match="not the one the run was planned with"):
        ChildStages(broken).prepare(["A sound text."])


def test_a_child_that_is_ended_leaves_no_copy_of_its_checkpoint(
    spec, tiny_checkpoint, tmp_path, monkeypatch
):
    remote = spec(f"checkpoint={tiny_checkpoint.as_uri()}")
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr("tempfile.tempdir", str(place))
    with contextlib.closing(ChildStages(remote)) as child:
        child.prepare(["A sound text."])
        assert len(list(place.rglob("config.json"))) == 1
    assert list(place.iterdir()) == []


@pytest.fixture
def poisoned_rows(documents):
    """Twelve sound documents with three poisonous ones among them."""
    records = documents(12)
    for place, deed in ((3, "raise"), (5, "kill"), (9, "kill")):
        records.insert(place, {"id": deed + str(place), "text": f"Some text {SKULL}{deed} here."})
    return records


@pytest.mark.slow
def test_what_an_attempt_left_behind_is_worked_apart_and_the_culprits_quarantined(
    compress, config, write_jsonl, poisoned_rows, tmp_path, poison_on_path, read_rows,
    read_quarantine,
):  # fmt: skip
    records = poisoned_rows[:9]  # two of the three; every one that kills costs a child's start
    source = write_jsonl("docs.jsonl", records)
    overrides = ("input.id_column=id", "max_quarantined=1")
    plain = compress(source, tmp_path / "plain", *overrides)
    assert plain["documents"] == 9  # this process is immune
    run = prepare_compress(config(source, tmp_path / "out", *overrides))
    (split,) = run.plan.splits
    record = AttemptRecord(run.state, f"{split.id}-compress-work", describe_source(split))
    record.write(["a driver that is gone"])
    summary = compress(source, tmp_path / "out", *overrides)
    assert (summary["documents"], summary["quarantined"]) == (7, 2)
    texts = {row["id"]: row["compressed_text"] for row in read_rows(tmp_path / "plain")}
    rows = read_rows(tmp_path / "out")
    assert {row["id"]: row["compressed_text"] for row in rows} == {
        name: text for name, text in texts.items() if name.startswith("d")
    }
    reasons = {record["id"]: record["reason"] for record in read_quarantine(tmp_path / "out")}
    assert reasons.keys() == {"raise3", "kill5"}
    assert reasons["raise3"] == (
        "processing raised RuntimeError: poison: an exception that nobody expects"
    )
    assert "died by signal 9" in reasons["kill5"]
    assert not verify_output(str(tmp_path / "out")).broken

    # Tried again where nothing kills them: only they are worked, and the rest stays as it was.
    summary = run_compress(config(source, tmp_path / "out", *overrides), retry_quarantined=True)
    assert (summary["documents"], summary["quarantined"]) == (9, 0)
    assert summary["documents_scored"] == 2
    assert [row["id"] for row in read_rows(tmp_path / "out")] == [r["id"] for r in records]
    assert {row["id"]: row["compressed_text"] for row in read_rows(tmp_path / "out")} == texts
    assert not list((tmp_path / "out" / "quarantine").glob("*"))
    assert not verify_output(str(tmp_path / "out")).broken


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_trying_again_gives_the_bytes_of_a_run_that_had_no_trouble(
    compress, config, write_jsonl, documents, tmp_path, monkeypatch, snapshot, form
):
    records = [*documents(20), b"nope", *documents(20, 20)]
    source = write_jsonl("docs.jsonl", records)
    overrides = (SPLIT, f"output.format={form}", "max_quarantined=1")
    compress(source, tmp_path / "whole", *overrides)
    prepare = TextPreparer.prepare

    def fail(self, texts):
        if any(text[:2] in ("3.", "7.", "12", "39") for text in texts):
            raise RuntimeError("not today")
        return prepare(self, texts)

    with monkeypatch.context() as patch:
        patch.setattr(TextPreparer, "prepare", fail)
        assert compress(source, tmp_path / "out", *overrides)["quarantined"] == 5
    summary = run_compress(config(source, tmp_path / "out", *overrides), retry_quarantined=True)
    assert summary["quarantined"] == 1  # what is no JSON stays that
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


def test_a_fault_that_is_not_the_documents_quarantines_nothing(
    compress, write_jsonl, documents, tmp_path, monkeypatch
):
    def fail(self, texts):
        raise RuntimeError("the device is gone")

    source = write_jsonl("docs.jsonl", documents(5))
    with monkeypatch.context() as patch:
        patch.setattr(TextStages, "begin_score", fail)
        patch.setattr(TextStages, "probe", lambda self: self.score([PROBE]))
        with pytest.raises(MoosError, match=r"fails on every text.*the device is gone"):
            compress(source, tmp_path / "out")
    assert compress(source, tmp_path / "out")["documents"] == 5


@pytest.mark.parametrize("fails", ["begin", "end"])
def test_a_document_that_the_model_fails_on_leaves_the_others_as_they_are(
    compress, write_jsonl, documents, tmp_path, monkeypatch, read_rows, read_quarantine, fails
):
    sound = documents(40)
    bad = [{"id": "a", "text": "bad one"}, {"id": "b", "text": "another bad one"}]
    alone = write_jsonl("sound.jsonl", sound)
    mixed = write_jsonl("mixed.jsonl", [*sound[:20], bad[0], *sound[20:], bad[1]])
    begin = TextStages.begin_score

    def fail(self, parts):
        is_bad = any("bad" in part.text for part in parts)
        if is_bad and fails == "begin":
            raise RuntimeError("not this one")
        end = begin(self, parts)

        def wait():
            if is_bad:
                raise RuntimeError("not this one")
            return end()

        return wait

    compress(alone, tmp_path / "alone", SPLIT)
    monkeypatch.setattr(TextStages, "begin_score", fail)
    summary = compress(mixed, tmp_path / "mixed", SPLIT, "max_quarantined=1", "input.id_column=id")
    assert summary["quarantined"] == 2
    quarantined = read_quarantine(tmp_path / "mixed")
    assert {record["id"] for record in quarantined} == {"a", "b"}
    assert all("RuntimeError: not this one" in record["reason"] for record in quarantined)
    texts = [
        [row["compressed_text"] for row in read_rows(tmp_path / n)] for n in ("alone", "mixed")
    ]
    assert texts[0] == texts[1]


def run_job(source, output, checkpoint, *overrides):
    """The job as a process of its own, poison on its path."""
    return subprocess.run(
        [
            sys.executable, "-m", "jobs.compress", f"input.path={source}", f"output.path={output}",
            f"checkpoint={checkpoint}", "pool.cpus_per_replica=1", "pool.gpus_per_replica=0",
            "max_quarantined=1", "input.id_column=id", *overrides,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(POISON)},
        capture_output=True,
        check=False,
        timeout=200,
    )  # fmt: skip


@pytest.mark.slow
def test_a_local_run_that_dies_of_a_document_goes_on_without_it(
    write_jsonl, poisoned_rows, tmp_path, tiny_checkpoint, read_rows, read_quarantine
):
    source = write_jsonl("docs.jsonl", poisoned_rows)
    first = run_job(source, tmp_path / "out", tiny_checkpoint, "executor=local")
    assert first.returncode == -signal.SIGKILL
    second = run_job(source, tmp_path / "out", tiny_checkpoint, "executor=local")
    assert second.returncode == 0, second.stderr.decode()[-2000:]
    assert json.loads(second.stdout)["quarantined"] == 3
    assert len(read_rows(tmp_path / "out")) == 12
    assert {r["id"] for r in read_quarantine(tmp_path / "out")} == {"raise3", "kill5", "kill9"}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("stages", ["fused", "split"])
def test_a_run_on_ray_gets_past_documents_that_kill_and_hang(
    write_jsonl, poisoned_rows, tmp_path, tiny_checkpoint, read_rows, read_quarantine, stages
):
    poisoned_rows[9] = {"id": "hang", "text": f"{SKULL}hang-gil"}
    source = write_jsonl("docs.jsonl", poisoned_rows)
    limits = ("document_limits.timeout_s=3", f"stages={stages}", "pool.replicas=1")
    done = run_job(source, tmp_path / "out", tiny_checkpoint, *limits)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert len(read_rows(tmp_path / "out")) == 12
    reasons = {r["id"]: r["reason"] for r in read_quarantine(tmp_path / "out")}
    assert reasons.keys() == {"raise3", "kill5", "hang"}
    assert "hung: no progress in 3 s" in reasons["hang"]


@pytest.mark.slow
def test_a_watchdog_ends_a_process_that_does_nothing_or_too_much():
    script = (
        "import sys, time; from pipelines.watchdog import Watchdog\n"
        "with Watchdog(float(sys.argv[1]), int(sys.argv[2])) as dog:\n"
        "    for _ in range(8): time.sleep(0.25); dog.beat()\n"
        "    held = b'x' * (int(sys.argv[3]) << 20)\n"
        "    time.sleep(1.5)\n"
        "print('alive')\n"
    )

    def run(timeout_s, limit, taken):
        command = [sys.executable, "-c", script, str(timeout_s), str(limit << 20), str(taken)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert run(30, 4000, 1).stdout == "alive\n"
    hung = run(1, 4000, 1)
    assert (hung.returncode, hung.stdout) == (1, "")
    assert "no progress in 1 s (document_limits.timeout_s)" in hung.stderr
    assert "run the same command again to resume" in hung.stderr
    filled = run(30, 300, 400)
    assert (filled.returncode, filled.stdout) == (1, "")
    assert "over its limit of 300 MiB (document_limits.memory)" in filled.stderr


def test_memory_is_measured():
    mine = resident_memory(os.getpid())
    assert 10 << 20 < mine < 64 << 30
    assert resident_memory(2**22 + 1) == 0
    assert mine < memory_limit("auto") <= mine * 2 + free_memory()
    assert memory_limit(5 << 20) == 5 << 20


def test_a_watchdog_that_is_off_does_nothing():
    dog = Watchdog(0.1, 1)
    dog.beat()
