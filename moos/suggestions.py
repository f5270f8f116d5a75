"""Words that were probably meant, for messages about words that nobody knows."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` with the known word that is closest; nothing where none is close."""
    close = get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
