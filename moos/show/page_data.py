"""A document as a page's script reads it: all that selecting and rendering in the browser takes.

`assets/selection.js` decides from this as `moos.selection` does. Places are in UTF-16 units, which
is what strings of a browser are made of; scores are whole numbers of 1/4096.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moos.characters import CLOSING, NEWLINE, SPACE, SPACELESS, classify, code_points
from moos.joined_texts import join_texts
from moos.scores import GRID
from moos.selection import rank_words
from moos.selector import Selector
from moos.show.document_view import DocumentView, WordFigures
from moos.tokens import TextTokenizer

UNKNOWN = -1
STEPS = 20
"""Rates offered where only the reader's tokenizer can tell what a selection costs."""

_NEWLINE, _OPENS_SPACELESS, _ENDS_SPACELESS, _CLOSES = 1, 2, 4, 8


def page_data(view: DocumentView) -> dict[str, Any]:
    """A document's data for the page, as plain values.

    Where a reader's tokens are counted, the page offers the rates that are worked out here, 0.05
    apart.
    """
    starts, ends = _places(view)
    figures = view.figures
    can_select = figures is not None and figures.can_select
    reader = None if view.selector is None else view.selector.budget_tokenizer
    why, reasons = _reasons(view)
    return {
        "title": view.title,
        "text": view.text,
        "unit": view.unit,
        "budget": view.budget,
        "notes": list(view.notes),
        "total": view.num_tokens,
        "kept_tokens": view.num_kept_tokens,
        "over": view.over_budget,
        "gaps": (starts - np.concatenate([[0], ends[:-1]])[: len(starts)]).tolist(),
        "lengths": (ends - starts).tolist(),
        "kept": "".join("1" if kept else "0" for kept in view.keep.tolist()),
        "why": why.tolist(),
        "reasons": reasons,
        "flags": _flags(view).tolist(),
        **_figures(figures),
        "canSelect": can_select,
        "steps": _steps(view, reader) if can_select and reader is not None else None,
    }


def _places(view: DocumentView) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each word begins and ends, in UTF-16 units."""
    units = np.concatenate([[0], np.cumsum(1 + (code_points(view.text) > 0xFFFF))])
    return units[view.words.starts], units[view.words.ends]


def _reasons(view: DocumentView) -> tuple[NDArray[np.int64], list[list[str]]]:
    """For each word which list of names of what protects it counts, 0 for none; and the lists."""
    numbers: dict[bytes, int] = {bytes(len(view.protections)): 0}
    masks = np.zeros((len(view.words), len(view.protections)), dtype=np.bool_)
    for place, protection in enumerate(view.protections):
        masks[:, place] = protection.mask
    why = [numbers.setdefault(mask.tobytes(), len(numbers)) for mask in masks]
    names = [
        [one.name for one, keeps in zip(view.protections, found, strict=True) if keeps]
        for found in numbers
    ]
    return np.array(why, dtype=np.int64), names


def _flags(view: DocumentView) -> NDArray[np.int64]:
    """What decides what stands for a gap that ends, or begins, at each word."""
    words, classes = view.words, classify(view.text)
    if len(words) == 0:
        return np.zeros(0, dtype=np.int64)
    breaks = np.concatenate([[0], np.cumsum(classes & NEWLINE != 0)])
    before = np.concatenate([[0], words.ends[:-1]])
    opening = classes[words.starts]
    is_close = (opening & CLOSING != 0) & (words.starts > 0)
    is_close &= classes[np.maximum(words.starts - 1, 0)] & SPACE == 0
    parts = (
        (breaks[words.starts] > breaks[before], _NEWLINE),
        (opening & SPACELESS != 0, _OPENS_SPACELESS),
        (classes[words.ends - 1] & SPACELESS != 0, _ENDS_SPACELESS),
        (is_close, _CLOSES),
    )
    flags = np.zeros(len(words), dtype=np.int64)
    for mask, bit in parts:
        flags |= np.where(mask, bit, 0)
    return flags


def _figures(figures: WordFigures | None) -> dict[str, Any]:
    if figures is None:
        return dict.fromkeys(("p", "s", "score", "tokens", "numTokens"))
    counts = figures.token_counts
    return {
        "p": _levels(figures.preserve_probability),
        "s": _levels(figures.outlier_score),
        "score": _levels(figures.score),
        "tokens": None if counts is None else counts.tolist(),
        "numTokens": figures.num_tokens,
    }


def _levels(scores: NDArray[np.float32]) -> list[int]:
    """Scores in 1/4096; `UNKNOWN` for NaN."""
    known = np.nan_to_num(scores.astype(np.float64), nan=UNKNOWN / GRID)
    levels: list[int] = np.rint(known * GRID).astype(np.int64).tolist()
    return levels


def _steps(view: DocumentView, reader: TextTokenizer) -> list[list[float | int | bool]]:
    """Rates with the words of the ranking they keep (-1: all), their tokens, and if too many."""
    figures = view.figures
    assert view.selector is not None, "checked by who asks"
    assert figures is not None, "checked by who asks"
    assert figures.token_counts is not None, "checked by who asks"
    order = rank_words(figures.score, figures.token_counts, view.protected)
    joined = join_texts([view.text], [view.words])
    steps: list[list[float | int | bool]] = []
    for step in range(1, STEPS + 1):
        rate = step / STEPS
        config = view.selector.config.model_copy(update={"rate": rate, "target_tokens": None})
        selection = Selector(config, reader).select(
            joined,
            figures.score,
            figures.token_counts,
            num_tokens=[figures.num_tokens],
            protected=view.protected,
        )
        prefix = UNKNOWN if selection.keep.all() else int(selection.keep[order].sum())
        steps.append([rate, prefix, selection.num_kept_tokens[0], selection.over_budget[0]])
    return steps
