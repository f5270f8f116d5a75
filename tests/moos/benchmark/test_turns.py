import os

import pytest

from moos.benchmark.memory import tree_memory
from moos.benchmark.turns import ContestantError, ContestantProcess
from tests.bench_contestants import EchoSpec


@pytest.fixture
def process():
    started = ContestantProcess("echo", EchoSpec(), threads=1)
    started.wait_loaded()
    yield started
    started.close()


def test_a_contestant_answers_from_a_process_of_its_own_with_its_cores(process):
    assert process.ask("repeat", "text") == ("text", 1)
    assert tree_memory(os.getpid()) > 0


def test_what_a_contestant_prints_is_no_result(process, capfd):
    process.ask("shout")
    assert capfd.readouterr().out == ""


def test_a_contestant_that_fails_says_why_and_goes_on(process):
    with pytest.raises(ContestantError, match="ValueError: no such thing"):
        process.ask("fail")
    assert process.ask("repeat", "again")[0] == "again"
    with pytest.raises(ContestantError, match="ended with exit code 7"):
        process.ask("die")
    with pytest.raises(ContestantError, match="ended with exit code 7"):
        process.ask("repeat", "text")


def test_a_contestant_that_is_terminated_leaves_nothing_behind(process):
    directory = process.ask("hold_directory")
    assert os.path.isdir(directory)
    with pytest.raises(ContestantError, match="ended with exit code 143"):
        process.ask("terminate")
    assert not os.path.exists(directory)


def test_a_contestant_that_cannot_be_loaded_says_why():
    process = ContestantProcess("echo", EchoSpec(is_broken=True), threads=1)
    with pytest.raises(ContestantError, match="OSError: no file"):
        process.wait_loaded()
    process.close()
