"""What a person wants to see of a training run: curves, a page, figures."""

import base64
import html
import io
import json
import logging
from collections.abc import Mapping
from typing import Any

from moos.storage import Storage
from pipelines.html_page import build_page
from pipelines.report_parts import REPORT, STYLE, cards
from pipelines.train_events import Rows, write_events

logger = logging.getLogger(__name__)

CURVES = "curves.png"
METRICS = "metrics.jsonl"


def write_train_report(
    output: Storage, run: str, metrics: Mapping[str, Any], history: Rows, curve: Rows
) -> None:
    """Write `metrics.jsonl`, `report.html` and, with the extra `train`, curves and events."""
    lines = [{"kind": "training", **row} for row in curve]
    lines += [{"kind": "validation", **row} for row in history]
    output.put(METRICS, "".join(json.dumps(line) + "\n" for line in lines).encode())
    picture = draw_curves(history, curve)
    if picture is not None:
        output.put(CURVES, picture)
    output.put(REPORT, build_train_page(run, metrics, history, picture).encode())
    if not write_events(output, run, history, curve):
        logger.warning("no TensorBoard events: pip install '.[train]' in moos's folder")


def draw_curves(history: Rows, curve: Rows) -> bytes | None:
    """Loss, agreement and similarity by layer as one PNG; None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.warning("no curves: pip install '.[train]' in moos's folder")
        return None
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, agreement, layers = figure.subplots(1, 3)
    steps = [row["step"] for row in history]
    loss.plot([r["step"] for r in curve], [r["train_loss"] for r in curve], label="training loss")
    loss.plot(steps, [row["loss"] for row in history], "o-", label="validation loss")
    loss.set_title("Loss")
    for name in ("auc", "f1", "precision", "recall"):
        label = {"auc": "AUC", "f1": "F1"}.get(name, name)
        agreement.plot(steps, [row[name] for row in history], "o-", label=label)
    agreement.set_title("Agreement with held-out labels")
    for row in history:
        layers.plot(row["layer_similarity"], "o-", label=f"step {row['step']}")
    layers.set_title("Cosine between classes, by layer")
    layers.set_xlabel("layer (0: embeddings)")
    for axes in (loss, agreement):
        axes.set_xlabel("step")
    for axes in (loss, agreement, layers):
        axes.grid(alpha=0.25)
        if len(axes.lines) <= 6:
            axes.legend(frameon=False, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def build_train_page(
    run: str, metrics: Mapping[str, Any], history: Rows, picture: bytes | None
) -> str:
    """One self-contained page."""
    figures = {
        "AUC over words": f"{metrics['auc']:.4f}",
        "AUC, alpha 1": f"{metrics['auc_alpha_1']:.4f}",
        "best step": f"{metrics['best_step']:,}",
        "S, last layer": f"{metrics['class_similarity']:.3f}",
    }
    image = ""
    if picture is not None:
        data = base64.b64encode(picture).decode()
        image = f'<img style="max-width:100%" alt="curves" src="data:image/png;base64,{data}">'
    names = ("step", "train_loss", "loss", "cross_entropy", "auc", "f1", "precision", "recall")
    head = "".join(f'<th class="n">{name.replace("_", " ")}</th>' for name in names)
    validations = "".join(
        "<tr>" + "".join(f'<td class="n">{_format(row[name])}</td>' for name in names) + "</tr>"
        for row in history
    )
    domains = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="n">{auc:.4f}</td></tr>'
        for name, auc in metrics["auc_by_domain_alpha_1"].items()
    )
    body = (
        f'<h1>Training run</h1><p class="soft">{html.escape(run)}</p>'
        f"{cards(figures)}{image}"
        f"<h2>Validations</h2><table><tr>{head}</tr>{validations}</table>"
        f"<h2>AUC by domain, alpha 1</h2><table>{domains}</table>"
    )
    return build_page("moos train", body, style=STYLE)


def _format(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
