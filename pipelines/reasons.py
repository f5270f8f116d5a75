"""Kinds of reasons for which records are quarantined: few, so that they can be counted and plotted.

A quarantine record says in words what is wrong with it, values among them. Its kind is read from
these words, so that records of earlier runs have one too.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from pipelines.counts import add_counts

OTHER = "other"

_KINDS = (
    ("file_damaged", r"\S.* is damaged: "),
    ("line_too_long", r"line of \d+ bytes"),
    ("not_json", r"line is not a JSON object"),
    ("invalid_unicode", r"line is not valid UTF-8|.*is not valid UTF-8|.*lone surrogate"),
    ("key_reserved", r"key .* is named like a column that moos adds"),
    ("text_missing", r"no key "),
    ("null", r"['\"].*['\"] is null( or missing)?(,|$)"),
    ("wrong_type", r"['\"].*['\"] is .*, not a string"),
    ("document_too_long", r"text of \d+ characters is longer than"),
    ("pattern_too_slow", r"protected pattern "),
    ("process_hung", r"the process that did .* hung"),
    ("process_out_of_memory", r"the process that did .* took more than"),
    ("process_died", r"the process that did .* died"),
    ("processing_raised", r"processing raised "),
    ("writing_raised", r"writing raised "),
    ("compression_empty", r"the compression is empty"),
    ("teacher_failed", r"chunk \d+ of \d+: "),
)
_PATTERNS = tuple((kind, re.compile(pattern, re.DOTALL)) for kind, pattern in _KINDS)

REASON_KINDS = (*(kind for kind, _ in _KINDS), OTHER)


def kind_of_reason(reason: str) -> str:
    """The kind of a reason, one of `REASON_KINDS`."""
    head = reason[:2000]
    return next((kind for kind, pattern in _PATTERNS if pattern.match(head)), OTHER)


def count_kinds(reasons: Iterable[str]) -> dict[str, int]:
    """How many of the reasons are of each kind that there is, in alphabetical order."""
    return dict(sorted(Counter(map(kind_of_reason, reasons)).items()))


def add_kinds(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums of such counts."""
    return dict(sorted(add_counts(counts).items()))
