"""The figures of an evaluation as tables, for Markdown and for HTML alike."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.evaluate_broken import BrokenCount, Setting
from pipelines.evaluate_figures import (
    DeletionFigure,
    EstimateFigure,
    Figures,
    LengthBucket,
    RetentionFigure,
    RunFigure,
    ScoreFigure,
    SpeedFigure,
)

NOTHING = "–"
ABOVE, BELOW = "▲", "▼"
"""Marks of a difference whose interval excludes zero."""
MAX_TASK_COLUMNS = 6


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as plain text.

    Attributes:
        title: What it is about.
        columns: Their names.
        num_texts: So many columns, the first ones, hold words; the others hold numbers.
        rows: A cell per column each. What follows a line break in a cell is said in passing.
        breaks: Places of rows that begin something else than the row before.
    """

    title: str
    columns: tuple[str, ...]
    num_texts: int
    rows: Sequence[tuple[str, ...]]
    breaks: frozenset[int] = frozenset()


def to_html(table: Table) -> str:
    """As HTML, escaped; it scrolls by itself, with the keyboard too, where the page is narrow."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        numeric = ' class="n"'
        return "".join(
            f"<{tag}{numeric if place >= table.num_texts else ''}>{_cell_html(text)}</{tag}>"
            for place, text in enumerate(texts)
        )

    first = ' class="first"'
    body = "".join(
        f"<tr{first if place in table.breaks else ''}>{cells('td', row)}</tr>"
        for place, row in enumerate(table.rows)
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{html.escape(table.title)}">'
        f"<table><thead><tr>{cells('th', table.columns)}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell_html(text: str) -> str:
    head, _, passing = text.partition("\n")
    return html.escape(head) + (f"<br><small>{html.escape(passing)}</small>" if passing else "")


def to_markdown(table: Table) -> str:
    """As a GitHub table, escaped, with an empty line behind it."""
    bars = ["---" if place < table.num_texts else "--:" for place in range(len(table.columns))]
    lines = [[escape_markdown(name) for name in table.columns], bars]
    lines += [[escape_markdown(cell.replace("\n", "; ")) for cell in row] for row in table.rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it stands, on one line."""
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def format_estimate(figure: EstimateFigure, unit: str = "") -> str:
    """A share of 1 as one of 100, with its interval."""
    low, high = 100 * figure["low"], 100 * figure["high"]
    return f"{100 * figure['value']:.1f}{unit} [{low:.1f}, {high:.1f}]"


def format_difference(figure: EstimateFigure) -> str:
    """The same with signs, and a mark where the interval excludes zero."""
    value, low, high = (100 * number for number in (figure["value"], figure["low"], figure["high"]))
    mark = f" {ABOVE}" if low > 0 else f" {BELOW}" if high < 0 else ""
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]{mark}"


def format_rate(rate: float | None) -> str:
    """A rate; a dash where there is none."""
    return NOTHING if rate is None else f"{rate:.3g}"


def score_table(title: str, figures: Sequence[ScoreFigure], run: RunFigure) -> Table:
    """Methods side by side: `full` first, then rate by rate, `none` last."""
    order = {rate: place for place, rate in enumerate(run["rates"], 1)}
    last = len(order) + 1

    def place(figure: ScoreFigure) -> int:
        if figure["rate"] is None:
            return 0 if figure["method"] == "full" else last
        return order.get(figure["rate"], last)

    has_cost = any(figure["cost_per_1000"] is not None for figure in figures)
    against = [f"difference to {run['baseline']}"] if run["baseline"] else []
    costs = ["cost of 1,000"] if has_cost else []
    columns = ("method", "rate", "achieved", "score", "share of full", *against, "speed-up", *costs)
    ordered = sorted(figures, key=place)
    rows = []
    for figure in ordered:
        share, cost = figure["share_of_full"], figure["cost_per_1000"]
        rows.append(
            (
                figure["method"],
                format_rate(figure["rate"]),
                NOTHING if figure["achieved_rate"] is None else f"{figure['achieved_rate']:.3f}",
                format_estimate(figure["score"]),
                NOTHING if share is None else format_estimate(share, " %"),
                *([_difference_cell(figure, run)] if against else []),
                NOTHING if figure["speed_up"] is None else f"{figure['speed_up']:.2f}×",
                *([NOTHING if cost is None else f"{cost:,.4g}"] if has_cost else []),
            )
        )
    return Table(title, columns, 1, rows, _find_breaks([place(figure) for figure in ordered]))


def _find_breaks(keys: Sequence[object]) -> frozenset[int]:
    """Places whose key is not that of the place before."""
    return frozenset(place for place in range(1, len(keys)) if keys[place] != keys[place - 1])


def _difference_cell(figure: ScoreFigure, run: RunFigure) -> str:
    if figure["method"] == run["baseline"]:
        return "baseline"
    return NOTHING if figure["difference"] is None else format_difference(figure["difference"])


def speed_table(speed: Sequence[SpeedFigure]) -> Table:
    """Speed-ups by length of the context, each with the seconds that it comes from."""
    ranges = sorted({(b["min_tokens"], b["max_tokens"]) for s in speed for b in s["buckets"]})
    rows = []
    for figure in speed:
        buckets = {(b["min_tokens"], b["max_tokens"]): b for b in figure["buckets"]}
        pays = figure["pays_from"]
        cells = [_speed_cell(buckets[span]) if span in buckets else NOTHING for span in ranges]
        paid = "never here" if pays is None else f"{pays:,} tokens"
        rows.append((figure["method"], format_rate(figure["rate"]), *cells, paid))
    names = [format_range(*span) for span in ranges]
    return Table("Speed-up by context length", ("method", "rate", *names, "pays from"), 1, rows)


def format_range(low: int, high: int) -> str:
    """Lengths that a bucket holds."""
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _speed_cell(bucket: LengthBucket) -> str:
    seconds = (
        f"{bucket['read_seconds_full']:.3g} → "
        f"{bucket['compress_seconds']:.2g} + {bucket['read_seconds']:.3g} s"
    )
    return f"{bucket['speed_up']:.2f}×\n{seconds}"


def retention_table(retention: Sequence[RetentionFigure]) -> Table:
    """Facts kept of each kind."""
    kinds = list(dict.fromkeys(kind for figure in retention for kind in figure["kinds"]))
    rows = []
    for figure in retention:
        cells = []
        for kind in kinds:
            fact = figure["kinds"].get(kind)
            is_told = fact is not None and fact["share"] is not None
            cells.append(
                f"{100 * (fact['share'] or 0):.1f} %\n{fact['num_kept']:,} of {fact['num_facts']:,}"
                if fact is not None and is_told
                else NOTHING
            )
        rate, achieved = format_rate(figure["rate"]), figure["achieved_rate"]
        got = NOTHING if achieved is None else f"{achieved:.3f}"
        rows.append((figure["method"], rate, got, *cells))
    return Table("Facts kept", ("method", "rate", "achieved", *kinds), 1, rows)


def deletion_table(deletions: Sequence[DeletionFigure]) -> Table:
    """Agreement with human deletions."""
    rows = [
        (
            figure["method"],
            NOTHING if figure["auc"] is None else f"{figure['auc']:.4f}",
            NOTHING if figure["sentence_auc"] is None else f"{figure['sentence_auc']:.4f}",
            f"{figure['num_sentences']:,}",
            f"{figure['num_tokens']:,}",
            NOTHING if figure["kept_share"] is None else f"{figure['kept_share']:.3f}",
        )
        for figure in deletions
    ]
    columns = ("method", "AUC", "AUC within a sentence", "sentences", "tokens", "kept by people")
    return Table("Agreement with human deletions", columns, 1, rows)


def smoothing_table(figures: Figures) -> Table:
    """S by layer."""
    smoothing = figures["smoothing"]
    num_layers = max((len(figure["layers"]) for figure in smoothing), default=0)
    names = ["embeddings", *(str(layer) for layer in range(1, num_layers))][:num_layers]
    rows = [
        (
            figure["name"],
            *(f"{value:.3f}" for value in figure["layers"]),
            *([NOTHING] * (num_layers - len(figure["layers"]))),
            f"{figure['num_windows']:,}",
        )
        for figure in smoothing
    ]
    return Table("Mean S by layer", ("checkpoint", *names, "windows"), 1, rows)


def task_table(run: RunFigure) -> Table:
    """What was asked."""
    rows = [
        (
            task["name"],
            task["group"],
            task["metric"],
            task["source"],
            f"{task['num_examples']:,}",
            f"{task['num_contexts']:,}",
            f"{task['mean_context_tokens']:,.0f}",
            f"{task['max_context_tokens']:,}",
            f"{task['num_cut']:,}",
        )
        for task in run["tasks"]
    ]
    counts = ("questions", "contexts", "mean tokens", "longest", "middle cut")
    return Table("Tasks", ("task", "group", "metric", "prompt and metric from", *counts), 4, rows)


def method_table(run: RunFigure) -> Table:
    """Methods as they were set."""
    rows = [
        (
            method["name"],
            method["kind"],
            join_pairs(method["settings"]),
            NOTHING if method["content"] is None else method["content"],
        )
        for method in run["methods"]
    ]
    return Table("Methods", ("method", "kind", "settings", "model's hash"), 4, rows)


def broken_table(counts: Mapping[Setting, BrokenCount]) -> Table:
    """How many answers each method broke, by rate and, if they are few, by task."""
    tasks = sorted({task for task, _, _ in counts})
    settings = dict.fromkeys((method, rate) for _, method, rate in counts)
    shown = tasks if 1 < len(tasks) <= MAX_TASK_COLUMNS else []
    rows = []
    for method, rate in sorted(settings, key=lambda setting: -setting[1]):
        own = {task: counts.get((task, method, rate), BrokenCount(0, 0)) for task in tasks}
        total = BrokenCount(
            sum(count.num_answered for count in own.values()),
            sum(count.num_broken for count in own.values()),
        )
        cells = [_broken_cell(count) for count in (*(own[task] for task in shown), total)]
        rows.append((method, format_rate(rate), *cells))
    breaks = _find_breaks([row[1] for row in rows])
    return Table("Answers broken", ("method", "rate", *shown, "all tasks"), 1, rows, breaks)


def _broken_cell(count: BrokenCount) -> str:
    if not count.num_answered:
        return NOTHING
    return f"{count.num_broken:,} of {count.num_answered:,}"


def _compact(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def join_pairs(pairs: Mapping[str, object]) -> str:
    """Names with their values, in one line."""
    return ", ".join(f"{name} {_compact(value)}" for name, value in pairs.items())
