"""A teacher behind an OpenAI-compatible chat endpoint, asked for documents chunk by chunk.

Every answer goes to the cache before it is used. A failure that stays stops the run, and the next
run goes on from the cache; an answer that is no compression costs one document alone.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from moos.chat_client import ChatClient, ChatClientConfig, Miss
from moos.errors import DataError
from moos.teachers.answer_cache import AnswerCache, AnswerKey, version_of
from moos.teachers.chunks import cut_chunks
from moos.teachers.prompts import Prompt
from moos.tokens import check_text

PROGRESS_EVERY_S = 2.0


class EndpointConfig(ChatClientConfig):
    """A teacher that is served over HTTP."""

    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = 0.0
    """Sampling temperature; 0 takes the likeliest token, null sends none."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of an answer; null leaves it to the endpoint."""

    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of a request, such as `{max_completion_tokens: 800}`."""

    max_words: Annotated[int, Field(ge=1)] = 200
    """Most words of a document in one request."""


@dataclass(frozen=True, slots=True)
class TeacherFailure:
    """Why a document has no compression."""

    reason: str


class EndpointTeacher:
    """A model behind an endpoint that compresses whole documents."""

    def __init__(
        self,
        config: EndpointConfig,
        prompt: Prompt,
        cache: AnswerCache,
        *,
        sleep: Callable[[float], object] | None = None,
        on_progress: Callable[[], None] | None = None,
    ) -> None:
        """Read the key; nothing is sent yet. By default, waits end when the run is stopped.

        Args:
            config: The teacher.
            prompt: What it is told.
            cache: Its answers so far.
            sleep: Waits between tries.
            on_progress: Called every few seconds, in the caller's thread, while requests are out.

        Raises:
            ConfigError: The environment variable of the key holds none.
        """
        self._config = config
        self._prompt = prompt
        self._cache = cache
        self._on_progress = on_progress or (lambda: None)
        self._client = ChatClient(config, when_too_long="lower max_words", sleep=sleep)
        self._version = version_of(prompt)
        sent = config.model_dump(include={"temperature", "max_tokens"}, exclude_none=True)
        self._settings = {**sent, **config.extra_body}

    def compress(self, texts: Sequence[str]) -> Iterator[tuple[int, str | TeacherFailure]]:
        """Compress documents; index and compression of each, in the order they are finished.

        The compressions of a document's chunks are joined with line breaks. That of a document
        without words is empty, and costs no request. Equal chunks are asked for once.

        Raises:
            ModelError: The endpoint refuses a request.
            MoosError: A request failed every try, or cannot be sent. Answers so far are cached.
        """
        stop = threading.Event()
        pool = ThreadPoolExecutor(self._config.concurrency, "moos-teacher")
        try:
            yield from self._compress(texts, pool, stop)
        finally:
            stop.set()
            # Requests under way are paid for: their answers are awaited, for the cache.
            pool.shutdown(wait=True, cancel_futures=True)

    def _compress(
        self, texts: Sequence[str], pool: ThreadPoolExecutor, stop: threading.Event
    ) -> Iterator[tuple[int, str | TeacherFailure]]:
        coming = enumerate(texts)
        opened: dict[int, list[Future[str | TeacherFailure]]] = {}
        asked: dict[AnswerKey, Future[str | TeacherFailure]] = {}
        while True:
            # A few documents at a time: a long list does not queue up in the pool.
            while len(asked) < 2 * self._config.concurrency and (item := next(coming, None)):
                index, text = item
                opened[index] = []
                for start, end in cut_chunks(text, self._config.max_words):
                    chunk = text[start:end]
                    key = AnswerKey.of(self._version, self._config.model, chunk, self._settings)
                    if key not in asked:
                        asked[key] = pool.submit(self._ask, key, chunk, stop)
                    opened[index].append(asked[key])
            for index in [i for i, chunks in opened.items() if all(c.done() for c in chunks)]:
                yield index, _join([chunk.result() for chunk in opened.pop(index)])
            if not opened and not asked:
                return
            wait(asked.values(), timeout=PROGRESS_EVERY_S, return_when=FIRST_COMPLETED)
            self._on_progress()  # a request that hangs has its own time limit
            for key in [key for key, answer in asked.items() if answer.done()]:
                asked.pop(key).result()  # what stops the run is raised here, at once

    def _ask(self, key: AnswerKey, chunk: str, stop: threading.Event) -> str | TeacherFailure:
        """A chunk's compression: from the cache, else from the endpoint into the cache."""
        cached = _check_content(self._cache.get(key))
        if not isinstance(cached, Miss):
            return cached
        messages = self._prompt.messages(chunk)
        body = {"model": self._config.model, "messages": messages, **self._settings}
        outcome: str | Miss = self._client.ask(
            "/chat/completions", body, lambda reply, _: _read_answer(reply, self._config), stop
        )
        if isinstance(outcome, Miss):
            return TeacherFailure(f"the teacher gave {outcome.seen}")
        self._cache.put(key, outcome)
        return outcome


def _read_answer(body: Any, config: EndpointConfig) -> str | Miss:
    """The compression in the body of an answer."""
    try:
        choice = body["choices"][0]
        content, reason = choice["message"].get("content"), choice.get("finish_reason")
    except (LookupError, TypeError, AttributeError):
        return Miss("an answer without choices", is_answer=True)
    if reason in ("length", "content_filter"):
        # Without sampling, the next one would be cut at the same place, and cost as much.
        seen = f"an answer cut short (finish_reason {reason}, max_tokens {config.max_tokens})"
        return Miss(seen, is_answer=True, is_final=config.temperature == 0)
    return _check_content(content)


def _check_content(content: Any) -> str | Miss:
    """A compression as it came, unless it is of no use."""
    if not isinstance(content, str) or not content.strip():
        return Miss("an answer without content", is_answer=True)
    try:
        check_text(content)
    except DataError as error:
        return Miss(f"an answer whose {error}", is_answer=True)
    return content


def _join(answers: Sequence[str | TeacherFailure]) -> str | TeacherFailure:
    """A document's compression from those of its chunks, or why there is none."""
    for number, answer in enumerate(answers, 1):
        if isinstance(answer, TeacherFailure):
            return TeacherFailure(f"chunk {number} of {len(answers)}: {answer.reason}")
    return "\n".join(str(answer).strip() for answer in answers)
