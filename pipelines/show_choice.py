"""Which documents of an output or an input are shown, and what is said where there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from moos.errors import ConfigError

FIRST = 3
"""Documents shown where none is named."""

MAX_IDS = 50_000
"""Ids remembered to suggest a near one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The documents wanted: one by its id, one by its place, or the first ones.

    Attributes:
        id: Its id, or None.
        position: Its place among the documents that can be read, counted from 0, or None.
        first: How many from the beginning, where neither is given.
    """

    id: str | None = None
    position: int | None = None
    first: int = FIRST

    def __post_init__(self) -> None:
        """Refuse what names no document.

        Raises:
            ConfigError: As said.
        """
        if self.id is not None and self.position is not None:
            raise ConfigError("--id and --position each name a document; give one of them")
        if self.position is not None and self.position < 0:
            raise ConfigError(f"--position counts from 0, got {self.position}")
        if self.first < 1:
            raise ConfigError(f"--first must be at least 1, got {self.first}")

    @property
    def count(self) -> int:
        """Documents wanted."""
        return self.first if self.id is None and self.position is None else 1

    def wants(self, position: int, id_: object | None) -> bool:
        """Whether a document is wanted, by its place and its id."""
        if self.id is not None:
            return id_ is not None and str(id_) == self.id
        return self.position in (None, position)


@dataclass(frozen=True, slots=True)
class Found:
    """A document that was asked for.

    Attributes:
        title: Which one it is.
        text: Its text.
        row: Its row of an output; None where it was read from an input.
    """

    title: str
    text: str
    row: Mapping[str, Any] | None = None


def title_of(source: str, position: int, id_: object | None) -> str:
    """How a document is called: by its file, its place, and its id where it has one."""
    return f"{source}, document {position}{'' if id_ is None else f', id {id_}'}"


def no_such_id(place: str, wanted: str, ids: Sequence[str]) -> ConfigError:
    """The error of an id that is not there, with ids that are like it.

    Args:
        place: Where it was looked for.
        wanted: The id.
        ids: Ids that are there.
    """
    near = get_close_matches(wanted, ids, n=3, cutoff=0.5)
    if near:
        hint = f"; near it: {', '.join(repr(id_) for id_ in near)}"
    elif ids:
        hint = f"; ids there: {', '.join(repr(id_) for id_ in ids[:3])}, ..."
    else:
        hint = "; it holds no document"
    return ConfigError(f"{place} holds no document with id {wanted!r}{hint}")


def no_such_position(place: str, wanted: int, count: int) -> ConfigError:
    """The error of a place behind the last document."""
    if count == 0:
        return ConfigError(f"{place} holds no document")
    return ConfigError(
        f"{place} holds {count:,} document{'' if count == 1 else 's'}; --position counts from 0, "
        f"so it is {count - 1} at most, got {wanted}"
    )
