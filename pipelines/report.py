"""The report of a run: placeholder until written below."""
from collections.abc import Mapping
from typing import Any

from moos.storage import Storage


def write_report(output: Storage, manifest: Mapping[str, Any], text_column: str) -> None:
    """Write report.html."""
