"""Requests to an OpenAI-compatible endpoint: the key, tries and waits, and what its answers mean.

Each caller says how to read an answer. A failure that stays raises; an answer that is of no use to
the caller comes back as a `Miss`.
"""

import json
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Annotated, Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pydantic import Field, field_validator, model_validator

from moos.config import ConfigModel
from moos.errors import ConfigError, ModelError, MoosError
from moos.retries import is_transient

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_WAIT_S = 1.0  # before the second try; doubles with every further one
LONGEST_WAIT_S = 60.0  # also where the endpoint asks for more
EXCERPT_CHARS = 200  # of an error's body, in messages
# In a URL's query; what belongs there is shorter, such as `api-version=2024-10-21`.
_SECRET = re.compile(r"(^|&)[^=&]*(key|token|secret|sig|pass|auth|cred)|[^=&]{20}", re.IGNORECASE)
# What servers say of a prompt that does not fit: one word may hold any number of tokens.
_TOO_LONG = re.compile(r"context.{0,40}(length|window|size)|too (long|large)|too many tokens", re.I)
_random = random.Random()  # drawing waits must not shift anyone's seeded numbers


class ChatClientConfig(ConfigModel):
    """A model that is served over HTTP."""

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
class Miss:
    """What a try gave in place of an answer; trying again may give one.

    Attributes:
        seen: What came, for messages.
        wait_s: What the endpoint asks for; None: nothing.
        is_answer: The endpoint did its part, the model did not.
        is_final: The same would come again.
    """

    seen: str
    wait_s: float | None = None
    is_answer: bool = False
    is_final: bool = False


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Take a redirect for an error: urllib would send the key along, to whatever host."""


class ChatClient:
    """Sends requests to one endpoint; safe between threads."""

    def __init__(
        self,
        config: ChatClientConfig,
        *,
        when_too_long: str,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        """Read the key; nothing is sent yet. By default, waits end when the caller is stopped.

        Args:
            config: The endpoint.
            when_too_long: What a user can do about a prompt that the model has no room for.
            sleep: Waits between tries.

        Raises:
            ConfigError: The environment variable of the key holds none.
        """
        self._config = config
        self._when_too_long = when_too_long
        self._sleep = sleep
        self._key = read_key(config.api_key_env)
        self._opener = build_opener(_NoRedirects)

    def ask(
        self,
        path: str,
        body: Mapping[str, Any],
        read: Callable[[Any, float], T | Miss],
        stop: threading.Event,
    ) -> T | Miss:
        """What `read` makes of the answer to a request, tried until it is no miss.

        Args:
            path: What is appended to the base URL's path, such as `/chat/completions`.
            body: The request.
            read: From an answer's JSON, and the seconds that its request took, to its use.
            stop: Set when nothing more is to be sent.

        Returns:
            A miss only where the endpoint did its part, at every try or finally.

        Raises:
            ModelError: The endpoint refuses the request.
            MoosError: The request failed every try, or cannot be sent.
            CancelledError: `stop` was set before an answer came.
        """
        url = self._url_of(path)
        num_tries = 0
        while not stop.is_set():
            # A request of its own each time: urllib edits it where there is a proxy.
            outcome = self._try(self._request(url, body), read)
            if not isinstance(outcome, Miss):
                return outcome
            num_tries += 1
            if outcome.is_final or num_tries > self._config.retries:
                if outcome.is_answer:
                    return outcome
                raise self._failure(url, outcome, num_tries)
            longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(num_tries - 1, 30))
            wait_s = outcome.wait_s
            wait_s = _random.uniform(longest / 2, longest) if wait_s is None else wait_s
            logger.warning("%s gave %s; again in %.1f s", url, outcome.seen, wait_s)
            (self._sleep or stop.wait)(wait_s)
        raise CancelledError

    def _url_of(self, path: str) -> str:
        parts = urlsplit(self._config.url)
        return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path))

    def _request(self, url: str, body: Mapping[str, Any]) -> Request:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        return Request(url, json.dumps(body).encode(), headers)

    def _failure(self, url: str, miss: Miss, num_tries: int) -> MoosError:
        return MoosError(
            f"{url} failed {num_tries} times, last with {miss.seen}; raise retries "
            f"({self._config.retries}) or timeout_s ({self._config.timeout_s:g}), or lower "
            f"concurrency ({self._config.concurrency}). Answers so far are cached; run again"
        )

    def _try(self, request: Request, read: Callable[[Any, float], T | Miss]) -> T | Miss:
        """Send one request and read what comes."""
        started = time.perf_counter()
        try:
            with self._opener.open(request, timeout=self._config.timeout_s) as response:
                body = response.read()
        except HTTPError as error:
            with error:
                return self._refusal(error, request.full_url)
        except (OSError, HTTPException, UnicodeError) as error:
            reason = getattr(error, "reason", None)  # urllib's error stands for another
            cause = reason if isinstance(reason, Exception) else error
            seen = f"{type(cause).__name__}: {cause}"
            if not is_transient(cause):
                raise MoosError(f"{request.full_url} cannot be reached: {seen}") from error
            return Miss(seen)
        seconds = time.perf_counter() - started
        try:
            return read(json.loads(body), seconds)
        except (ValueError, RecursionError):
            return Miss(f"a body of {len(body)} bytes that is not whole JSON")

    def _refusal(self, error: HTTPError, url: str) -> Miss:
        """What an answer of an error's status stands for; ModelError if it would come again."""
        excerpt = ""
        with suppress(OSError, HTTPException):
            excerpt = error.read(20 * EXCERPT_CHARS).decode("utf-8", "replace")
        if self._key is not None:
            excerpt = excerpt.replace(self._key, "***")
        seen = f"status {error.code}: {excerpt[:EXCERPT_CHARS]}"
        if error.code >= 400 and is_transient(error):
            return Miss(seen, read_retry_after(error.headers.get("Retry-After")))
        if error.code in (400, 413, 422) and _TOO_LONG.search(excerpt):
            return Miss(f"{seen}; {self._when_too_long}", is_answer=True, is_final=True)
        hint = f"; see api_key_env ({self._config.api_key_env})" if error.code in (401, 403) else ""
        raise ModelError(f"{url} answered with {seen}{hint}")


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
