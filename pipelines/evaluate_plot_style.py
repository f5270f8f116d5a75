"""How the pictures of an evaluation look: one colour and mark per method in all of them."""

import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.evaluate_figures import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLOTS = "plots"
"""The pictures' folder beside the report."""
COLOURS = (
    "#00569c",
    "#e0602a",
    "#0f8f70",
    "#c0589c",
    "#6f6400",
    "#3f97d6",
    "#5c1010",
    "#8a5cf0",
    "#1d2a3a",
)
"""Each at least 3:1 against white, and apart from the others for any kind of colour blindness."""
MARKS = "osD^vPX<>*"
DASHES = ("-", "--", ":")
DOTS_PER_INCH = 150
CSS_PER_INCH = 100
WIDTHS = {1: 6.5, 2: 10.0, 3: 12.0}
"""Of a figure with so many panels side by side, in inches."""
MAX_NAME = 30
MAX_TITLE = 42
# Any: newer versions of matplotlib name every key in the type.
SETTINGS: Any = {
    "font.family": "sans-serif",
    "figure.labelsize": 9,
    "font.size": 9,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "grid.alpha": 0.25,
    "legend.frameon": False,
    # Names are the user's, who may have a $ in them.
    "text.parse_math": False,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture.

    Attributes:
        name: Of its file under `plots/`, without ending.
        title: Of its part of the page.
        caption: How to read it.
        width: As it is shown, in CSS pixels, so that letters are as large in all pictures.
        png: The picture.
    """

    name: str
    title: str
    caption: str
    width: int
    png: bytes


@dataclass(frozen=True, slots=True)
class Style:
    """How a method is drawn wherever it is drawn."""

    colour: str
    mark: str
    dash: str

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of a line with marks."""
        return {
            "color": self.colour,
            "marker": self.mark,
            "linestyle": self.dash,
            "linewidth": 1.5,
            "markersize": 5.5,
        }


Styles = Mapping[str, Style]


def choose_styles(figures: Figures) -> dict[str, Style]:
    """A style for each method but `full` and `none`, in the config's order.

    Colours come again behind the ninth method, with other marks and dashes.
    """
    listed: list[Iterable[str]] = [
        (method["name"] for method in figures["run"]["methods"]),
        (figure["method"] for figure in figures["cells"]),
        (figure["method"] for figure in figures["retention"]),
        (figure["method"] for figure in figures["deletions"]),
        (figure["method"] for figure in figures["speed"]),
    ]
    names = dict.fromkeys(name for part in listed for name in part)
    drawn = [name for name in names if name not in ("full", "none")]
    return {
        name: Style(
            COLOURS[place % len(COLOURS)],
            MARKS[place % len(MARKS)],
            DASHES[place // len(COLOURS) % len(DASHES)],
        )
        for place, name in enumerate(drawn)
    }


def shorten_name(name: str, limit: int = MAX_NAME) -> str:
    """A name as pictures have room for it: one that is too long loses its middle."""
    tail = limit // 3
    short = name if len(name) <= limit else f"{name[: limit - tail - 1]}…{name[-tail:]}"
    # Matplotlib would leave out a name that begins with `_`.
    return f" {short}" if short.startswith("_") else short


def make_panels(
    titles: Sequence[str], *, height: float = 3.2, **shared: Any
) -> "tuple[Figure, list[Axes]]":
    """A figure with a titled panel each, at most three side by side; four are two by two."""
    from matplotlib.figure import Figure

    columns = 2 if len(titles) == 4 else min(3, len(titles))
    lines = -(-len(titles) // columns)
    size = (WIDTHS[columns], height * lines + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False, **shared).flat)
    for panel in panels[len(titles) :]:
        panel.remove()
    for panel, title in zip(panels, titles, strict=False):
        panel.set_title(shorten_name(title, MAX_TITLE))
    return figure, panels[: len(titles)]


def add_legend(figure: "Figure", names: Iterable[str], styles: Styles) -> None:
    """The methods above the panels."""
    from matplotlib.lines import Line2D

    names = list(names)
    if not names:
        return
    handles = [Line2D([], [], **styles[name].line) for name in names]
    labels = [shorten_name(name) for name in names]
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))


def label_lines(axes: "Axes", lines: Sequence[tuple[float, str]]) -> None:
    """Names of horizontal lines at the right edge, moved up where they would overlap."""
    low, high = axes.get_ylim()
    gap = 0.055
    last = -gap
    for value, name in sorted(lines):
        place = (value - low) / (high - low)
        last = max(place, last + gap)
        axes.annotate(
            name,
            (1, last),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color="#3d4654",
        )


def make_plot(figure: "Figure", *, name: str, title: str, caption: str) -> Plot:
    """The figure as a picture."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A script that the font lacks is shown as boxes, which the table beside it makes up for.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    width = round(CSS_PER_INCH * figure.get_figwidth())
    return Plot(name, title, caption, width, buffer.getvalue())
