"""Takes secrets out of text that is kept or shown: an error of a store may name what it was told.

What counts as a secret: the values of environment variables that are named like one, the user part
of a URL, signatures and tokens in a query, `Authorization` values, and AWS access key ids.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

MASK = "***"

LEAST_CHARS = 8
"""A shorter value (`true`, `1`, a profile's name) is no secret, and would mask words."""

_NAME = re.compile(
    r"secret|password|passwd|token|credential|private_?key|api_?key|access_?key|account_?key"
    r"|connection_string|authorization|(^|_)sas(_|$)",
    re.IGNORECASE,
)
_NO_VALUE = re.compile(r"(file|path|dir|home|mode|parallelism|url|endpoint)$", re.IGNORECASE)
_PATTERNS = (
    (re.compile(r"(?<=://)[^/\s@'\"]+(?=@)"), MASK),
    (
        re.compile(
            r"([?&;][\w.-]*(?:signature|credential|token|secret|password|key|sig)[\w.-]*=)"
            r"[^&\s'\"<>]+",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
)


def find_secrets(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The values of environment variables that are named like secrets, longest first."""
    found = {
        value
        for name, value in (os.environ if environment is None else environment).items()
        if len(value) >= LEAST_CHARS and _NAME.search(name) and not _NO_VALUE.search(name)
    }
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def redact(value: Any, secrets: Sequence[str]) -> Any:
    """A JSON value with every secret in its strings masked; keys stay as they are.

    Args:
        value: A string, number, list or mapping of such.
        secrets: What to mask besides what looks like a secret, as `find_secrets` gives it.
    """
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        for pattern, replacement in _PATTERNS:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {key: redact(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, secrets) for item in value]
    return value
