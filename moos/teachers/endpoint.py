"""A teacher behind an OpenAI-compatible chat endpoint, asked for documents chunk by chunk.

Every answer goes to the cache before it is used. A failure that stays stops the run, and the next
run goes on from the cache; an answer that is no compression costs one document alone.
"""

import json
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Annotated, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pydantic import Field, field_validator, model_validator

from moos.config import ConfigModel
from moos.errors import ConfigError, ModelError, MoosError
from moos.retries import is_transient
from moos.teachers.answer_cache import AnswerCache, AnswerKey, version_of
from moos.teachers.chunks import cut_chunks
from moos.teachers.prompts import Prompt

logger = logging.getLogger(__name__)

FIRST_WAIT_S = 1.0  # before the second try; doubles with every further one
LONGEST_WAIT_S = 60.0  # also where the endpoint asks for more
PROGRESS_EVERY_S = 2.0
EXCERPT_CHARS = 200  # of an error's body, in messages
# In a URL's query; what belongs there is shorter, such as `api-version=2024-10-21`.
_SECRET = re.compile(r"(^|&)[^=&]*(key|token|secret|sig|pass|auth|cred)|[^=&]{20}", re.IGNORECASE)
# What servers say of a prompt that does not fit: one word may hold any number of tokens.
_TOO_LONG = re.compile(r"context.{0,40}(length|window|size)|too (long|large)|too many tokens", re.I)
_random = random.Random()  # drawing waits must not shift anyone's seeded numbers


class EndpointConfig(ConfigModel):
    """A teacher that is served over HTTP."""

    url: str
    """Base URL, such as `http://host:8000/v1`; `/chat/completions` is appended to its path."""

    model: Annotated[str, Field(min_length=1)]
    """Name of the model, as the endpoint knows it."""

    api_key_env: str | None = None
    """Name of the environment variable that holds the key; null sends none."""

    concurrency: Annotated[int, Field(ge=1)] = 8
    """Requests under way at a time."""

    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    """Longest silence of the endpoint within a request."""

    retries: Annotated[int, Field(ge=0)] = 6
    """Tries after the first, after waits of up to 1, 2, 4, ... s or as asked for; 60 s at most."""

    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = 0.0
    """Sampling temperature; 0 takes the likeliest token, null sends none."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of an answer; null leaves it to the endpoint."""

    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of a request, such as `{max_completion_tokens: 800}`."""

    max_words: Annotated[int, Field(ge=1)] = 200
    """Most words of a document in one request."""

    @model_validator(mode="before")
    @classmethod
    def _no_key(cls, values: Any) -> Any:
        # Not raised as pydantic's own errors: those show the value.
        given = values if isinstance(values, dict) else {}
        name, url = str(given.get("api_key_env") or "NONE"), str(given.get("url"))
        rule = "no key in a config; name the environment variable that holds it in api_key_env"
        if "api_key" in given or not re.fullmatch("[A-Z_][A-Z0-9_]*", name):
            raise ConfigError(f"api_key_env: this is no name in capitals: {rule}")
        if "@" in url or "#" in url or _SECRET.search(url.partition("?")[2]):
            raise ConfigError(f"url: it seems to hold a user, password or key: {rule}")
        return values

    @field_validator("url")
    @classmethod
    def _is_base_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("must begin with http:// or https:// and a host")
        return url


@dataclass(frozen=True, slots=True)
class TeacherFailure:
    """Why a document has no compression."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Miss:
    """What a try gave in place of a compression; trying again may give one."""

    seen: str
    wait_s: float | None = None  # what the endpoint asks for
    is_answer: bool = False  # the endpoint did its part, the model did not
    is_final: bool = False  # the same would come again


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Take a redirect for an error: urllib would send the key along, to whatever host."""


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
        self._sleep = sleep
        self._on_progress = on_progress or (lambda: None)
        parts = urlsplit(config.url)
        self._url = urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/chat/completions"))
        self._key = read_key(config.api_key_env)
        self._opener = build_opener(_NoRedirects)
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
        if (answer := self._cache.get(key)) is not None:
            return answer
        num_tries = 0
        while not stop.is_set():
            outcome = self._try(chunk)
            if isinstance(outcome, str):
                self._cache.put(key, outcome)
                return outcome
            num_tries += 1
            if outcome.is_final or num_tries > self._config.retries:
                return self._give_up(outcome, num_tries)
            longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(num_tries - 1, 30))
            wait_s = outcome.wait_s
            wait_s = _random.uniform(longest / 2, longest) if wait_s is None else wait_s
            logger.warning("%s gave %s; again in %.1f s", self._url, outcome.seen, wait_s)
            (self._sleep or stop.wait)(wait_s)
        raise CancelledError

    def _give_up(self, miss: _Miss, num_tries: int) -> TeacherFailure:
        if miss.is_answer:
            return TeacherFailure(f"the teacher gave {miss.seen}")
        raise MoosError(
            f"{self._url} failed {num_tries} times, last with {miss.seen}; raise retries "
            f"({self._config.retries}) or timeout_s ({self._config.timeout_s:g}), or lower "
            f"concurrency ({self._config.concurrency}). Answers so far are cached; run again"
        )

    def _try(self, chunk: str) -> str | _Miss:
        """Send one request and read what comes."""
        request = self._request(chunk)
        try:
            with self._opener.open(request, timeout=self._config.timeout_s) as response:
                body = response.read()
        except HTTPError as error:
            with error:
                return self._refusal(error)
        except (OSError, HTTPException, UnicodeError) as error:
            reason = getattr(error, "reason", None)  # urllib's error stands for another
            cause = reason if isinstance(reason, Exception) else error
            seen = f"{type(cause).__name__}: {cause}"
            if not is_transient(cause):
                raise MoosError(f"{self._url} cannot be reached: {seen}") from error
            return _Miss(seen)
        try:
            return _read_answer(json.loads(body), self._config)
        except (ValueError, RecursionError):
            return _Miss(f"a body of {len(body)} bytes that is not whole JSON")

    def _request(self, chunk: str) -> Request:
        messages = self._prompt.messages(chunk)
        body = {"model": self._config.model, "messages": messages, **self._settings}
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        return Request(self._url, json.dumps(body).encode(), headers)

    def _refusal(self, error: HTTPError) -> _Miss:
        """What an answer of an error's status stands for; ModelError if it would come again."""
        excerpt = ""
        with suppress(OSError, HTTPException):
            excerpt = error.read(20 * EXCERPT_CHARS).decode("utf-8", "replace")
        if self._key is not None:
            excerpt = excerpt.replace(self._key, "***")
        seen = f"status {error.code}: {excerpt[:EXCERPT_CHARS]}"
        if error.code >= 400 and is_transient(error):
            return _Miss(seen, read_retry_after(error.headers.get("Retry-After")))
        if error.code in (400, 413, 422) and _TOO_LONG.search(excerpt):
            return _Miss(f"{seen}; lower max_words", is_answer=True, is_final=True)
        hint = f"; see api_key_env ({self._config.api_key_env})" if error.code in (401, 403) else ""
        raise ModelError(f"{self._url} answered with {seen}{hint}")


def read_retry_after(value: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for, 0 to 60; None if it says nothing of use."""
    value = (value or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return min(LONGEST_WAIT_S, float(value))
    try:
        return min(LONGEST_WAIT_S, max(0.0, parsedate_to_datetime(value).timestamp() - time.time()))
    except (ValueError, OverflowError):
        return None


def read_key(name: str | None) -> str | None:
    """The key that an environment variable holds; None without a name.

    Raises:
        ConfigError: It holds none.
    """
    key = None if name is None else os.environ.get(name, "").strip()
    if key is not None and not re.fullmatch("[!-~]+", key):
        raise ConfigError(f"api_key_env: the environment variable {name} is not set to a key")
    return key


def _read_answer(body: Any, config: EndpointConfig) -> str | _Miss:
    """The compression in the body of an answer."""
    try:
        choice = body["choices"][0]
        content, reason = choice["message"].get("content"), choice.get("finish_reason")
    except (LookupError, TypeError, AttributeError):
        return _Miss("an answer without choices", is_answer=True)
    if reason in ("length", "content_filter"):
        # Without sampling, the next one would be cut at the same place, and cost as much.
        seen = f"an answer cut short (finish_reason {reason}, max_tokens {config.max_tokens})"
        return _Miss(seen, is_answer=True, is_final=config.temperature == 0)
    if not isinstance(content, str) or not content.strip():
        return _Miss("an answer without content", is_answer=True)
    return content


def _join(answers: Sequence[str | TeacherFailure]) -> str | TeacherFailure:
    """A document's compression from those of its chunks, or why there is none."""
    for number, answer in enumerate(answers, 1):
        if isinstance(answer, TeacherFailure):
            return TeacherFailure(f"chunk {number} of {len(answers)}: {answer.reason}")
    return "\n".join(str(answer).strip() for answer in answers)
