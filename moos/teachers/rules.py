"""What holds a teacher that decides word by word to its task."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds a teacher to its task.

    A model that has copied a stretch goes on copying. So the log odds that a word must have to be
    kept, the bar, rise with every kept word and fall with every dropped one: this draws the share
    of kept words towards one rate, and labels are the odds against the bar.

    Attributes:
        skip: Most words that may be dropped in a row.
        rate: Share of kept words at which the bar stays where it is.
        gain: Log odds that a kept word adds at rate 0; 0 holds the bar at even odds.
        lowest: Least log odds of the bar.
        highest: Most.
    """

    skip: int = 14
    rate: float = 0.5
    gain: float = 0.1
    lowest: float = -1.0
    highest: float = 4.0

    def move_bar(self, bar: float, keep: bool) -> float:
        """The bar after a word."""
        moved = bar + self.gain * ((1.0 if keep else 0.0) - self.rate)
        return min(max(moved, self.lowest), self.highest)
