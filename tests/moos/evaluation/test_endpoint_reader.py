"""A reader behind a real HTTP server on this machine that plays scripted answers."""

import json
import threading

import pytest

from moos.errors import ConfigError, DataError, ModelError, MoosError
from moos.evaluation.example import ReaderPrompt
from moos.evaluation.reader_config import EndpointReaderConfig
from moos.evaluation.readers import load_reader
from moos.evaluation.readers.endpoint import EndpointReader
from tests.endpoint_server import GOOD, Answer, chat, serve
from tests.tiny_teacher import make_tokenizer

CHAT = ReaderPrompt("Text: a b. ", "Who?", True, 8, ())
PLAIN = ReaderPrompt("Text: a b. ", "Who?", False, 8, ("\n", "Q:"))


def completion(text, **more):
    return json.dumps({"choices": [{"text": text, "finish_reason": "stop"}], **more})


@pytest.fixture
def server():
    with serve() as server:
        yield server


@pytest.fixture(scope="module")
def tokenizer_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    make_tokenizer().backend_tokenizer.save(str(path))
    return str(path)


@pytest.fixture
def make_reader(server, tokenizer_path):
    def make(*, sleep=lambda _: None, **settings):
        url = f"http://127.0.0.1:{server.server_port}/v1"
        given = {"kind": "endpoint", "url": url, "model": "tiny", "tokenizer": tokenizer_path}
        return EndpointReader(EndpointReaderConfig(**given | settings), sleep=sleep)

    return make


def prompts_of(*texts):
    return [ReaderPrompt("", text, True, 8, ()) for text in texts]


def test_a_chat_is_one_turn_of_the_user_decoded_greedily(server, make_reader):
    answer = make_reader().answer([CHAT])[0]
    path, _, request = server.requests[0]
    assert path == "/v1/chat/completions"
    assert request == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Text: a b. Who?"}],
        "max_tokens": 8,
        "temperature": 0,
        "seed": 0,
    }
    assert (answer.text, answer.num_prompt_tokens, answer.num_answer_tokens) == ("Text: b.", 15, 8)
    assert answer.seconds > 0


def test_a_prompt_that_is_no_chat_is_completed_as_it_stands(server, make_reader):
    usage = {"prompt_tokens": 21, "completion_tokens": 3}
    server.script = [Answer(body=completion("Alice \nQ: more", usage=usage))]
    answer = make_reader().answer([PLAIN])[0]
    path, _, request = server.requests[0]
    assert path == "/v1/completions"
    assert (request["prompt"], request["stop"]) == ("Text: a b. Who?", ["\n", "Q:"])
    # The server did not mind what it was to stop at; the tokens are as it counts them.
    assert (answer.text, answer.num_prompt_tokens, answer.num_answer_tokens) == ("Alice ", 21, 3)


def test_four_stop_strings_are_sent_and_all_are_minded(server, make_reader):
    server.script = [Answer(body=chat("yes five"))]
    prompt = ReaderPrompt("", "q", True, 8, ("one", "two", "three", "four", "five"))
    assert make_reader().answer([prompt])[0].text == "yes "
    assert server.requests[0][2]["stop"] == ["one", "two", "three", "four"]


def test_fields_of_ones_own_replace_and_null_leaves_out(server, make_reader):
    more = {"max_tokens": None, "max_completion_tokens": 80, "seed": 3}
    make_reader(extra_body=more).answer([CHAT])
    request = server.requests[0][2]
    assert "max_tokens" not in request
    assert (request["max_completion_tokens"], request["seed"]) == (80, 3)


def test_answers_are_in_order_and_told_as_they_come(server, make_reader):
    together = threading.Barrier(3, timeout=30)  # breaks unless three are under way at a time
    server.default = Answer(waits_for=together.wait)
    prompts = prompts_of(*(f"{number} b c" for number in range(12)))
    told = {}
    answers = make_reader(concurrency=3).answer(prompts, told.__setitem__)
    assert [answer.text for answer in answers] == [f"{number} c" for number in range(12)]
    assert [told[index] for index in range(12)] == answers
    assert server.most_in_flight == 3


@pytest.mark.parametrize(
    "bad",
    [Answer(500), Answer(429, "{}"), Answer(body='{"cho'), Answer(body='{"choices": []}')],
    ids=lambda answer: f"{answer.status}-{answer.body}",
)
def test_a_failure_that_may_pass_is_tried_again(server, make_reader, bad):
    server.script = [bad, bad]
    assert make_reader(retries=2).answer(prompts_of("a b c"))[0].text == "a c"
    assert len(server.requests) == 3


def test_a_failure_that_stays_names_the_knobs(server, make_reader):
    server.default = Answer(body="{}")
    with pytest.raises(MoosError, match=r"failed 2 times, .* without choices; raise retries \(1\)"):
        make_reader(retries=1).answer(prompts_of("a"))


def test_after_a_failure_the_answers_under_way_are_told_and_no_more_is_asked(server, make_reader):
    refused = threading.Event()

    def refuse():
        arrived.wait()
        refused.set()

    arrived = threading.Barrier(2, timeout=30)
    server.script = [Answer(400, "no", waits_for=refuse), Answer(waits_for=arrived.wait)]
    told = {}
    with pytest.raises(ModelError, match="status 400"):
        make_reader(concurrency=2).answer(prompts_of(*"abcdefghij"), told.__setitem__)
    assert refused.is_set()
    assert len(told) >= 1
    assert len(server.requests) == 1 + len(told)


def test_an_answer_without_text_is_empty(server, make_reader):
    server.script = [Answer(body=chat(None, "length"))]
    assert make_reader().answer([CHAT])[0].text == ""


def test_a_prompt_too_long_is_an_error_of_the_data(server, make_reader):
    told = '{"error": {"message": "This model\'s maximum context length is 4096 tokens"}}'
    server.script = [Answer(400, told)]
    with pytest.raises(DataError, match=r"no room for 15 tokens: .*4096.*max_context_tokens"):
        make_reader().answer([CHAT])


def test_tokens_are_counted_by_the_models_tokenizer(make_reader):
    reader = make_reader()
    assert [reader.count(text) for text in ("", "abc")] == [0, 3]


def test_the_name_holds_what_answers_depend_on(make_reader):
    assert make_reader().name == "tiny"
    assert make_reader(name="mine").name == "mine (tiny)"
    assert make_reader(extra_body={"seed": 1}).name == 'tiny ({"seed": 1})'


def test_a_reader_is_loaded_from_its_config(server, tokenizer_path, monkeypatch):
    monkeypatch.delenv("READER_KEY", raising=False)
    config = EndpointReaderConfig(
        kind="endpoint",
        url=f"http://127.0.0.1:{server.server_port}/v1",
        model="tiny",
        tokenizer=tokenizer_path,
        api_key_env="READER_KEY",
    )
    with pytest.raises(ConfigError, match="READER_KEY is not set"):
        load_reader(config)
    monkeypatch.setenv("READER_KEY", "sk-1")
    server.script = [GOOD]
    assert load_reader(config).answer(prompts_of("a b c"))[0].text == "a c"
    assert server.requests[0][1]["Authorization"] == "Bearer sk-1"
