"""Secrets: how they are told by name or form, and how they are kept out of what is written.

A secret comes from where its own client looks for it: environment variables, profiles, instance
roles. One in a config is refused (`find_secret`), because a config is printed, logged and stored.
What other libraries write into their messages is cleaned on its way out (`redact`): of logs and
tracebacks by `RedactingFormatter`, of errors where they are printed.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

SHOWN = "***"

_WORDS = frozenset({"token", "sas", "pwd", "sig", "auth", "cookie", "credentials"})
_PARTS = (
    *("secret", "password", "passwd", "passphrase", "credential", "authorization", "bearer"),
    *("signature", "connectionstring", "privatekey", "accesskey", "accountkey", "apikey"),
    *("sharedkey", "signingkey", "authtoken", "accesstoken", "sastoken"),
)
"""Looked for in a name without its separators, whatever stands around."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_NOT_NAME = re.compile(r"[^\w.\-/].*|(?<=.{60}).+", re.DOTALL)
_NAMES_A_PLACE = frozenset({"env", "file", "path", "sock", "dir"})

# `https://TOKEN@host` is usual; `abfs://container@account` is no secret.
_USER_OF_HTTP = re.compile(r"\b((?:https?|ftps?)://)[^\s/@\"'<>]*@")
# A password may hold slashes, though it should not; what follows a port is a path.
_PASSWORD_IN_URL = re.compile(r"(://)[^\s/@\"'<>:]*:(?!\d+/)[^\s@\"'<>]*@")
_QUERY_OF_HTTP = re.compile(r"(https?://[^\s\"'<>?]*)\?[^\s\"'<>()]+")
_ASSIGNMENT = re.compile(r"""([\w.\-]+)(["']?\s*=\s*["']?|["']\s*:\s*b?["'])([^\s"'&;,<>]+)""")
_HEADER = re.compile(r"\b((?:authorization|x-[\w-]*key|cookie)\s*:\s*)[^\r\n\"']+", re.IGNORECASE)
_SCHEME = re.compile(r"\b(bearer|basic)\s+[\w.~+/\-]{8,}=*", re.IGNORECASE)
_KNOWN_FORMS = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bsk-[\w\-]{16,}|\bhf_[A-Za-z0-9]{20,}|\bgh[pousr]_\w{20,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
_WORKING_DIRECTORIES = frozenset({"PWD", "OLDPWD"})
"""Variables of the shell, which `_WORDS` would take for passwords."""
_LEAST_CHARS = 8
"""Shorter values of environment variables stand in too many places."""


def is_secret_name(name: str) -> bool:
    """True for the name of something that nobody should read, such as `aws_session_token`.

    `target_tokens` and `tokenizer` are none, and neither is a name that ends in `_env` or `_file`:
    it tells where a secret is.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or words[-1] in _NAMES_A_PLACE:
        return False
    squashed = "".join(words)
    return not _WORDS.isdisjoint(words) or any(part in squashed for part in _PARTS)


def find_secret(tree: Any) -> str | None:
    """The key of a config's first value that is a secret, by its name or its form; or None.

    The key is as `show_key` has it. By its form: a URL with a password, or with a signature or
    token in its query. Null and false are no secrets, whatever they are called.
    """
    return next(_secrets(tree, ()), None)


def _secrets(value: Any, key: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if is_secret_name(str(name)) and inner is not None and inner is not False:
                yield show_key((*key, str(name)))
            yield from _secrets(inner, (*key, str(name)))
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _secrets(inner, (*key, str(place)))
    elif isinstance(value, str) and is_secret_url(value):
        yield show_key(key)


def show_key(parts: Iterable[str]) -> str:
    """A dotted key for messages: of each part what can be a name, since the rest may be anything.

    `api_key: X=` on a command line is a key too, and X may well be one.
    """
    return ".".join(_NOT_NAME.sub("...", part) for part in parts)


def is_secret_url(text: str) -> bool:
    """True for a URL that lets in whoever reads it: by a password, a signature, or a token."""
    if "://" not in text:
        return False
    query = text.partition("?")[2]
    names = (part.partition("=")[0] for part in re.split("[&;]", query) if "=" in part)
    return bool(_PASSWORD_IN_URL.search(text)) or any(is_secret_name(name) for name in names)


def redact(text: str) -> str:
    """A text without the secrets that can be told in it; what stood around them stays.

    Users and passwords of URLs, the queries of HTTP's, values that are assigned to secret names
    (`sig=...`, `"password": "..."`), headers, keys of well-known forms, and the values of this
    process's environment variables whose names are those of secrets.
    """
    for value in _environment_secrets():
        text = text.replace(value, SHOWN)
    text = _KNOWN_FORMS.sub(SHOWN, text)
    text = _HEADER.sub(rf"\g<1>{SHOWN}", text)
    text = _SCHEME.sub(rf"\g<1> {SHOWN}", text)
    if "://" in text:
        text = _PASSWORD_IN_URL.sub(rf"\g<1>{SHOWN}@", text)
        text = _USER_OF_HTTP.sub(rf"\g<1>{SHOWN}@", text)
        text = _QUERY_OF_HTTP.sub(r"\g<1>?...", text)
    return _ASSIGNMENT.sub(_without_value, text)


def _without_value(match: re.Match[str]) -> str:
    name, sign, _ = match.groups()
    return f"{name}{sign}{SHOWN}" if is_secret_name(name) else match[0]


def _environment_secrets() -> list[str]:
    """Values of the environment that are secrets, as they are and as a URL holds them."""
    values = {
        form
        for name, value in os.environ.items()
        if len(value) >= _LEAST_CHARS
        and name not in _WORKING_DIRECTORIES
        and (is_secret_name(name) or name.upper().endswith("KEY"))
        for form in (value, quote(value, safe=""))
    }
    return sorted(values, key=len, reverse=True)


class RedactingFormatter(logging.Formatter):
    """Formats records, their tracebacks among them, and leaves out what is secret."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return redact(super().format(record))
