"""The page that a person looks at after a run: totals, rates, words kept, quarantine."""

import html
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from moos.rendering import split_kept
from moos.storage import Storage
from pipelines.html_page import build_page
from pipelines.outputs import iterate_rows

REPORT = "report.html"
EXAMPLES = 4
EXAMPLE_CHARS = 1500
RATE_CAPTION = "rate = kept tokens / all tokens of a document"
MAX_FILES = 50
MAX_QUARANTINE_FILES = 20

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #68758a; --line: #dde3ec;
  --card: #f6f8fb; --bar: #3d7be0; --drop: #9aa4b3; --page: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9f1; --soft: #93a0b5; --line: #2c3646;
    --card: #1b2330; --bar: #6ea1f5; --drop: #77849a; --page: #121821; } }
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
text { fill: var(--soft); font-size: 11px; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 500; }
td, th { border-bottom: 1px solid var(--line); padding: .3rem .6rem .3rem 0;
  vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.doc { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0 1.2rem; }
.doc s { color: var(--drop); text-decoration-thickness: 1px; }
"""


def write_report(output: Storage, manifest: Mapping[str, Any], text_column: str) -> None:
    """Write `report.html`: one self-contained page, everything from the data escaped."""
    output.put(REPORT, build_report(output, manifest, text_column).encode("utf-8"))


def build_report(output: Storage, manifest: Mapping[str, Any], text_column: str) -> str:
    """The page as HTML."""
    totals = manifest["totals"]
    ratio = 1 / totals["rate"] if totals["rate"] else 0.0
    cards = {
        "documents": f"{totals['documents']:,}",
        "tokens": f"{totals['tokens']:,}",
        "kept tokens": f"{totals['kept_tokens']:,}",
        "rate": f"{totals['rate']:.3f}",
        "shorter by": f"{ratio:.2f}x",
        "quarantined": f"{totals['quarantined']:,}",
        "over budget": f"{totals['over_budget']:,}",
    }
    shown = "".join(
        f'<div class="card">{name}<b>{value}</b></div>' for name, value in cards.items()
    )
    body = (
        f'<h1>Compressed corpus</h1><div class="soft">{_settings(manifest["signature"])}</div>'
        f'<div class="cards">{shown}</div>'
        f"<h2>Documents by rate</h2>{histogram(manifest['rate_histogram'], RATE_CAPTION)}"
        f"<h2>What was kept</h2>{_examples(output, manifest, text_column)}"
        f"<h2>Files</h2>{files_table(manifest)}"
        f"<h2>Quarantine</h2>{quarantine_table(output, manifest)}"
        f"{_ids(manifest)}"
    )
    return build_page("moos run", body, style=STYLE)


def document_html(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """A text with its dropped parts struck through, escaped."""
    parts = [
        html.escape(part) if kept else f"<s>{html.escape(part)}</s>"
        for kept, part in split_kept(text, spans)
    ]
    return f'<div class="doc">{"".join(parts)}</div>'


def _settings(signature: Mapping[str, Any]) -> str:
    budgets = ("rate", "target_tokens", "threshold", "corpus_rate")
    budget = next(
        (
            f"{b} {signature[f'selection.{b}']}"
            for b in budgets
            if signature[f"selection.{b}"] is not None
        ),
        "rate 0.5",
    )
    protect = ", ".join(signature["selection.protect"]) or "nothing"
    return html.escape(
        f"{', '.join(signature['input.path'])} · checkpoint {signature['checkpoint']} · {budget} · "
        f"alpha {signature['scoring.alpha']} · protected: {protect}"
    )


def histogram(bins: Sequence[int], caption: str) -> str:
    """Counts in equal bins over [0, 1], as bars; each says its numbers on hover."""
    height, width, gap = 120, 28, 4
    tallest = max([*bins, 1])
    bars = []
    for index, count in enumerate(bins):
        bar = round(height * count / tallest, 1) if count else 0
        low, high = index / len(bins), (index + 1) / len(bins)
        bars.append(
            f'<rect x="{index * (width + gap)}" y="{height - bar + 14:.1f}" width="{width}" '
            f'height="{bar}" rx="2"><title>{low:.2f} to {high:.2f}: {count:,}</title></rect>'
        )
        if count:
            x, y = index * (width + gap) + width / 2, height - bar + 10
            bars.append(f'<text x="{x}" y="{y:.1f}" text-anchor="middle">{count:,}</text>')
        if index % 2 == 0:
            bars.append(f'<text x="{index * (width + gap)}" y="{height + 28}">{low:.1f}</text>')
    total = len(bins) * (width + gap)
    bars.append(f'<text x="{total - 16}" y="{height + 28}">1.0</text>')
    return (
        f'<figure><svg width="{total + 12}" height="{height + 34}" role="img" '
        f'aria-label="{html.escape(caption)}">{"".join(bars)}</svg>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _examples(output: Storage, manifest: Mapping[str, Any], text_column: str) -> str:
    """The first documents of a few files, so that a page shows more than one kind."""
    holding = [entry for entry in manifest["splits"] if entry["data"] is not None]
    step = max(1, len(holding) // EXAMPLES)
    id_column = manifest["signature"]["input.id_column"]
    parts = []
    for entry in holding[::step][:EXAMPLES]:
        file_name = entry["data"]["name"]
        wanted = [text_column, "kept_spans", "rate", *([id_column] if id_column else [])]
        row = next(
            (
                r
                for r in iterate_rows(file_name, output.get(file_name), wanted)
                if r[text_column].strip()
            ),
            None,
        )
        if row is None:
            continue
        text = row[text_column][:EXAMPLE_CHARS]
        spans = [
            (span["start"], min(span["end"], len(text)))
            for span in row["kept_spans"]
            if span["start"] < len(text)
        ]
        # A JSON row has the keys that its record had.
        name = None if id_column is None else row.get(id_column)
        title = entry["source"]["path"] + ("" if name is None else f", id {name}")
        cut = f", first {EXAMPLE_CHARS} characters" if len(row[text_column]) > len(text) else ""
        parts.append(
            f'<div class="soft">{html.escape(title)} · rate {row["rate"]:.3f}{cut}</div>'
            f"{document_html(text, spans)}"
        )
    return "".join(parts) or '<p class="soft">No document.</p>'


def _ids(manifest: Mapping[str, Any]) -> str:
    """Ids of several documents, where the run has an id column."""
    ids = manifest.get("ids")
    if ids is None:
        return ""
    note = (
        f"{ids['repeated_ids']:,} ids are those of several documents, "
        f"{ids['documents_with_repeated_ids']:,} in all; "
        f"{ids['documents_without_id']:,} documents have no id."
    )
    rows = "".join(
        f'<tr><td>{html.escape(example["id"])}</td><td class="n">{example["documents"]:,}</td>'
        f"<td>{html.escape(example['first'])}</td></tr>"
        for example in ids["examples"]
    )
    head = '<tr><th>id</th><th class="n">documents</th><th>first in</th></tr>'
    return f'<h2>Ids</h2><p class="soft">{note}</p>' + (f"<table>{head}{rows}</table>" * bool(rows))


def files_table(manifest: Mapping[str, Any]) -> str:
    """Input files with their splits, documents and quarantined records."""
    documents: dict[str, int] = defaultdict(int)
    quarantined: dict[str, int] = defaultdict(int)
    splits: dict[str, int] = defaultdict(int)
    for entry in manifest["splits"]:
        path = entry["source"]["path"]
        documents[path] += entry["documents"]
        quarantined[path] += entry["quarantined"]
        splits[path] += 1
    rows = "".join(
        f'<tr><td>{html.escape(path)}</td><td class="n">{splits[path]:,}</td>'
        f'<td class="n">{documents[path]:,}</td><td class="n">{quarantined[path]:,}</td></tr>'
        for path in list(documents)[:MAX_FILES]
    )
    more = len(documents) - MAX_FILES
    note = f'<p class="soft">and {more:,} more files</p>' if more > 0 else ""
    return (
        '<table><tr><th>file</th><th class="n">splits</th><th class="n">documents</th>'
        f'<th class="n">quarantined</th></tr>{rows}</table>{note}'
    )


def quarantine_table(output: Storage, manifest: Mapping[str, Any]) -> str:
    """Reasons by number, from the first quarantine files."""
    parts = [entry["quarantine"] for entry in manifest["splits"] if entry["quarantine"] is not None]
    reasons: Counter[str] = Counter()
    for part in parts[:MAX_QUARANTINE_FILES]:
        for line in output.get(part["name"]).split(b"\n"):
            if line:
                reasons[json.loads(line)["reason"]] += 1
    if not reasons:
        return '<p class="soft">No record.</p>'
    rows = "".join(
        f'<tr><td>{html.escape(reason[:300])}</td><td class="n">{count:,}</td></tr>'
        for reason, count in reasons.most_common(20)
    )
    return f'<table><tr><th>reason</th><th class="n">records</th></tr>{rows}</table>'
