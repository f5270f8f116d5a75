"""What pages are made of: their style, histograms, tables, a text with its cuts."""

import html
from collections.abc import Mapping, Sequence

from moos.rendering import split_kept

REPORT = "report.html"

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5d6a7e; --line: #dde3ec;
  --card: #f6f8fb; --bar: #3d7be0; --drop: #9aa4b3; --page: #ffffff; --dropped: #697382; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9f1; --soft: #93a0b5; --line: #2c3646;
    --card: #1b2330; --bar: #6ea1f5; --drop: #77849a; --page: #121821; --dropped: #8f9bae; } }
body { font: 15px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .6rem; }
.soft, figcaption, th { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(7rem, 1fr));
  gap: .6rem; margin: 1rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .8rem; }
.card b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
figure { margin: 0; overflow-x: auto; }
rect { fill: var(--bar); }
rect.drop { fill: var(--drop); }
text { fill: var(--soft); font-size: 11px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 500; }
td, th { border-bottom: 1px solid var(--line); padding: .3rem .6rem .3rem 0;
  vertical-align: top; overflow-wrap: anywhere; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
.doc { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0 1.2rem; }
.doc s { color: var(--dropped); text-decoration-thickness: 1px; }
"""


def cards(values: Mapping[str, str]) -> str:
    """Figures side by side, each under its name; both plain text."""
    shown = "".join(
        f'<div class="card">{html.escape(name)}<b>{html.escape(value)}</b></div>'
        for name, value in values.items()
    )
    return f'<div class="cards">{shown}</div>'


def document_html(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """A text with its dropped parts struck through, escaped."""
    parts = [
        html.escape(part) if kept else f"<s>{html.escape(part)}</s>"
        for kept, part in split_kept(text, spans)
    ]
    return f'<div class="doc">{"".join(parts)}</div>'


def histogram(bins: Sequence[int], caption: str, dropped: Sequence[int] = ()) -> str:
    """Counts in equal bins over [0, 1], as bars; each says its numbers on hover.

    Args:
        bins: The counts.
        caption: What they count.
        dropped: Further counts in the same bins, put on top in grey: of what was dropped.
    """
    upper = list(dropped) or [0] * len(bins)
    width, gap, height = 28, 4, 120
    tallest = max([*(a + b for a, b in zip(bins, upper, strict=True)), 1])
    bars = []
    for index, (count, more) in enumerate(zip(bins, upper, strict=True)):
        x, both = index * (width + gap), count + more
        base, top = (round(height * part / tallest, 1) for part in (count, both))
        low, high = index / len(bins), (index + 1) / len(bins)
        told = f"{count:,} kept, {more:,} dropped" if dropped else f"{count:,}"
        bars.append(
            f"<g><title>{low:.2f} to {high:.2f}: {told}</title>"
            f'<rect x="{x}" y="{height - base + 14:.1f}" width="{width}" height="{base}" rx="2"/>'
            f'<rect class="drop" x="{x}" y="{height - top + 14:.1f}" width="{width}" '
            f'height="{top - base:.1f}" rx="2"/></g>'
        )
        if both and not dropped:
            bars.append(
                f'<text x="{x + width / 2}" y="{height - top + 10:.1f}" '
                f'text-anchor="middle">{both:,}</text>'
            )
        if index % 2 == 0:
            bars.append(f'<text x="{x}" y="{height + 28}">{low:.1f}</text>')
    total = len(bins) * (width + gap)
    bars.append(f'<text x="{total - 16}" y="{height + 28}">1.0</text>')
    return (
        f'<figure tabindex="0" aria-label="{html.escape(caption)}">'
        f'<svg width="{total + 12}" height="{height + 34}" role="img" '
        f'aria-label="{html.escape(caption)}">{"".join(bars)}</svg></figure>'
        f'<p class="soft">{html.escape(caption)}</p>'
    )


Cell = str | int | float
"""What stands in a table: text, a whole number, or a number shown with three digits."""


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, sortable: bool = False) -> str:
    """A table, everything in it escaped; numbers stand to the right.

    Args:
        heads: What each column holds.
        rows: The rows; a column is of one kind.
        sortable: The page's script lets each column be sorted by.
    """
    numeric = [bool(rows) and not isinstance(cell, str) for cell in (rows[0] if rows else heads)]
    kinds = [' class="n"' if is_number else "" for is_number in numeric]
    names = [
        f'<button type="button" class="sort">{html.escape(head)}</button>'
        if sortable
        else html.escape(head)
        for head in heads
    ]
    head = "".join(f"<th{kind}>{name}</th>" for kind, name in zip(kinds, names, strict=True))
    body = "".join(
        "<tr>"
        + "".join(_cell(cell, kind, sortable) for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows
    )
    mark = ' data-sortable=""' if sortable else ""
    return (
        f'<div class="wide"><table{mark}><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def _cell(cell: Cell, kind: str, sortable: bool) -> str:
    if isinstance(cell, str):
        return f"<td{kind}>{html.escape(cell)}</td>"
    value = f' data-v="{cell}"' if sortable else ""
    shown = f"{cell:,}" if isinstance(cell, int) else f"{cell:,.3f}"
    return f"<td{kind}{value}>{shown}</td>"
