"""What the cache of a teacher's answers gives back, and what it takes for absent."""

import json

import pytest

from moos.storage import Storage
from moos.teachers.answer_cache import AnswerCache, AnswerKey

KEY = AnswerKey.of(prompt="p-1", model="m", content="Some text.", settings={"temperature": 0.0})


@pytest.fixture
def cache(tmp_path):
    return AnswerCache(Storage(str(tmp_path)), "answers")


def path_of(key, tmp_path):
    return tmp_path / "answers" / key.digest[:2] / f"{key.digest}.json"


@pytest.mark.parametrize("answer", ["text", "", "Zeilen\nund “Zeichen” 😀", "\ud800"])
def test_an_answer_is_found_again_by_another_process(cache, tmp_path, answer):
    assert cache.get(KEY) is None
    cache.put(KEY, answer)
    assert AnswerCache(Storage(str(tmp_path)), "answers").get(KEY) == answer


def test_an_entry_says_what_it_answers_without_the_content(cache, tmp_path):
    cache.put(KEY, "text")
    written = path_of(KEY, tmp_path).read_text(encoding="utf-8")
    assert json.loads(written) == {
        "prompt": "p-1",
        "model": "m",
        "content_sha256": KEY.content_sha256,
        "settings": {"temperature": 0.0},
        "answer": "text",
    }
    assert "Some text." not in written


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "p-2"},
        {"model": "n"},
        {"content": "Some text"},
        {"settings": {"temperature": 0.5}},
        {"prompt": "p-1m", "model": ""},  # parts do not run together
    ],
)
def test_another_prompt_model_content_or_setting_is_another_key(cache, other):
    same = {
        "prompt": "p-1",
        "model": "m",
        "content": "Some text.",
        "settings": {"temperature": 0.0},
    }
    assert AnswerKey.of(**same) == KEY
    key = AnswerKey.of(**{**same, **other})
    assert key.digest != KEY.digest
    cache.put(KEY, "text")
    assert cache.get(key) is None


def test_the_order_of_settings_does_not_matter():
    settings = {"temperature": 0.0, "max_tokens": None}
    turned = dict(reversed(settings.items()))
    keys = [
        AnswerKey.of(prompt="p", model="m", content="c", settings=some)
        for some in (settings, turned)
    ]
    assert keys[0].digest == keys[1].digest


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b'{"answer": "te',
        b"\xff\xfe\xff",
        b"[1]",
        b'"text"',
        b"{}",
        b'{"answer": "text"}',  # of no key
        json.dumps({**KEY.to_json(), "answer": None}).encode(),
        json.dumps({**KEY.to_json(), "model": "n", "answer": "text"}).encode(),  # of another key
        b"[" * 100_000,
    ],
    ids=range(10),
)
def test_a_damaged_entry_is_as_if_absent_and_can_be_replaced(cache, tmp_path, damaged):
    cache.put(KEY, "text")
    path_of(KEY, tmp_path).write_bytes(damaged)
    assert cache.get(KEY) is None
    cache.put(KEY, "text")
    assert cache.get(KEY) == "text"
