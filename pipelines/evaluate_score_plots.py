"""Pictures of what a reader made of compressed contexts: scores, costs, speed."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pipelines.evaluate_figures import CellFigure, EstimateFigure, Figures, GroupFigure
from pipelines.evaluate_plot_style import (
    Plot,
    Styles,
    add_legend,
    label_lines,
    make_panels,
    make_plot,
)
from pipelines.evaluate_tables import format_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GATES = (0.85, 0.7)
"""Shares of the whole context's score that are marked."""
MAX_PANELS = 9
REFERENCE = "#3d4654"


def draw_scores(figures: Figures, styles: Styles) -> list[Plot]:
    """Score against achieved rate, a panel per task, nine to a picture."""
    tasks = list(dict.fromkeys(cell["task"] for cell in figures["cells"]))
    metrics = {task["name"]: task["metric"] for task in figures["run"]["tasks"]}
    percent = f"{100 * figures['run']['confidence']:g} %"
    plots = []
    for number, first in enumerate(range(0, len(tasks), MAX_PANELS), 1):
        here = tasks[first : first + MAX_PANELS]
        figure, panels = make_panels(here)
        for axes, task in zip(panels, here, strict=True):
            cells = [cell for cell in figures["cells"] if cell["task"] == task]
            _draw_task(axes, cells, styles)
            axes.set_ylabel(metrics.get(task, "score"))
        figure.supxlabel("achieved rate: tokens of the compressions / tokens of the contexts")
        add_legend(figure, _drawn(figures["cells"], styles), styles)
        caption = (
            f"Bars: {percent} bootstrap intervals. Thin dashed lines: "
            f"{' and '.join(f'{100 * gate:g} %' for gate in GATES)} of the score of the full "
            "context. Points are moved sideways, by less than a tenth of the way from rate "
            "to rate, so that their bars can be seen."
        )
        name = "score" if len(tasks) <= MAX_PANELS else f"score-{number}"
        plots.append(make_plot(figure, name=name, title="Score against rate", caption=caption))
    return plots


def _drawn(figures: Sequence[CellFigure] | Sequence[GroupFigure], styles: Styles) -> list[str]:
    names = {figure["method"] for figure in figures}
    return [name for name in styles if name in names]


def _draw_task(axes: "Axes", cells: Sequence[CellFigure], styles: Styles) -> None:
    names = _drawn(cells, styles)
    rates = sorted({cell["rate"] for cell in cells if cell["rate"] is not None})
    gaps = [high - low for low, high in pairwise(rates)]
    step = 0.2 * min(gaps, default=0.2) / max(1, len(names))
    for place, name in enumerate(names):
        own = _points(cells, name)
        shift = (place - (len(names) - 1) / 2) * step
        axes.errorbar(
            [x + shift for x, _ in own],
            [100 * score["value"] for _, score in own],
            yerr=[
                [100 * (score["value"] - score["low"]) for _, score in own],
                [100 * (score["high"] - score["value"]) for _, score in own],
            ],
            elinewidth=1,
            **styles[name].line,
        )
    axes.locator_params(axis="x", nbins=5)
    _draw_references(axes, cells)


def _points(cells: Sequence[CellFigure], name: str) -> list[tuple[float, EstimateFigure]]:
    """Achieved rates of a method with its scores, in the order of rates."""
    own = [cell for cell in cells if cell["method"] == name and cell["rate"] is not None]
    points = [(cell["achieved_rate"] or cell["rate"] or 0.0, cell["score"]) for cell in own]
    return sorted(points, key=lambda point: point[0])


def _draw_references(axes: "Axes", cells: Sequence[CellFigure]) -> None:
    """Lines for the whole context, the marked shares of it, and no context."""
    lines = []
    for cell in cells:
        score = cell["score"]
        value = 100 * score["value"]
        if cell["method"] == "full":
            axes.axhline(value, color=REFERENCE, linewidth=1.4, zorder=1)
            axes.axhspan(100 * score["low"], 100 * score["high"], color=REFERENCE, alpha=0.07)
            lines.append((value, "full"))
            for gate in GATES:
                axes.axhline(gate * value, color=REFERENCE, linewidth=0.7, linestyle="--", zorder=1)
                lines.append((gate * value, f"{100 * gate:g} %"))
        elif cell["method"] == "none":
            axes.axhline(value, color=REFERENCE, linewidth=1.4, linestyle=":", zorder=1)
            lines.append((value, "none"))
    label_lines(axes, lines)


def draw_costs(figures: Figures, styles: Styles) -> list[Plot]:
    """Score against what an answer costs, a panel per group of tasks."""
    groups = list(dict.fromkeys(figure["group"] for figure in figures["groups"]))[:MAX_PANELS]
    if not groups:
        return []
    has_price = all(figure["cost_per_1000"] is not None for figure in figures["groups"])
    figure, panels = make_panels(groups)
    for axes, group in zip(panels, groups, strict=True):
        own = [one for one in figures["groups"] if one["group"] == group]
        _draw_group(axes, own, styles, has_price=has_price)
    figure.supylabel("score, mean over the tasks")
    figure.supxlabel(
        "tokens in for 1,000 questions, at the price given"
        if has_price
        else "seconds per question: compressor (shared among a context's questions) + reader"
    )
    add_legend(figure, _drawn(figures["groups"], styles), styles)
    caption = (
        "Up and to the left is better. A line joins a method's rates. "
        + ("" if has_price else "Set price_per_million_tokens to see money instead of seconds.")
    ).strip()
    return [make_plot(figure, name="cost", title="Quality against cost", caption=caption)]


def _draw_group(
    axes: "Axes", figures: Sequence[GroupFigure], styles: Styles, *, has_price: bool
) -> None:
    for name in dict.fromkeys(figure["method"] for figure in figures):
        points = sorted(
            (_cost(figure, has_price=has_price), 100 * figure["score"]["value"])
            for figure in figures
            if figure["method"] == name
        )
        xs, ys = [x for x, _ in points], [y for _, y in points]
        if name in styles:
            axes.plot(xs, ys, **styles[name].line)
            continue
        axes.plot(xs, ys, color=REFERENCE, marker="*" if name == "full" else "x", markersize=9)
        axes.annotate(
            name,
            (xs[-1], ys[-1]),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            color=REFERENCE,
        )
    axes.margins(0.1, 0.12)
    axes.set_xlim(left=0)


def _cost(figure: GroupFigure, *, has_price: bool) -> float:
    if has_price:
        return figure["cost_per_1000"] or 0.0
    seconds = figure["compress_seconds"] + figure["read_seconds"]
    return seconds / max(1, figure["score"]["num_examples"])


def draw_speed(figures: Figures, styles: Styles) -> list[Plot]:
    """Speed-up by length of the context, a panel per rate."""
    speed = [figure for figure in figures["speed"] if figure["buckets"]]
    rates = sorted({figure["rate"] for figure in speed}, reverse=True)
    if not rates:
        return []
    ranges = sorted({(b["min_tokens"], b["max_tokens"]) for s in speed for b in s["buckets"]})
    figure, panels = make_panels([f"rate {rate:g}" for rate in rates], sharey=True)
    for axes, rate in zip(panels, rates, strict=True):
        axes.axhline(1.0, color=REFERENCE, linewidth=1.2, linestyle="--", zorder=1)
        for one in speed:
            if one["rate"] == rate and one["method"] in styles:
                places = [ranges.index((b["min_tokens"], b["max_tokens"])) for b in one["buckets"]]
                speed_ups = [bucket["speed_up"] for bucket in one["buckets"]]
                axes.plot(places, speed_ups, **styles[one["method"]].line)
        axes.set_xticks(
            range(len(ranges)),
            [format_range(*span) for span in ranges],
            rotation=30 if len(ranges) > 4 else 0,
        )
    panels[0].set_ylim(0, 1.05 * max(b["speed_up"] for one in speed for b in one["buckets"]) + 0.1)
    label_lines(panels[-1], [(1.0, "as long\nas full")])
    panels[0].set_ylabel("speed-up, end to end")
    figure.supxlabel("tokens of the context")
    names = {one["method"] for one in speed}
    add_legend(figure, [name for name in styles if name in names], styles)
    caption = (
        "Seconds of the reader on the whole context / seconds of compressor and reader together. "
        "Above the dashed line compression pays."
    )
    return [make_plot(figure, name="speed", title="Speed-up by context length", caption=caption)]
