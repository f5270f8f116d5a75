"""A teacher behind a real HTTP server on this machine that plays scripted answers."""

import json
import logging
import pickle
import socket
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import ValidationError

from moos.chat_client import read_retry_after
from moos.config import load_config
from moos.errors import ConfigError, ModelError, MoosError
from moos.storage import Storage
from moos.teachers.answer_cache import AnswerCache
from moos.teachers.endpoint import (
    EndpointConfig,
    EndpointTeacher,
    TeacherFailure,
)
from moos.teachers.prompts import Prompt
from tests.endpoint_server import GOOD, Answer, chat, serve

PROMPT = Prompt("test-1", "Delete words.", (("one two three", "one three"),))
KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server():
    with serve() as server:
        yield server


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path))


@pytest.fixture
def make_teacher(server, storage):
    def make(*, prompt=PROMPT, sleep=lambda _: None, **settings):
        url = f"http://127.0.0.1:{server.server_port}/v1"
        config = EndpointConfig(**{"url": url, "model": "tiny", "max_words": 4} | settings)
        cache = AnswerCache(storage, "answers")
        return EndpointTeacher(config, prompt, cache, sleep=sleep)

    return make


def cached_bytes(storage):
    files = [
        storage.get(f"answers/{name}/{file}")
        for name in storage.list("answers", directories=True)
        for file in storage.list(f"answers/{name}")
    ]
    return b"".join(files)


def test_a_document_is_asked_for_in_chunks_and_joined_in_order(server, make_teacher):
    texts = ["A b c d. E f g. H i.", "", "J k l"]
    answers = dict(make_teacher().compress(texts))
    assert answers == {0: "A c\nE g.\nH", 1: "", 2: "J l"}
    contents = sorted(request["messages"][-1]["content"] for _, _, request in server.requests)
    assert contents == ["A b c d.", "E f g.", "H i.", "J k l"]


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({}, {"temperature": 0.0}),
        ({"temperature": 0.7, "max_tokens": 9}, {"temperature": 0.7, "max_tokens": 9}),
    ],
)
def test_a_request_is_an_openai_chat_with_the_prompts_turns(server, make_teacher, settings, sent):
    list(make_teacher(**settings).compress(["J k l"]))
    path, headers, request = server.requests[0]
    assert path == "/v1/chat/completions"
    assert request == {"model": "tiny", "messages": PROMPT.messages("J k l"), **sent}
    assert "Authorization" not in headers


def test_a_query_of_the_url_stays_behind_the_path(server, make_teacher):
    url = f"http://127.0.0.1:{server.server_port}/v1/?api-version=2024-10-21"
    list(make_teacher(url=url).compress(["J k l"]))
    assert server.requests[0][0] == "/v1/chat/completions?api-version=2024-10-21"


@pytest.mark.parametrize(
    "bad",
    [
        Answer(429, "{}"),
        Answer(500, "oops"),
        Answer(502),
        Answer(503),
        Answer(504),
        Answer(200, '{"choices": [{"mess'),
        Answer(200, chat("J l"), length=500),  # the connection closes before the body's end
        Answer(200, "<html>"),
        Answer(200, chat("")),
        Answer(200, '{"choices": []}'),
        Answer(200, '{"error": {"message": "overloaded"}}'),
    ],
    ids=lambda answer: f"{answer.status}-{answer.body}",
)
def test_a_failure_that_may_pass_is_tried_again(server, make_teacher, bad):
    server.script = [bad, bad]
    assert list(make_teacher(retries=2).compress(["J k l"])) == [(0, "J l")]
    assert len(server.requests) == 3


def test_waits_grow_and_are_drawn_unless_the_endpoint_says_how_long(server, make_teacher):
    told = Answer(429, "{}", {"Retry-After": "7"})
    far = Answer(503, "{}", {"Retry-After": "3600"})
    server.script = [Answer(500), told, Answer(500), far, Answer(500)]
    waits = []
    assert list(make_teacher(sleep=waits.append).compress(["J k l"])) == [(0, "J l")]
    assert (waits[1], waits[3]) == (7.0, 60.0)
    assert 0.5 <= waits[0] <= 1
    assert 2 <= waits[2] <= 4
    assert 8 <= waits[4] <= 16


def test_drawn_waits_never_exceed_a_minute(server, make_teacher):
    server.script = [Answer(500)] * 12
    waits = []
    list(make_teacher(sleep=waits.append, retries=12).compress(["J k l"]))
    assert all(30 <= wait <= 60 for wait in waits[6:])


def test_retry_after_is_seconds_or_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    late = format_datetime(datetime.now(UTC) + timedelta(days=30), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=30), usegmt=True)
    assert 20 < read_retry_after(soon) <= 30
    said = [read_retry_after(value) for value in ("0", " 1.5 ", "61", late, past)]
    assert said == [0.0, 1.5, 60.0, 60.0, 0.0]
    useless = [None, "", "soon", "-1", "nan", "Mon, 99 Foo 2024 00:00:00 GMT"]
    assert [read_retry_after(value) for value in useless] == [None] * len(useless)


def test_an_endpoint_that_stays_silent_is_tried_again(server, make_teacher):
    server.script = [Answer(waits_for=server.released.wait)]
    assert list(make_teacher(timeout_s=0.2).compress(["J k l"])) == [(0, "J l")]
    assert len(server.requests) == 2


def test_a_failure_that_stays_stops_the_run_and_names_the_knobs(server, make_teacher):
    server.default = Answer(503, "come back later")
    with pytest.raises(MoosError) as caught:
        list(make_teacher(retries=2, concurrency=3, timeout_s=9).compress(["J k l"]))
    assert str(caught.value) == (
        f"http://127.0.0.1:{server.server_port}/v1/chat/completions failed 3 times, last with "
        "status 503: come back later; raise retries (2) or timeout_s (9), or lower concurrency "
        "(3). Answers so far are cached; run again"
    )
    assert len(server.requests) == 3


def test_an_endpoint_that_is_not_there_stops_the_run(make_teacher):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    teacher = make_teacher(url=f"http://127.0.0.1:{port}", retries=1)
    with pytest.raises(MoosError, match=rf":{port}/chat/completions failed 2 times, .*Refused"):
        list(teacher.compress(["J k l"]))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 301, 307])
def test_a_refusal_stops_the_run_at_once(server, make_teacher, status):
    body = "no such model " + 300 * "x"
    server.default = Answer(status, body, {"Location": "http://127.0.0.1:9/elsewhere"})
    with pytest.raises(ModelError) as caught:
        list(make_teacher(api_key_env=None).compress(["J k l"]))
    url = f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
    hint = "; see api_key_env (None)" if status in (401, 403) else ""
    assert str(caught.value) == f"{url} answered with status {status}: {body[:200]}{hint}"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert len(server.requests) == 1


def test_the_key_is_sent_as_bearer_and_shown_nowhere(
    server, storage, make_teacher, monkeypatch, caplog
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TEACHER_KEY", f"{KEY}\n")
    teacher = make_teacher(api_key_env="TEACHER_KEY")
    server.script = [Answer(500, f"not with {KEY}")]
    assert list(teacher.compress(["J k l"])) == [(0, "J l")]
    assert server.requests[0][1]["Authorization"] == f"Bearer {KEY}"
    server.default = Answer(401, f"Incorrect API key: {KEY}")
    with pytest.raises(ModelError) as caught:
        list(teacher.compress(["M n o"]))
    assert "Incorrect API key: ***; see api_key_env (TEACHER_KEY)" in str(caught.value)
    shown = [str(caught.value), repr(teacher), caplog.text, cached_bytes(storage).decode()]
    assert not any(KEY in text for text in shown)
    assert "not with ***" in caplog.text


@pytest.mark.parametrize("value", [None, "", "  ", "two words", "schlüssel", "a\nb"])
def test_a_key_that_is_missing_or_none_is_a_config_error(make_teacher, monkeypatch, value):
    if value is None:
        monkeypatch.delenv("TEACHER_KEY", raising=False)
    else:
        monkeypatch.setenv("TEACHER_KEY", value)
    with pytest.raises(ConfigError) as caught:
        make_teacher(api_key_env="TEACHER_KEY")
    assert str(caught.value) == (
        "api_key_env: the environment variable TEACHER_KEY is not set to a key"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"url": f"https://user:{KEY}@host/v1"},
        {"url": f"https://{KEY}@host/v1"},
        {"url": f"https://host/v1?api_key={KEY}"},
        {"url": "https://host/v1?Token=short"},
        {"url": f"https://host/v1?k={KEY}"},
        {"url": f"https://host/v1?{KEY}"},
        {"url": f"https://host/v1#{KEY}"},
        {"url": f"https://[x@{KEY}"},
        {"api_key_env": KEY},
        {"api_key": KEY},
    ],
    ids=str,
)
def test_a_config_that_holds_a_key_is_refused_without_showing_it(settings, tmp_path):
    path = tmp_path / "teacher.yaml"
    path.write_text(json.dumps({"url": "https://host/v1", "model": "m"} | settings))
    with pytest.raises(ConfigError, match="environment variable") as caught:
        load_config(EndpointConfig, path)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("url", ["host/v1", "ftp://host/v1", "http://", "http://h:x/", "http://["])
def test_a_url_that_is_not_http_is_refused(url):
    with pytest.raises(ValidationError, match="url"):
        EndpointConfig(url=url, model="m")


@pytest.mark.parametrize(
    ("body", "seen", "num_requests"),
    [
        ("{}", "an answer without choices", 3),
        ("[]", "an answer without choices", 3),
        ('{"choices": [{}]}', "an answer without choices", 3),
        ('{"choices": [{"message": {}}]}', "an answer without content", 3),
        (chat(None), "an answer without content", 3),
        (chat(" \n"), "an answer without content", 3),
        (
            chat("E \ud83d"),
            "an answer whose text holds the lone surrogate U+D83D at character 2, "
            "which is not valid Unicode text",
            3,
        ),
        # At temperature 0, the same would come again.
        (
            chat("E", "length"),
            "an answer cut short (finish_reason length, max_tokens None)",
            1,
        ),
    ],
)
def test_an_answer_of_no_use_costs_its_document_alone(
    server, storage, make_teacher, body, seen, num_requests
):
    server.script = [GOOD] + [Answer(200, body)] * num_requests
    answers = dict(make_teacher(retries=2, concurrency=1).compress(["A b c d. E f g.", "J k l"]))
    assert answers == {0: TeacherFailure(f"chunk 2 of 2: the teacher gave {seen}"), 1: "J l"}
    assert len(server.requests) == 2 + num_requests
    assert cached_bytes(storage).count(b"answer") == 2  # what is of no use is not kept


def test_a_sampled_answer_that_was_cut_short_is_asked_for_again(server, make_teacher):
    server.script = [Answer(200, chat("J", "length"))]
    assert list(make_teacher(temperature=0.5).compress(["J k l"])) == [(0, "J l")]


def test_requests_under_way_never_exceed_the_setting(server, make_teacher):
    together = threading.Barrier(3, timeout=30)  # breaks unless three are under way at a time
    server.default = Answer(waits_for=together.wait)
    texts = [f"{number} b c" for number in range(12)]
    answers = dict(make_teacher(concurrency=3).compress(texts))
    assert answers == {number: f"{number} c" for number in range(12)}
    assert server.most_in_flight == 3


def test_answers_come_as_they_are_finished(server, make_teacher):
    server.script = [Answer(waits_for=server.released.wait)]
    answers = make_teacher(concurrency=2).compress(["A b c", "J k l"])
    assert next(answers) in [(0, "A c"), (1, "J l")]  # whichever was not held up
    server.released.set()
    assert len(list(answers)) == 1


def test_an_answer_in_the_cache_costs_no_request(server, make_teacher):
    texts = ["A b c d. E f g.", "E f g.", "J k l"]
    first = dict(make_teacher().compress(texts))
    assert len(server.requests) == 3  # the chunk that two documents share is asked for once
    assert dict(make_teacher().compress(texts)) == first
    assert len(server.requests) == 3


def test_half_a_surrogate_pair_in_the_cache_is_asked_for_again(server, storage, make_teacher):
    list(make_teacher().compress(["J k l"]))
    (directory,) = storage.list("answers", directories=True)
    (file,) = storage.list(f"answers/{directory}")
    name = f"answers/{directory}/{file}"
    record = json.loads(storage.get(name))
    storage.put(name, json.dumps({**record, "answer": "J \ud83d"}).encode())
    assert list(make_teacher().compress(["J k l"])) == [(0, "J l")]
    assert len(server.requests) == 2
    assert json.loads(storage.get(name)) == record


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {"prompt": Prompt("test-2", PROMPT.instruction, PROMPT.examples)},
        {"prompt": Prompt("test-1", "Delete more.", PROMPT.examples)},  # under the old name
        {"temperature": 0.5},
        {"max_tokens": 5},
    ],
    ids=str,
)
def test_another_model_prompt_or_setting_asks_anew(server, make_teacher, changes):
    list(make_teacher().compress(["J k l"]))
    list(make_teacher(**changes).compress(["J k l"]))
    assert len(server.requests) == 2


def test_a_stopped_run_goes_on_from_the_cache(server, make_teacher):
    texts = ["A b c", "D e f", "G h i"]
    server.script = [GOOD, GOOD, Answer(400)]
    with pytest.raises(ModelError):
        list(make_teacher(concurrency=1).compress(texts))
    assert dict(make_teacher().compress(texts)) == {0: "A c", 1: "D f", 2: "G i"}
    assert len(server.requests) == 4


def test_a_consumer_that_leaves_ends_waits_and_sends_nothing_more(server, make_teacher):
    server.script = [GOOD]
    came = threading.Event()
    server.default = Answer(503, "{}", {"Retry-After": "60"}, waits_for=came.set)
    texts = [f"{number} b c" for number in range(50)]
    with closing(make_teacher(concurrency=1, sleep=None).compress(texts)) as answers:
        assert next(answers) == (0, "0 c")
        assert came.wait(30)
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_chunk_too_long_for_the_model_costs_its_document_alone(server, make_teacher, status):
    told = '{"error": {"message": "This model\'s maximum context length is 4096 tokens"}}'
    server.script = [Answer(status, body=told)]
    results = dict(make_teacher(concurrency=1).compress(["one two three", "four five six"]))
    assert "maximum context length" in results[0].reason
    assert "lower max_words" in results[0].reason
    assert results[1] == "four six"
    assert len(server.requests) == 2


def test_fields_of_ones_own_are_sent_and_part_of_the_key(server, make_teacher):
    more = {"extra_body": {"max_completion_tokens": 9}, "temperature": None}
    for _ in range(2):
        list(make_teacher(**more).compress(["one two three"]))
    list(make_teacher().compress(["one two three"]))
    first, second = (request for _, _, request in server.requests)
    assert first["max_completion_tokens"] == 9
    assert "temperature" not in first
    assert second["temperature"] == 0.0
