"""What verification saw."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_SHOWN = 100
"""Broken promises listed in full; the rest are counted."""


@dataclass(slots=True)
class Findings:
    """What verification saw."""

    broken: list[str] = field(default_factory=list)
    num_broken: int = 0
    documents: int = 0
    quarantined: int = 0
    sums: dict[str, int] = field(default_factory=dict)
    files: int = 0
    splits_checked_against_source: int = 0
    splits_without_source: int = 0

    def count(self, counts: Mapping[str, int]) -> None:
        """Add what a row counts for to the sums."""
        for name, value in counts.items():
            self.sums[name] = self.sums.get(name, 0) + value

    def breach(self, where: str, what: str) -> None:
        """Note a broken promise."""
        self.num_broken += 1
        if len(self.broken) < MAX_SHOWN:
            self.broken.append(f"{where}: {what}")
