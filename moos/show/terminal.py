"""A document in the terminal: dropped words dim and struck through, or between marks.

Without colours (a pipe, `NO_COLOR`) the marks are `[-dropped-]` and `{protected}`, and where two
selections are compared `[1+only in the first+]` and `[2+only in the second+]`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import regex
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from moos.show.document_view import DocumentView

FOLDED_WORDS = 40
"""A cut of more words is folded."""

SHOWN_WORDS = 6
"""Words shown on each side of a folded cut."""

KEPT, PROTECTED, DROPPED, FIRST, SECOND, SPACE = (
    "kept",
    "protected",
    "dropped",
    "only in the first",
    "only in the second",
    "space",
)
_KINDS = np.array([KEPT, PROTECTED, DROPPED, FIRST, SECOND])
_STYLES: Mapping[str, str] = {
    PROTECTED: "cyan",
    DROPPED: "dim strike",
    FIRST: "bold green",
    SECOND: "bold magenta",
}
_MARKS: Mapping[str, tuple[str, str]] = {
    PROTECTED: ("{", "}"),
    DROPPED: ("[-", "-]"),
    FIRST: ("[1+", "+]"),
    SECOND: ("[2+", "+]"),
}
# What would move the cursor, change colours, or turn the direction of the line.
_CONTROL = regex.compile(r"[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of text that is shown alike.

    Attributes:
        kind: `kept`, `protected`, `dropped`, `only in the first` or `second`, or `space` between.
        text: Its characters.
        folded_words: Words that are not shown; the text then is a note of that.
    """

    kind: str
    text: str
    folded_words: int = 0


def print_view(
    view: DocumentView,
    other: DocumentView | None = None,
    *,
    in_colour: bool,
    max_chars: int | None,
    fold: bool = True,
) -> None:
    """Print a document, or two selections of one, to stdout.

    Args:
        view: The document.
        other: Another selection of the same text, whose differences are marked.
        in_colour: Styles instead of marks.
        max_chars: Characters of the text to show at most, folded ones not counted; None: all.
        fold: Long cuts are shown by their ends.
    """
    console = Console(
        force_terminal=in_colour, no_color=not in_colour, highlight=False, soft_wrap=True
    )
    views = [view] if other is None else [view, other]
    for place, each in enumerate(views, 1):
        name = f"{place}. " if other is not None else ""
        console.print(Text(f"{name}{_visible(each.headline())}", "bold"))
        for note in each.notes:
            console.print(Text(f"   {_visible(note)}", "italic"))
    line = Text()
    left = len(view.text) if max_chars is None else max_chars
    for run in split_runs(view, other, fold=fold):
        shown = run.text if run.folded_words else run.text[:left]
        if shown:
            line.append_text(_styled(run, shown, in_colour))
        if len(shown) < len(run.text):
            line.append("\n... more with --chars", style="dim")
            break
        if not run.folded_words:
            left -= len(shown)
    console.print(line)
    console.print()


def split_runs(
    view: DocumentView, other: DocumentView | None = None, *, fold: bool = True
) -> Iterator[Run]:
    """The whole text as runs, in order; white space between unlike words stands alone.

    Args:
        view: The document.
        other: Another selection of the same text.
        fold: Long cuts are shown by their ends.
    """
    text = view.text
    kinds = _KINDS[_kinds_of(view, other)].tolist()
    spans = list(zip(view.words.starts.tolist(), view.words.ends.tolist(), strict=True))
    at = place = 0
    for kind, group in groupby(kinds):
        count = len(list(group))
        words = spans[place : place + count]
        place += count
        if at < words[0][0]:
            yield Run(SPACE, text[at : words[0][0]])
        at = words[-1][1]
        if fold and kind == DROPPED and count > FOLDED_WORDS:
            first, last = words[SHOWN_WORDS - 1][1], words[-SHOWN_WORDS][0]
            hidden = count - 2 * SHOWN_WORDS
            yield Run(kind, text[words[0][0] : first])
            yield Run(kind, f" … {hidden:,} words … ", hidden)
            yield Run(kind, text[last:at])
        else:
            yield Run(kind, text[words[0][0] : at])
    if at < len(text):
        yield Run(SPACE, text[at:])


def _kinds_of(view: DocumentView, other: DocumentView | None) -> NDArray[np.int64]:
    """An index into `_KINDS` of each word."""
    protected = view.protected
    kinds = np.where(view.keep, np.where(protected, 1, 0), 2)
    if other is not None:
        kinds = np.where(view.keep & ~other.keep, 3, kinds)
        kinds = np.where(other.keep & ~view.keep, 4, kinds)
    return kinds


def _styled(run: Run, shown: str, in_colour: bool) -> Text:
    shown = _visible(shown)
    if in_colour:
        style = "dim" if run.folded_words else _STYLES.get(run.kind, "")
        return Text(shown, style)
    if run.folded_words:
        return Text(shown)
    before, behind = _MARKS.get(run.kind, ("", ""))
    return Text(f"{before}{shown}{behind}")


def _visible(text: str) -> str:
    """The text with every character that a terminal would obey as one that it shows."""
    shown: str = _CONTROL.sub(_picture, text.replace("\r\n", "\n"))
    return shown


def _picture(match: "regex.Match[str]") -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"
