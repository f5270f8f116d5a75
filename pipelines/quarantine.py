"""The quarantine file of a split: its records as they come together, and read back."""

import base64
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from moos.records import BadRecord
from moos.source_files import MAX_LINE_BYTES
from moos.splits import InputSplit
from pipelines.reasons import add_kinds, count_kinds

MAX_RAW_BYTES = MAX_LINE_BYTES + (16 << 20)
"""Raw bytes kept of a split's records: a split of 16 MiB of lines has no more. A few kilobytes of
Parquet may hold one long value in a million rows."""


class Quarantine:
    """A split's records that could not be worked.

    Attributes:
        by_reason: How many there are of each kind of reason.
    """

    def __init__(self, split: InputSplit) -> None:
        self.by_reason: dict[str, int] = {}
        self._split = split
        self._lines: list[bytes] = []
        self._raw_bytes = 0

    def add(self, records: Iterable[BadRecord]) -> None:
        """Take a group's records; raw bytes beyond `MAX_RAW_BYTES` in all stay in the source."""
        ordered = sorted(records, key=lambda record: record.position)
        for record in ordered:
            self._raw_bytes += len(record.raw)
            if record.raw and self._raw_bytes > MAX_RAW_BYTES:
                record = replace(record, raw=b"", raw_format="left_out")
            self._lines.append(_to_line(self._split, record))
        kinds = count_kinds(record.reason for record in ordered)
        self.by_reason = add_kinds([self.by_reason, kinds])

    def to_bytes(self) -> bytes:
        """The file; nothing where there is no record."""
        return b"".join(self._lines)


def _to_line(split: InputSplit, bad: BadRecord) -> bytes:
    """One record: where it was, why it is here, and the raw bytes in base64."""
    record = {
        "path": split.relative,
        "split": split.id,
        "position": bad.position,
        "id": bad.id,
        "reason": bad.reason,
        "raw_format": bad.raw_format,
        "raw": base64.b64encode(bad.raw).decode("ascii"),
    }
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def read_quarantine(data: bytes) -> list[dict[str, Any]]:
    """The records of a quarantine file."""
    return [json.loads(line) for line in data.splitlines()]
