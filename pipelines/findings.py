"""What verification saw."""

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
    tokens: int = 0
    kept_tokens: int = 0
    files: int = 0
    splits_checked_against_source: int = 0
    splits_without_source: int = 0

    def breach(self, where: str, what: str) -> None:
        """Note a broken promise."""
        self.num_broken += 1
        if len(self.broken) < MAX_SHOWN:
            self.broken.append(f"{where}: {what}")
