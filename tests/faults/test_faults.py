"""A few seeded injections into the real job, and the harness against itself.

`make soak` tries all kinds with many seeds; what it found stands in `RESULTS.md`.
"""

import os
import subprocess
import sys

import pytest

from tests.faults.acts import run_trial
from tests.faults.compare import Counts, count_records, differing
from tests.faults.injections import KINDS, POISON_KINDS, TRAIN_KINDS, choose_injection
from tests.faults.inputs import make_corpus
from tests.faults.job import ROOT
from tests.faults.machine import PATCHED
from tests.faults.workplace import Workplace

DOCUMENTS = 160
RECORDS = DOCUMENTS + 1
"""A line that is no JSON is a record too."""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, tiny_checkpoint):
    directory = tmp_path_factory.mktemp("faults")
    with Workplace(directory, tiny_checkpoint, documents=DOCUMENTS) as made:
        yield made


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


# All of one shape and format, so that one uninterrupted run serves them all.
@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        slow("disk_full", 2),
        ("kill_committing", 1),
        slow("clock_moved", 8),
        slow("disk_full_commit", 3),
        ("write_error", 5),
        slow("source_changed", 10),
        ("two_drivers", 10),
        slow("fsync_error", 14),
        slow("s3_slow_body", 4),
        slow("s3_mixed", 160),
        slow("s3_wrong_etag", 11),
        slow("read_only_output", 6),
        slow("paused_driver", 2),
        slow("two_runs", 17),
        pytest.param("node_lost_committing", 16, marks=(pytest.mark.ray, pytest.mark.slow)),
        pytest.param("kill_driver_then_replica", 30, marks=(pytest.mark.ray, pytest.mark.slow)),
    ],
)
def test_no_fault_loses_doubles_or_alters_a_record(workplace, kind, seed):
    outcome = run_trial(choose_injection(kind, seed), workplace, verify=False)
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.broken == []
    assert outcome.counts.are_right
    assert outcome.struck
    assert outcome.codes[-1] == 0


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        ("train_worker_killed", 1),
        ("train_driver_killed", 2),
        ("train_state_damaged", 3),
        ("train_disk_full", 1),
        ("train_s3_mixed", 5),
    ],
)
def test_no_fault_changes_a_figure_of_a_training_run(workplace, kind, seed):
    outcome = run_trial(choose_injection(kind, seed), workplace)
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.broken == []
    assert outcome.struck
    assert outcome.codes[-1] == 0


def test_a_kind_and_a_seed_are_always_the_same_injection():
    kinds = KINDS + POISON_KINDS + TRAIN_KINDS
    first = [choose_injection(kind, seed) for kind in kinds for seed in range(20)]
    assert first == [choose_injection(kind, seed) for kind in kinds for seed in range(20)]
    assert {injection.shape for injection in first} == {"jsonl", "jsonl.gz", "parquet"}
    assert {injection.place for injection in first} == {"disk", "s3"}


def test_lost_doubled_and_altered_records_are_counted(workplace, tmp_path):
    injection = choose_injection("kill_local", 16)
    corpus, right = workplace.corpus(injection), workplace.reference(injection)
    assert count_records(right, corpus) == Counts(RECORDS, 0, 0, 0)
    first, second = sorted(name for name in right if name.startswith("data/"))[:2]
    rows = count_records({first: right[first]}, corpus).found
    without = {name: content for name, content in right.items() if name != first}
    assert count_records(without, corpus) == Counts(RECORDS - rows, rows, 0, 0)
    twice = {**right, "data/again.parquet": right[first]}
    assert count_records(twice, corpus) == Counts(RECORDS + rows, 0, rows, 0)
    assert differing(twice, right) == ["data/again.parquet is too much"]
    swapped = {**right, first: right[second], second: right[first]}
    assert differing(swapped, right) == [f"{first} differs", f"{second} differs"]
    other = make_corpus(
        tmp_path / "other", "jsonl", documents=DOCUMENTS, poison="poison_kill", poisonous=2
    )
    assert count_records(right, other).altered > 2


SPAWNING = """
import multiprocessing
import sys

assert not any(name.startswith("moos") for name in sys.modules)


def strike():
    from moos.preparation import prepare_texts

    prepare_texts(["a \\u2620raise"], None, max_length=8)


if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=strike)
    child.start()
    child.join()
"""


def test_a_poisonous_text_strikes_in_child_processes_too(tmp_path):
    script = tmp_path / "spawning.py"
    script.write_text(SPAWNING)
    paths = os.pathsep.join((str(PATCHED), str(ROOT)))
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "RuntimeError: poison: an exception that nobody expects" in done.stderr
