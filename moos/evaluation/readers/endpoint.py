"""A reader behind an OpenAI-compatible endpoint, asked for many prompts at a time."""

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

from moos.chat_client import ChatClient, Miss
from moos.errors import DataError
from moos.evaluation.example import ReaderAnswer, ReaderPrompt
from moos.evaluation.reader_config import EndpointReaderConfig
from moos.evaluation.readers.stopping import cut_at_stop
from moos.tokens import TextTokenizer

MOST_STOPS = 4
"""Stop strings in a request; OpenAI takes no more. Answers are cut at all of them here."""


class EndpointReader:
    """A language model that answers over HTTP.

    Requests ask for temperature 0 and seed 0; whether equal prompts have equal answers is up to
    the endpoint. The seconds of an answer are those of the request that brought it, without
    earlier tries; of requests under way together, they overlap.
    """

    def __init__(
        self, config: EndpointReaderConfig, *, sleep: Callable[[float], object] | None = None
    ) -> None:
        """Read the key and the tokenizer; nothing is sent yet.

        Args:
            config: The reader.
            sleep: Waits between tries; by default, such a wait ends when answering is stopped.

        Raises:
            ConfigError: The environment variable of the key holds none.
            ModelError: The tokenizer cannot be read.
        """
        self.name = _name_reader(config)
        self._config = config
        self._client = ChatClient(
            config,
            when_too_long="lower max_context_tokens of its task, or the budget",
            sleep=sleep,
        )
        self._tokenizer = TextTokenizer.from_file(config.tokenizer)

    def count(self, text: str) -> int:
        """Tokens of a text, special tokens left out."""
        return self._tokenizer.count(text)

    def answer(
        self,
        prompts: Sequence[ReaderPrompt],
        on_answer: Callable[[int, ReaderAnswer], None] | None = None,
    ) -> list[ReaderAnswer]:
        """Answer prompts; the answers in their order.

        Args:
            prompts: The prompts.
            on_answer: Told each answer with its position, in the caller's thread. After a failure,
                also those that were under way: they are paid for.

        Raises:
            DataError: A prompt has more tokens than the model takes.
            ModelError: The endpoint refuses a request.
            MoosError: A request failed every try, or cannot be sent.
        """
        answers: dict[int, ReaderAnswer] = {}
        stop = threading.Event()
        pool = ThreadPoolExecutor(self._config.concurrency, "moos-reader")
        asked: dict[Future[ReaderAnswer], int] = {}

        def take(request: Future[ReaderAnswer]) -> None:
            index, answer = asked.pop(request), request.result()
            answers[index] = answer
            if on_answer is not None:
                on_answer(index, answer)

        try:
            for index, prompt in enumerate(prompts):
                asked[pool.submit(self._ask, prompt, stop)] = index
            for request in as_completed(list(asked)):
                take(request)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            for request in [each for each in asked if _has_answer(each)]:
                take(request)
        return [answers[index] for index in range(len(prompts))]

    def _ask(self, prompt: ReaderPrompt, stop: threading.Event) -> ReaderAnswer:
        path, body = _make_request(prompt, self._config)
        answer = self._client.ask(
            path, body, lambda reply, seconds: self._read(reply, prompt, seconds), stop
        )
        if isinstance(answer, Miss):
            num_tokens = self.count(prompt.shared + prompt.own)
            raise DataError(f"{self.name} has no room for {num_tokens} tokens: {answer.seen}")
        return answer

    def _read(self, reply: Any, prompt: ReaderPrompt, seconds: float) -> ReaderAnswer | Miss:
        """The answer in a reply; one without text is empty, and as good as any."""
        try:
            choice = reply["choices"][0]
            text = choice["message"].get("content") if prompt.chat else choice["text"]
        except (LookupError, TypeError, AttributeError):
            return Miss("an answer without choices")
        text = cut_at_stop(text if isinstance(text, str) else "", prompt.stop)
        usage = reply.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        num_prompt, num_answer = counts.get("prompt_tokens"), counts.get("completion_tokens")
        if not isinstance(num_prompt, int):
            num_prompt = self.count(prompt.shared + prompt.own)
        if not isinstance(num_answer, int):
            num_answer = self.count(text)
        return ReaderAnswer(text, num_prompt, num_answer, seconds)


def _name_reader(config: EndpointReaderConfig) -> str:
    """What its answers depend on, for people and for the cache."""
    name = config.name or config.model
    details = [] if name == config.model else [config.model]
    if config.extra_body:
        details.append(json.dumps(config.extra_body, sort_keys=True))
    return f"{name} ({', '.join(details)})" if details else name


def _make_request(prompt: ReaderPrompt, config: EndpointReaderConfig) -> tuple[str, dict[str, Any]]:
    """Path and body that ask for an answer."""
    text = prompt.shared + prompt.own
    body: dict[str, Any] = {
        "model": config.model,
        "max_tokens": prompt.max_new_tokens,
        "temperature": 0,
        "seed": 0,
    }
    if prompt.stop:
        body["stop"] = list(prompt.stop[:MOST_STOPS])
    if prompt.chat:
        path = "/chat/completions"
        body["messages"] = [{"role": "user", "content": text}]
    else:
        path = "/completions"
        body["prompt"] = text
    merged = {**body, **config.extra_body}
    return path, {name: value for name, value in merged.items() if value is not None}


def _has_answer(request: Future[ReaderAnswer]) -> bool:
    return request.done() and not request.cancelled() and request.exception() is None
