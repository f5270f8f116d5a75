"""One threshold for a whole corpus, so that the corpus meets a rate and each text what it needs.

Scores are multiples of 1/4096, so a histogram of tokens by score is exact, merges by addition in
any order, and says which threshold meets the rate. Dense texts keep more, padded ones less.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moos.scores import GRID
from moos.selection import budget_of_rate


@dataclass(slots=True)
class ScoreHistogram:
    """Tokens of some texts by the score of their word.

    Attributes:
        by_score: Tokens of words that compete for the budget, by score in 1/4096, shape (4097,).
        protected_tokens: Tokens that stay whatever the budget: those of protected words, and of
            texts that hold no word at all.
    """

    by_score: NDArray[np.int64] = field(default_factory=lambda: np.zeros(GRID + 1, dtype=np.int64))
    protected_tokens: int = 0

    @property
    def num_tokens(self) -> int:
        """All tokens."""
        return int(self.by_score.sum()) + self.protected_tokens

    def add_text(
        self,
        scores: NDArray[np.float32],
        token_counts: NDArray[np.int32],
        protected: NDArray[np.bool_],
        *,
        num_tokens: int,
    ) -> None:
        """Count a text, or several end to end.

        Args:
            scores: One score per word, on the grid, shape (W,).
            token_counts: Tokens of each word, shape (W,).
            protected: Words that stay whatever their score, shape (W,).
            num_tokens: Tokens of the text, or of all of them.
        """
        competing = ~protected
        levels = score_levels(scores[competing])
        counts = np.bincount(levels, weights=token_counts[competing], minlength=GRID + 1)
        self.by_score += counts.astype(np.int64)
        self.protected_tokens += num_tokens - int(token_counts[competing].sum())

    def add(self, other: "ScoreHistogram") -> None:
        """Merge another's counts into these."""
        self.by_score += other.by_score
        self.protected_tokens += other.protected_tokens

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads back: the occupied levels and their tokens."""
        levels = np.flatnonzero(self.by_score)
        return {
            "levels": levels.tolist(),
            "tokens": self.by_score[levels].tolist(),
            "protected_tokens": self.protected_tokens,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ScoreHistogram":
        """Read what `to_json` wrote."""
        histogram = cls(protected_tokens=value["protected_tokens"])
        histogram.by_score[value["levels"]] = value["tokens"]
        return histogram


@dataclass(frozen=True, slots=True)
class CorpusThreshold:
    """Which words a corpus keeps: those that score at least `level`, and a share of the next.

    Attributes:
        level: Lowest score kept, in 1/4096; 4097 keeps no word but the protected ones.
        tied_tokens: Tokens of the corpus that score just one level lower.
        tied_kept: How many of those the budget still holds. Each text keeps the same share of its
            own, rounded down, from its beginning, so that a level that holds many tokens (a
            classifier that is certain of them all) does not leave the budget half used.
        rate: The rate that was asked for.
        num_tokens: Tokens of the corpus that the threshold was found on.
        protected_tokens: Those that stay whatever the budget.
        over_budget: Protected tokens alone exceed the budget.
    """

    level: int
    tied_tokens: int
    tied_kept: int
    rate: float
    num_tokens: int
    protected_tokens: int
    over_budget: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "CorpusThreshold":
        """Read what `to_json` wrote."""
        return cls(**value)


def find_threshold(histogram: ScoreHistogram, rate: float) -> CorpusThreshold:
    """The threshold under which a corpus keeps at most `rate` of its tokens, and hardly less."""
    budget = budget_of_rate(rate, histogram.num_tokens)
    left = budget - histogram.protected_tokens
    # kept_from[g]: tokens that score at least g.
    kept_from = np.append(np.cumsum(histogram.by_score[::-1])[::-1], 0)
    level = int(np.argmax(kept_from <= left)) if left >= 0 else GRID + 1
    tied = int(histogram.by_score[level - 1]) if left >= 0 and level > 0 else 0
    return CorpusThreshold(
        level=level,
        tied_tokens=tied,
        tied_kept=left - int(kept_from[level]) if tied else 0,
        rate=rate,
        num_tokens=histogram.num_tokens,
        protected_tokens=histogram.protected_tokens,
        over_budget=left < 0,
    )


def merge_histograms(histograms: Iterable[ScoreHistogram]) -> ScoreHistogram:
    """The counts of all of them."""
    total = ScoreHistogram()
    for histogram in histograms:
        total.add(histogram)
    return total


def score_levels(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Scores on the grid as whole numbers of 1/4096."""
    return np.rint(scores * np.float64(GRID)).astype(np.int64)
