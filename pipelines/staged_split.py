"""A split on its way from one process of a job to the next."""

import pickle
from dataclasses import dataclass, field
from typing import Any

from moos.splits import InputSplit
from pipelines.groups import Group


@dataclass(frozen=True, slots=True)
class StagedSplit:
    """What a stage made of a split.

    Attributes:
        split: The split.
        groups: Its groups, in order.
        damage: Why its file cannot be read, or None.
        numerics: What the scores depend on besides the plan, once there are scores.
        num_scored: Documents that the model scored for it.
        seconds: How long the stages have taken.
    """

    split: InputSplit
    groups: list[Group[Any]]
    damage: str | None
    numerics: dict[str, Any] = field(default_factory=dict)
    num_scored: int = 0
    seconds: float = 0.0

    def pack(self) -> bytes:
        """Bytes for another process of the same job."""
        return pickle.dumps(self)

    @classmethod
    def unpack(cls, packed: bytes) -> "StagedSplit":
        """What `pack` packed in a process of the same job; never for bytes from elsewhere."""
        staged = pickle.loads(packed)
        assert isinstance(staged, cls), "a stage hands on what it packed"
        return staged
