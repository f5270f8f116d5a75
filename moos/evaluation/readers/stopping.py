"""Where an answer ends."""

from collections.abc import Sequence


def find_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the first of the stop strings begins in a text; None if it holds none."""
    found = [at for each in stop if (at := text.find(each)) >= 0]
    return min(found, default=None)


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """A text before the first of the stop strings; all of it if it holds none."""
    return text[: find_stop(text, stop)]
