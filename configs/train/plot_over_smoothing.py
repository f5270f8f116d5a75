"""Draws over-smoothing.svg from the table "Ablation of the similarity loss" in README.md.

python configs/train/plot_over_smoothing.py
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
PICTURE = HERE / "over-smoothing.svg"

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 470, 84, 336
TITLE = "How alike the two classes are, layer by layer"
CAPTION = (
    "S: mean cosine between preserve and discard tokens of held-out records, mean of three seeds"
)
LOWEST, HIGHEST = -0.4, 0.2
STYLES = {"0": ("#00569c", "cross entropy alone"), "0.1": ("#b8581b", "with 0.1 · L_CS")}
"""The rows that are drawn, by the beginning of their first cell."""
LAYER = re.compile(r"-?\d\.\d\d")


def read_table(text: str) -> dict[str, list[float]]:
    """S by layer, the embeddings first, for each beta in `STYLES`.

    Raises:
        ValueError: The table is not there, or a row of it is not.
    """
    found = {}
    for row in re.findall(r"^\| ([\d.]+)(?:: cross entropy alone)? \|.*\| ([^|]+) \|$", text, re.M):
        if row[0] in STYLES and row[0] not in found:
            found[row[0]] = [float(value) for value in LAYER.findall(row[1])]
    if found.keys() != STYLES.keys() or len({len(values) for values in found.values()}) != 1:
        raise ValueError(f"README.md lacks rows of S by layer for beta {', '.join(STYLES)}")
    return found


def place(index: int, value: float, num_layers: int) -> tuple[float, float]:
    """Where a value stands in the picture."""
    x = LEFT + (RIGHT - LEFT) * index / (num_layers - 1)
    return round(x, 1), round(TOP + (BOTTOM - TOP) * (HIGHEST - value) / (HIGHEST - LOWEST), 1)


def write_text(x: float, y: float, text: str, *, size: int = 13, more: str = "") -> str:
    """A line of text."""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="#16202b" {more}>{text}</text>'


def draw(values: Mapping[str, Sequence[float]]) -> str:
    """The picture as SVG."""
    num = len(next(iter(values.values())))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-labelledby="title desc" font-family="-apple-system, '
        "'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif\">",
        '<title id="title">Over-smoothing, and what the similarity loss does about it</title>',
        '<desc id="desc">Mean cosine similarity S between preserve and discard tokens by layer. '
        + " ".join(f"{STYLES[b][1]}: {', '.join(map(str, v))}." for b, v in values.items())
        + "</desc>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        write_text(24, 30, TITLE, size=17, more='font-weight="700"'),
        write_text(24, 52, CAPTION),
    ]
    for tick in (0.2, 0.0, -0.2, -0.4):
        _, y = place(0, tick, num)
        colour = "#7a8794" if tick == 0 else "#dde2e7"
        parts.append(f'<path d="M{LEFT} {y} H{RIGHT}" stroke="{colour}"/>')
        parts.append(write_text(LEFT - 10, y + 4, f"{tick:.1f}", more='text-anchor="end"'))
    for index in range(num):
        x, _ = place(index, 0, num)
        name = "embeddings" if index == 0 else str(index)
        parts.append(write_text(x, BOTTOM + 22, name, more='text-anchor="middle"'))
    parts.append(write_text((LEFT + RIGHT) / 2, BOTTOM + 46, "layer", more='text-anchor="middle"'))
    for beta, series in values.items():
        colour, name = STYLES[beta]
        points = [place(index, value, num) for index, value in enumerate(series)]
        line = " ".join(f"{x:g},{y:g}" for x, y in points)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
        )
        for x, y in points:
            parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="4" fill="{colour}"/>')
        x, y = points[-1]
        label = f'<tspan font-weight="700" fill="{colour}">{name}: {series[-1]:.2f}</tspan>'
        parts.append(write_text(x + 14, y + 5, label, size=14))
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    table = read_table((HERE / "README.md").read_text(encoding="utf-8"))
    PICTURE.write_text(draw(table), encoding="utf-8")
