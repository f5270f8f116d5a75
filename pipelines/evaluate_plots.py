"""All pictures of an evaluation, and those that need no reader: facts, deletions, smoothing."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipelines.evaluate_figures import Figures, RetentionFigure
from pipelines.evaluate_plot_style import (
    MARKS,
    SETTINGS,
    Plot,
    Styles,
    choose_styles,
    make_panels,
    make_plot,
    shorten_name,
)
from pipelines.evaluate_score_plots import REFERENCE, draw_costs, draw_scores, draw_speed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)

MAX_TOKEN_LABELS = 45
"""More tokens than these have no room for their names."""


def draw_plots(figures: Figures) -> list[Plot] | None:
    """The pictures that there are figures for, in the page's order; None without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        logger.warning("no plots: pip install matplotlib")
        return None
    styles = choose_styles(figures)
    parts: list[Callable[[Figures, Styles], list[Plot]]] = [
        draw_scores,
        draw_costs,
        draw_speed,
        draw_retention,
        draw_deletions,
        draw_layers,
        draw_tokens,
    ]
    with mpl.rc_context(SETTINGS):
        return [plot for draw in parts for plot in draw(figures, styles)]


def draw_retention(figures: Figures, styles: Styles) -> list[Plot]:
    """Facts kept, a panel per kind, a group of bars per method, a bar per rate."""
    shown = [figure for figure in figures["retention"] if figure["method"] in styles]
    kinds = [
        kind
        for kind in dict.fromkeys(kind for figure in shown for kind in figure["kinds"])
        if any(kind in f["kinds"] and f["kinds"][kind]["share"] is not None for f in shown)
    ]
    if not kinds:
        return []
    names = [name for name in styles if any(figure["method"] == name for figure in shown)]
    rates = sorted({figure["rate"] or 0.0 for figure in shown}, reverse=True)
    num_columns = min(3, len(kinds))
    height = max(2.2, 0.5 + len(names) * (0.12 + 0.17 * len(rates)))
    figure, panels = make_panels(kinds, height=height, sharex=True, sharey=True)
    for axes, kind in zip(panels, kinds, strict=True):
        _draw_kind(axes, [f for f in shown if kind in f["kinds"]], kind, (names, rates), styles)
    panels[0].invert_yaxis()
    panels[0].set_xlim(0, 118)
    panels[0].set_xticks(range(0, 101, 25))
    for axes in panels[-num_columns:]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("facts kept, per cent")
    shades = ", ".join(f"{rate:g}" for rate in rates)
    caption = f"Bars of a method from top to bottom: rate {shades}, paler as it gets lower."
    return [make_plot(figure, name="retention", title="Facts kept", caption=caption)]


def _draw_kind(
    axes: "Axes",
    figures: list[RetentionFigure],
    kind: str,
    order: tuple[list[str], list[float]],
    styles: Styles,
) -> None:
    names, rates = order
    thickness = 0.82 / len(rates)
    for figure in figures:
        share = figure["kinds"][kind]["share"]
        if share is None:
            continue
        turn = rates.index(figure["rate"] or 0.0)
        place = names.index(figure["method"]) + (turn - (len(rates) - 1) / 2) * thickness
        colour = styles[figure["method"]].colour
        fill = 1 - 0.65 * turn / max(1, len(rates) - 1)
        axes.barh(place, 100 * share, 0.9 * thickness, color=(colour, fill), edgecolor=colour)
        label = f"{100 * share:.0f}"
        axes.text(100 * share + 1.5, place, label, va="center", fontsize=7, color=REFERENCE)
    axes.set_yticks(range(len(names)), [shorten_name(name) for name in names])
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def draw_deletions(figures: Figures, styles: Styles) -> list[Plot]:
    """Agreement with human deletions, as bars from chance on."""
    shown = [figure for figure in figures["deletions"] if figure["auc"] is not None]
    if not shown:
        return []
    figure, (axes,) = make_panels(["AUC against human deletions"], height=0.9 + 0.3 * len(shown))
    for place, one in enumerate(shown):
        auc, within = one["auc"] or 0.5, one["sentence_auc"]
        style = styles.get(one["method"])
        colour = REFERENCE if style is None else style.colour
        axes.barh(place, auc - 0.5, 0.6, left=0.5, color=colour)
        if within is not None:
            axes.plot([within], [place], "D", color="white", markeredgecolor=colour, markersize=5)
        edge = max(auc, within or 0.0, 0.5)
        axes.text(edge + 0.008, place, f"{auc:.3f}", va="center", fontsize=8, color=REFERENCE)
    axes.axvline(0.5, color=REFERENCE, linewidth=1)
    axes.set_yticks(range(len(shown)), [shorten_name(one["method"]) for one in shown])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    axes.set_xlabel("AUC; 0.5 is chance")
    caption = (
        "Bar and number: over the words of all sentences. Diamond: mean within each sentence. A "
        "bar to the left of 0.5 ranks what people deleted above what they kept."
    )
    return [
        make_plot(figure, name="deletions", title="Agreement with human deletions", caption=caption)
    ]


def draw_layers(figures: Figures, styles: Styles) -> list[Plot]:
    """How alike the classes are, layer by layer; checkpoints are no methods, so not in colour."""
    from matplotlib import colormaps

    shown = figures["smoothing"]
    if not shown:
        return []
    figure, (axes,) = make_panels(["Likeness of the two classes by layer"])
    for place, one in enumerate(shown):
        colour = colormaps["plasma"](0.65 * place / max(1, len(shown) - 1))
        axes.plot(one["layers"], color=colour, marker=MARKS[place % len(MARKS)], linewidth=1.6)
    longest = max(len(one["layers"]) for one in shown)
    axes.set_xticks(range(0, longest, max(1, longest // 12)))
    axes.set_xlabel("layer (0: embeddings)")
    axes.set_ylabel("S, mean cosine between classes")
    axes.legend([shorten_name(one["name"]) for one in shown], loc="best")
    caption = (
        "S is the mean cosine between the hidden states of tokens to keep and tokens to drop: 1 "
        "means that the layer makes the two classes all alike."
    )
    return [
        make_plot(figure, name="smoothing-layers", title="Over-smoothing by layer", caption=caption)
    ]


def draw_tokens(figures: Figures, styles: Styles) -> list[Plot]:
    """How alike a text's tokens are in the last layer, a heat map per checkpoint."""
    shown = [one for one in figures["smoothing"] if one["cosine"]]
    if not shown:
        return []
    titles = [one["name"] for one in shown]
    figure, panels = make_panels(titles, height=3.8)
    lowest = min(value for one in shown for row in one["cosine"] for value in row)
    for axes, one in zip(panels, shown, strict=True):
        image = axes.imshow(one["cosine"], cmap="cividis", vmin=min(0.0, lowest), vmax=1.0)
        axes.grid(visible=False)
        tokens = [shorten_name(token.replace("\n", "⏎")) for token in one["tokens"]]
        places = range(len(tokens) if len(tokens) <= MAX_TOKEN_LABELS else 0)
        axes.set_xticks(places, tokens[: len(places)], rotation=90, fontsize=6.5)
        axes.set_yticks(places, tokens[: len(places)], fontsize=6.5)
        axes.tick_params(length=0)
    figure.colorbar(image, ax=panels, shrink=0.7, label="cosine")
    caption = (
        "Cosine of each pair of tokens in the last layer. One bright field: the encoder has made "
        "all tokens alike."
    )
    return [make_plot(figure, name="smoothing-tokens", title="Token similarity", caption=caption)]
