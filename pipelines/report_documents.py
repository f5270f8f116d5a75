"""The documents of a run's report: those compressed most and least, and some to begin with.

Each opens in the page as words to point at. Where the output holds the scores of all words, the
page has a slider over the rate, too; a report never runs the model.
"""

import html
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moos.errors import DataError
from moos.rendering import merge_kept_words
from moos.show.document_view import DocumentView, head_of
from moos.show.page_data import page_data
from pipelines.document_digest import (
    DocumentDigest,
    DocumentPlace,
    least_compressed,
    most_compressed,
)
from pipelines.html_page import json_block
from pipelines.report_parts import document_html
from pipelines.show_output import ShownOutput

SHOWN = 4
"""Documents of each list."""

MAX_CHARS = 12_000
"""Characters of a document that the page holds."""

EXCERPT_CHARS = 300

HELD = 1000
"""Candidates held in memory at most."""

DATA_ID = "moos-data"


@dataclass(frozen=True, slots=True)
class _Pick:
    """A document to show: the split's entry of the manifest, and its row there."""

    place: int
    row: int


Digests = Sequence[tuple[int, DocumentDigest]]
"""Digests of splits, each with the split's place in the manifest."""

Rank = Callable[[Iterable[DocumentPlace]], list[DocumentPlace]]


def documents_section(output: ShownOutput, digests: Digests) -> str:
    """The lists of documents, and the data that the page's script shows them by.

    Args:
        output: The run's output.
        digests: What each split's done record says of its documents.
    """
    lists = {
        "Compressed most": _extremes(digests, most_compressed, "most"),
        "Compressed least": _extremes(digests, least_compressed, "least"),
        "The first of some files": _first(output.manifest),
    }
    parts: list[str] = []
    data: list[list[dict[str, Any]]] = []
    taken: set[_Pick] = set()
    for name, picks in lists.items():
        new = [pick for pick in picks if pick not in taken]
        taken.update(new)
        views = [view for pick in new for view in _view(output, pick)]
        if views:
            shown = "".join(_excerpt(view, len(data) + at) for at, view in enumerate(views))
            parts.append(f"<h3>{name}</h3>{shown}")
            data.extend([page_data(view)] for view in views)
    if not parts:
        return '<p class="soft">No document.</p>'
    return "".join(parts) + json_block(DATA_ID, data)


def _extremes(digests: Digests, rank: Rank, name: str) -> list[_Pick]:
    """The extremes of all splits, from those of each; the earlier split's first among equals."""
    by_place: dict[DocumentPlace, list[_Pick]] = {}
    for place, digest in digests:
        for found in getattr(digest, name):
            by_place.setdefault(found, []).append(_Pick(place, found.row))
        if len(by_place) > HELD:
            by_place = {found: by_place[found] for found in rank(by_place)[:SHOWN]}
    best = rank(by_place)[:SHOWN]
    return [pick for found in best for pick in by_place[found]][:SHOWN]


def _first(manifest: Mapping[str, Any]) -> list[_Pick]:
    """The first documents of a few files, evenly spread."""
    first: dict[str, int] = {}
    for place, entry in enumerate(manifest["splits"]):
        if entry["data"] is not None:
            first.setdefault(entry["source"]["path"], place)
    step = max(1, len(first) // SHOWN)
    return [_Pick(place, 0) for place in [*first.values()][::step][:SHOWN]]


def _view(output: ShownOutput, pick: _Pick) -> Iterator[DocumentView]:
    """The document, its beginning where it is long; none where it cannot be shown."""
    try:
        view = output.view(output.find_row(pick.place, pick.row))
    except (DataError, StopIteration):  # a pattern too slow, or a file that somebody changed
        return
    if view.text.strip():
        yield head_of(view, MAX_CHARS)


def _excerpt(view: DocumentView, number: int) -> str:
    """The beginning of a document, and the button that opens it as words."""
    begin = head_of(view, EXCERPT_CHARS)
    spans = merge_kept_words(begin.keep, begin.words, len(begin.text))
    cut = " · its beginning" if len(begin.text) < len(view.text) else ""
    return (
        f'<section class="excerpt"><p class="soft">{html.escape(view.headline() + cut)}</p>'
        f"{document_html(begin.text, spans)}"
        f'<p><button type="button" data-open="{number}" aria-expanded="false">'
        "Look at its words</button></p>"
        f'<div class="opened"></div></section>'
    )


def read_digests(
    manifest: Mapping[str, Any], done: Mapping[str, Mapping[str, Any]]
) -> Iterable[tuple[int, DocumentDigest]]:
    """The digests in the done records, with the places of their splits in the manifest."""
    for place, entry in enumerate(manifest["splits"]):
        if entry["data"] is not None:
            yield place, DocumentDigest.from_json(done[entry["split"]]["digest"])
