"""What is answered once is never asked for again, whatever happened in between."""

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moos.errors import MoosError
from moos.evaluation.example import ReaderAnswer, ReaderPrompt
from moos.evaluation.readers import cached
from moos.evaluation.readers.cached import CachedReader
from moos.storage import Storage

PROMPT = ReaderPrompt("Text. ", "Question?", True, 8, ("\n",))


class EchoReader:
    """Answers with the prompt's text, and notes what it was asked."""

    def __init__(self, name="echo", *, fails_at=None):
        self.name = name
        self.fails_at = fails_at
        self.asked = []

    def count(self, text):
        return len(text)

    def answer(self, prompts, on_answer=None):
        answers = []
        for index, prompt in enumerate(prompts):
            text = prompt.shared + prompt.own
            if text == self.fails_at:
                raise MoosError("the reader does not answer")
            self.asked.append(text)
            answers.append(ReaderAnswer(f"{text}\u2028\ud800", len(text), 1, 0.25))
            on_answer(index, answers[-1])
        return answers


def prompts_of(*texts):
    return [ReaderPrompt("", text, False, 8, ()) for text in texts]


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path))


@pytest.fixture
def ask(storage):
    """What a reader behind the cache is asked, with the answers."""

    def ask(prompts, **settings):
        echo = EchoReader(**settings)
        return echo.asked, CachedReader(echo, storage, "cache").answer(prompts)

    return ask


def parts_of(tmp_path):
    return sorted((tmp_path / "cache").rglob("*.jsonl"))


def test_an_answer_in_the_cache_is_not_asked_for_again(ask, tmp_path):
    asked, first = ask(prompts_of("a", "b", "a"))
    assert asked == ["a", "b"]
    assert [answer.num_prompt_tokens for answer in first] == [1, 1, 1]
    asked, second = ask(prompts_of("b", "c", "a"))
    assert asked == ["c"]
    assert [second[0], second[2]] == [first[1], first[0]]
    assert len(parts_of(tmp_path)) == 2
    assert ask(prompts_of("a", "b", "c"))[0] == []
    assert len(parts_of(tmp_path)) == 2


def test_within_one_process_answers_are_remembered(storage):
    echo = EchoReader()
    reader = CachedReader(echo, storage, "cache")
    assert reader.answer(prompts_of("a")) == reader.answer(prompts_of("a"))
    assert echo.asked == ["a"]
    assert (reader.name, reader.count("abc")) == ("echo", 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"own": "Other?"},
        {"chat": False},
        {"max_new_tokens": 9},
        {"stop": ()},
        {"stop": ("\n", ".")},
    ],
    ids=str,
)
def test_another_way_to_ask_asks_anew(ask, changes):
    ask([PROMPT])
    assert len(ask([dataclasses.replace(PROMPT, **changes)])[0]) == 1


def test_another_reader_asks_anew(ask):
    ask([PROMPT])
    assert len(ask([PROMPT], name="echo (bfloat16)")[0]) == 1


def test_where_a_prompt_is_cut_makes_no_difference(ask):
    ask([PROMPT])
    assert ask([dataclasses.replace(PROMPT, shared="Text. Question", own="?")])[0] == []


def test_every_answer_is_told_at_its_positions_the_cached_ones_first(ask, storage):
    ask(prompts_of("b"))
    told = []
    reader = CachedReader(EchoReader(), storage, "cache")
    answers = reader.answer(
        prompts_of("a", "b", "a"), lambda index, answer: told.append((index, answer))
    )
    assert told == [(1, answers[1]), (0, answers[0]), (2, answers[2])]


def test_answers_before_a_failure_are_kept(storage, ask):
    failing = CachedReader(EchoReader(fails_at="c"), storage, "cache")
    with pytest.raises(MoosError, match="does not answer"):
        failing.answer(prompts_of(*"abcd"))
    assert ask(prompts_of(*"abcd"))[0] == ["c", "d"]


def test_parts_are_written_in_time_and_in_number(storage, monkeypatch, tmp_path):
    monkeypatch.setattr(cached, "FLUSH_ANSWERS", 3)
    now = iter([0.0, 0.0, 59.0, 59.5, 61.0, 121.0, *[200.0] * 20])
    numbers = []
    reader = CachedReader(EchoReader(), storage, "cache", clock=lambda: next(now))
    prompts = prompts_of(*"abcdefghi")
    reader.answer(prompts, lambda *_: numbers.append(len(parts_of(tmp_path))))
    # a: 0 s; b: 59 s; c: the third; d: 61 s, 60 s after which it is written; then three at a time.
    assert numbers == [0, 0, 1, 2, 2, 2, 3, 3, 3]
    assert len(parts_of(tmp_path)) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data.replace(b'"answer"', b'"Answer"'),
        lambda data: data.replace(b"0.25", b"0.75"),
        lambda data: bytes([data[0] ^ 255]) + data[1:],
    ],
)
def test_a_damaged_part_is_as_if_absent(ask, tmp_path, damage, caplog):
    ask(prompts_of("a", "b"))
    ask(prompts_of("c"))
    part = next(path for path in parts_of(tmp_path) if path.read_bytes().count(b"\n") == 2)
    part.write_bytes(damage(part.read_bytes()))
    with caplog.at_level(logging.WARNING):
        asked, answers = ask(prompts_of("a", "b", "c"))
    assert asked == ["a", "b"]
    assert {answer.seconds for answer in answers} == {0.25}
    assert f"{part.name} is damaged" in caplog.text
    assert ask(prompts_of("a", "b", "c"))[0] == []


def test_what_a_killed_write_left_is_not_read(ask, tmp_path):
    ask(prompts_of("a"))
    part = parts_of(tmp_path)[0]
    part.with_name(f"{part.name}.0a1b2c3d.tmp").write_bytes(b'{"half')
    assert ask(prompts_of("a"))[0] == []


def test_a_part_says_what_its_answers_depend_on(ask, tmp_path):
    ask([PROMPT])
    record = json.loads(parts_of(tmp_path)[0].read_text())
    assert record["model"] == "echo"
    assert record["settings"] == {"chat": True, "max_new_tokens": 8, "stop": ["\n"]}
    assert set(record["answer"]) == {"text", "num_prompt_tokens", "num_answer_tokens", "seconds"}


KILLED = """
import os, signal, sys
sys.path.insert(0, os.getcwd())
from moos.evaluation.example import ReaderAnswer, ReaderPrompt
from moos.evaluation.readers import cached
from moos.storage import Storage

class Reader:
    name = "echo"
    def count(self, text):
        return len(text)
    def answer(self, prompts, on_answer):
        for index in range(len(prompts)):
            if index == 7:
                os.kill(os.getpid(), signal.SIGKILL)
            on_answer(index, ReaderAnswer("x", 1, 1, 0.25))

cached.FLUSH_ANSWERS = 3
reader = cached.CachedReader(Reader(), Storage(sys.argv[1]), "cache")
reader.answer([ReaderPrompt("", str(number), False, 8, ()) for number in range(10)])
"""


def test_a_killed_run_goes_on_from_its_last_part(ask, tmp_path):
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert ask(prompts_of(*"0123456789"))[0] == ["6", "7", "8", "9"]
