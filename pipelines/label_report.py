"""The page that a person looks at after labelling: domains, histograms, documents to read."""

import html
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moos.storage import Storage
from pipelines.html_page import build_page
from pipelines.report_parts import REPORT, STYLE, cards, histogram
from pipelines.report_tables import files_table, ids_section, quarantine_table

EXAMPLES = 8
EXAMPLE_WORDS = 220
FILES_READ = 12
"""Data files that examples are taken from, evenly spread."""

LABEL_STYLE = """
.doc span { border-radius: .2rem; padding: 0 .1rem;
  background: color-mix(in srgb, var(--bar) calc(var(--p) * 55%), transparent); }
.doc i { color: var(--drop); }
.key span { padding: 0 .3rem; }
figure { margin-bottom: 1.2rem; }
"""

CAPTIONS = {
    "label": "words by label: the teacher's probability that a word is to be kept",
    "keep_rate": "documents by keep rate: words that the teacher kept / all words",
    "variation_rate": "documents by variation rate: words of the compression that the original "
    "lacks",
    "alignment_gap": "documents by alignment gap: words that were there to be found but not "
    "labelled, per word of the original",
}


ALIGNED = ("variation_rate", "alignment_gap")
"""Figures of an alignment; a teacher that can only delete has none to show."""


def write_label_report(output: Storage, manifest: Mapping[str, Any]) -> None:
    """Write `report.html`: one self-contained page, everything from the data escaped."""
    totals = manifest["totals"]
    figures = {
        "documents": f"{totals['documents']:,}",
        "pass the filters": f"{totals['passed']:,}",
        "words": f"{totals['words']:,}",
        "keep rate": f"{totals['kept_words'] / max(1, totals['labelled_words']):.3f}",
        "quarantined": f"{totals['quarantined']:,}",
    }
    deletes = manifest["signature"]["teacher.kind"] == "local"
    histograms = "".join(
        histogram(manifest["histograms"][name], caption)
        for name, caption in CAPTIONS.items()
        if any(manifest["histograms"].get(name, [])) and not (deletes and name in ALIGNED)
    )
    body = (
        f'<h1>Labelled corpus</h1><div class="soft">{_settings(manifest)}</div>'
        f"{cards(figures)}<h2>Domains</h2>{_domains(manifest)}"
        f"<h2>Histograms</h2>{histograms}"
        f"<h2>Filters</h2>{_filters(manifest)}"
        f"<h2>To read</h2>{_examples(output, manifest)}"
        f"<h2>Files</h2>{files_table(manifest)}"
        f"<h2>Quarantine</h2>{quarantine_table(output, manifest)}{ids_section(manifest)}"
    )
    page = build_page("moos labels", body, style=STYLE + LABEL_STYLE)
    output.put(REPORT, page.encode("utf-8"))


def _settings(manifest: Mapping[str, Any]) -> str:
    signature = manifest["signature"]
    teacher = {
        key.removeprefix("teacher."): value
        for key, value in signature.items()
        if key in ("teacher.kind", "teacher.model", "teacher.name", "teacher.aligner")
        and value is not None
    }
    described = ", ".join(f"{key} {value}" for key, value in sorted(teacher.items()))
    return html.escape(f"{', '.join(signature['input.path'])} · teacher: {described}")


def _domains(manifest: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><td>{html.escape(domain)}</td><td class="n">{counts["documents"]:,}</td>'
        f'<td class="n">{counts["passed"]:,}</td><td class="n">{counts["words"]:,}</td>'
        f'<td class="n">{counts["kept_words"] / max(1, counts["labelled_words"]):.3f}</td></tr>'
        for domain, counts in sorted(manifest["domains"].items())
    )
    return (
        '<table><tr><th>domain</th><th class="n">documents</th><th class="n">pass</th>'
        f'<th class="n">words</th><th class="n">keep rate</th></tr>{rows}</table>'
    )


def _filters(manifest: Mapping[str, Any]) -> str:
    bounds = manifest["bounds"] or {}
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="n">'
        f"{'any' if value is None else format(value, '.4g')}</td></tr>"
        for name, value in bounds.items()
    )
    return f'<table><tr><th>filter</th><th class="n">bound</th></tr>{rows}</table>'


def _examples(output: Storage, manifest: Mapping[str, Any]) -> str:
    """Documents of several files and domains, their words shaded by label."""
    holding = [entry for entry in manifest["splits"] if entry["data"] is not None]
    step = max(1, len(holding) // FILES_READ)
    chosen: dict[str, list[dict[str, Any]]] = {}
    for entry in holding[::step][:FILES_READ]:
        file = pq.ParquetFile(pa.BufferReader(output.get(entry["data"]["name"])))
        batch = next(file.iter_batches(64), None)
        for row in [] if batch is None else batch.to_pylist():
            if row["words"]:
                chosen.setdefault(row["domain"], []).append(row)
    picked: list[dict[str, Any]] = []
    while len(picked) < EXAMPLES and any(chosen.values()):
        picked.extend(rows.pop(0) for rows in list(chosen.values()) if rows)
    key = "".join(f'<span style="--p:{p}">{p}</span>' for p in (0.0, 0.25, 0.5, 0.75, 1.0))
    shown = "".join(_example(row) for row in picked[:EXAMPLES])
    if not shown:
        return '<p class="soft">No document.</p>'
    return f'<div class="doc key">label: {key} <i>none</i></div>{shown}'


def _example(row: Mapping[str, Any]) -> str:
    parts, at = [], 0
    words = row["words"][:EXAMPLE_WORDS]
    for word in words:
        parts.append(html.escape(row["text"][at : word["start"]]))
        at = word["end"]
        text = html.escape(row["text"][word["start"] : at])
        label = word["label"]
        title = "no label" if label is None else f"{label:.2f}"
        tag = "i" if label is None else "span"
        style = "" if label is None else f' style="--p:{label:.2f}"'
        parts.append(f'<{tag}{style} title="{title}">{text}</{tag}>')
    failed = ", ".join(row["failed_filters"])
    note = f" · fails {failed}" if failed else ""
    cut = f" · first {EXAMPLE_WORDS} words" if len(row["words"]) > len(words) else ""
    about = f"{row['id']} · {row['domain']} · {row['split']} · keep rate {row['keep_rate']:.2f}"
    return (
        f'<div class="soft">{html.escape(about + note + cut)}</div>'
        f'<div class="doc">{"".join(parts)}</div>'
    )
