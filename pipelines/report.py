"""The page that a person looks at after a run: what it saved, of which documents, and what failed.

It is made of the done records and a dozen documents, so it takes the same memory whatever the
corpus holds (besides the records themselves).
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moos.show.document_view import describe_budget
from moos.storage import Storage
from pipelines.config import CompressConfig
from pipelines.counts import SplitCounts
from pipelines.document_digest import DocumentDigest
from pipelines.html_page import build_page
from pipelines.report_documents import documents_section, read_digests
from pipelines.report_parts import REPORT, STYLE, cards, histogram
from pipelines.report_tables import (
    files_table,
    ids_section,
    quarantine_table,
    slow_splits_table,
)
from pipelines.show_output import ShownOutput
from pipelines.show_page import LEGEND, NOSCRIPT, WORD_VIEW, read_asset
from pipelines.split_timings import SplitTiming

RATE_CAPTION = "documents by rate: kept tokens / all tokens of a document"
SCORE_CAPTION = "words by score: kept ones in colour, dropped ones in grey on top"


def write_report(
    output: Storage,
    manifest: Mapping[str, Any],
    done: Mapping[str, Mapping[str, Any]],
    *,
    config: CompressConfig,
    timings: Sequence[SplitTiming],
) -> None:
    """Write `report.html`: one self-contained page, everything from the data escaped.

    Args:
        output: The run's output.
        manifest: What it publishes.
        done: The done records by split id.
        config: The job.
        timings: The splits that took longest.
    """
    shown = ShownOutput(output, manifest)
    total, extremes = DocumentDigest(), []
    for place, digest in read_digests(manifest, done):
        total.kept += digest.kept
        total.dropped += digest.dropped
        # Histograms are merged; only what may still be an extreme is held on to.
        extremes.append((place, DocumentDigest(_NONE, _NONE, digest.most, digest.least)))
    body = (
        f'<main class="shaded" id="moos-main"><h1>Compressed corpus</h1>'
        f'<div class="soft">{_settings(shown)}</div>'
        f"{cards(_figures(manifest, config))}{_worth(manifest, config)}"
        f"<h2>Rates</h2>{histogram(manifest['rate_histogram'], RATE_CAPTION)}"
        f"<h2>Scores</h2>{histogram(total.kept.tolist(), SCORE_CAPTION, total.dropped.tolist())}"
        f"<h2>Documents</h2>{LEGEND}{NOSCRIPT}"
        f"{documents_section(shown, extremes)}"
        f"<h2>Files</h2>{files_table(manifest, done)}"
        f"<h2>Slowest splits</h2>{slow_splits_table(timings)}"
        f"<h2>Quarantine</h2>{quarantine_table(output, manifest)}{ids_section(manifest)}</main>"
    )
    scripts = [read_asset(name) for name in (*WORD_VIEW, "report.js")]
    page = build_page("moos run", body, style=STYLE + read_asset("show.css"), scripts=scripts)
    output.put(REPORT, page.encode("utf-8"))


_NONE = np.zeros(0, dtype=np.int64)


def _figures(manifest: Mapping[str, Any], config: CompressConfig) -> dict[str, str]:
    totals = manifest["totals"]
    counts = SplitCounts(**{name: value for name, value in totals.items() if name != "rate"})
    saved = totals["tokens"] - totals["kept_tokens"]
    figures = {
        "documents": f"{totals['documents']:,}",
        "tokens": f"{totals['tokens']:,}",
        "kept tokens": f"{totals['kept_tokens']:,}",
        "tokens saved": f"{saved:,}",
        "rate": f"{totals['rate']:.3f}",
        "shorter by": f"{1 / totals['rate'] if totals['rate'] else 0.0:.2f}x",
        "quarantined": f"{totals['quarantined']:,}",
        "over budget": f"{totals['over_budget']:,}",
        "unknown tokens": f"{counts.unknown_share:.1%}",
        "non-Latin letters": f"{counts.non_latin_share:.1%}",
    }
    price = config.report.price_per_million_tokens
    if price is not None:
        figures["saved per reading"] = f"${saved / 1e6 * price:,.2f}"
    return figures


def _worth(manifest: Mapping[str, Any], config: CompressConfig) -> str:
    """What the tokens are counted in, and at which price they are worth what is said."""
    is_readers = manifest["signature"]["selection.budget_tokenizer"] is not None
    whose = "the reader's tokenizer" if is_readers else "the compressor's tokenizer"
    price = config.report.price_per_million_tokens
    told = (
        "report.price_per_million_tokens=PRICE tells what they are worth."
        if price is None
        else f"${price:,g} per million tokens (report.price_per_million_tokens), each time that "
        "the whole corpus is read."
    )
    return f'<p class="soft">Tokens are counted by {whose}. {html.escape(told)}</p>'


def _settings(shown: ShownOutput) -> str:
    signature, selection = shown.manifest["signature"], shown.selector.config
    budget, protect = describe_budget(selection), ", ".join(selection.protect) or "nothing"
    return html.escape(
        f"{', '.join(signature['input.path'])} · checkpoint {signature['checkpoint']} · {budget} · "
        f"alpha {signature['scoring.alpha']} · protected: {protect}"
    )
