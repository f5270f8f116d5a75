"""The tables of a run's report: files, slow splits, what was quarantined and why."""

import base64
import html
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from moos.storage import Storage
from pipelines.quarantine import read_quarantine
from pipelines.reasons import kind_of_reason
from pipelines.report_parts import Cell, table
from pipelines.split_timings import SplitTiming

MAX_FILES = 200
MAX_QUARANTINE_FILES = 20
"""Quarantine files that examples are taken from, evenly spread."""

EXAMPLES_OF_KIND = 3
RAW_CHARS = 160


def files_table(
    manifest: Mapping[str, Any], done: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """Input files with what became of them; the largest ones where there are many.

    Args:
        manifest: What the run publishes.
        done: Its done records, for tokens and rates; None leaves these out.
    """
    sums: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
    for entry in manifest["splits"]:
        counts = {} if done is None else done[entry["split"]]["counts"]
        own = (
            1,
            entry["documents"],
            counts.get("tokens", 0),
            counts.get("kept_tokens", 0),
            entry["quarantined"],
        )
        kept = sums[entry["source"]["path"]]
        for place, value in enumerate(own):
            kept[place] += value
    shown = list(sums.items())
    if len(shown) > MAX_FILES:
        largest = sorted(shown, key=lambda item: (-item[1][2], -item[1][1]))[:MAX_FILES]
        names = {name for name, _ in largest}
        shown = [item for item in shown if item[0] in names]
    heads, rows = ["file", "splits", "documents"], []
    if done is not None:
        heads += ["tokens", "kept tokens", "rate"]
    for path, (splits, documents, tokens, kept_tokens, quarantined) in shown:
        row: list[Cell] = [path, splits, documents]
        if done is not None:
            row += [tokens, kept_tokens, kept_tokens / tokens if tokens else 1.0]
        rows.append([*row, quarantined])
    more = len(sums) - len(shown)
    note = f'<p class="soft">and {more:,} smaller files</p>' if more else ""
    return table([*heads, "quarantined"], rows, sortable=done is not None) + note


def slow_splits_table(timings: Sequence[SplitTiming]) -> str:
    """The splits that took longest, as far as the runs' events say."""
    if not timings:
        return '<p class="soft">No run left events that tell.</p>'
    rows = [
        (
            timing.split,
            timing.path,
            timing.pass_name,
            round(timing.seconds, 3),
            timing.tokens,
            round(timing.tokens / timing.seconds) if timing.seconds > 0 else 0,
        )
        for timing in timings
    ]
    heads = ("split", "file", "pass", "seconds", "tokens", "tokens/s")
    return table(heads, rows, sortable=True)


def quarantine_table(output: Storage, manifest: Mapping[str, Any]) -> str:
    """Records by kind of reason, each kind with a few examples to open."""
    by_kind = dict(manifest.get("quarantined_by_reason", {}))
    examples = _examples(output, manifest)
    seen = Counter({kind: len(found) for kind, found in examples.items()})
    by_kind = by_kind or dict(seen)  # a job that does not count them
    if not by_kind:
        return '<p class="soft">No record.</p>'
    parts = []
    for kind, count in sorted(by_kind.items(), key=lambda item: (-item[1], item[0])):
        items = "".join(f"<li>{item}</li>" for item in examples.get(kind, []))
        inside = f"<ul>{items}</ul>" if items else '<p class="soft">No example was read.</p>'
        name = html.escape(kind.replace("_", " "))
        parts.append(f"<details><summary><b>{count:,}</b> {name}</summary>{inside}</details>")
    return "".join(parts)


def _examples(output: Storage, manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """A few records of each kind, as escaped HTML, from some of the quarantine files."""
    parts = [entry["quarantine"] for entry in manifest["splits"] if entry["quarantine"] is not None]
    step = max(1, len(parts) // MAX_QUARANTINE_FILES)
    found: dict[str, list[str]] = defaultdict(list)
    for part in islice(parts, 0, step * MAX_QUARANTINE_FILES, step):
        for record in read_quarantine(output.get(part["name"])):
            examples = found[kind_of_reason(record["reason"])]
            if len(examples) < EXAMPLES_OF_KIND:
                examples.append(_example(record))
    return found


def _example(record: Mapping[str, Any]) -> str:
    id_ = f", id {record['id']}" if record["id"] else ""
    place = f"{record['path']} at {record['position']}{id_}"
    raw = ""
    if record["raw_format"] != "arrow":
        text = base64.b64decode(record["raw"][: RAW_CHARS * 8]).decode("utf-8", "replace")
        cut = text[:RAW_CHARS] + ("..." if len(text) > RAW_CHARS else "")
        raw = f"<br><code>{html.escape(cut)}</code>" if cut else ""
    reason = html.escape(record["reason"][:300])
    return f'<span class="soft">{html.escape(place)}</span>: <span>{reason}</span>{raw}'


def ids_section(manifest: Mapping[str, Any]) -> str:
    """Ids of several documents, where the run has an id column; otherwise nothing."""
    ids = manifest.get("ids")
    if ids is None:
        return ""
    note = (
        f"{ids['repeated_ids']:,} ids are those of several documents, "
        f"{ids['documents_with_repeated_ids']:,} in all; "
        f"{ids['documents_without_id']:,} documents have no id."
    )
    rows = [(one["id"], one["documents"], one["first"]) for one in ids["examples"]]
    examples = table(("id", "documents", "first in"), rows) if rows else ""
    return f'<h2>Ids</h2><p class="soft">{note}</p>{examples}'
