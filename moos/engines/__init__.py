"""Engines turn windows of token ids into a preserve probability and an outlier score per token."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """One window as the encoder reads it.

    Attributes:
        ids: Token ids with special tokens, shape (T,).
        own_start: First position whose token the window owns.
        own_end: One past the last; at least one token is owned.
    """

    ids: NDArray[np.int32]
    own_start: int
    own_end: int


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Two numbers in [0, 1] for each token that a window owns, shape (own_end - own_start,)."""

    preserve_probability: NDArray[np.float32]
    outlier_score: NDArray[np.float32]


class Engine(Protocol):
    """Anything that scores windows.

    Attributes:
        name: What the engine is called in configs and manifests.
        on_progress: Called after each micro-batch.
    """

    name: str
    on_progress: Callable[[], None]

    @property
    def numerics(self) -> Mapping[str, str]:
        """What the last digits of the scores depend on: hardware, versions."""
        ...

    def score(self, inputs: Sequence[EncoderInput]) -> list[TokenScores]:
        """Score each window, in order."""
        ...

    def begin(self, inputs: Sequence[EncoderInput]) -> Callable[[], list[TokenScores]]:
        """Begin to score windows, and return while the last of them are still being worked.

        Returns:
            What waits for the scores and gives them as `score` does; to be called once at most.
        """
        ...
