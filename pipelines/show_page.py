"""The page of `moos show`: documents to click in, with a slider over the rate."""

import logging
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from moos.show.document_view import DocumentView
from moos.show.page_data import page_data
from pipelines.html_page import build_page, json_block
from pipelines.report_parts import STYLE

logger = logging.getLogger(__name__)

WORD_VIEW = ("selection.js", "pane.js", "show.js")
"""The scripts of the word view, in the order in which they need each other."""

_WIDE = "body { max-width: 76rem; }"

LEGEND = """
<div class="legend soft">
<span><span class="w k">kept</span></span>
<span><span class="w d">dropped</span></span>
<span><span class="w k p">protected</span>: stays whatever its score</span>
<label><input type="checkbox" id="moos-shade" checked> shade by score:
<span class="w q1">low</span> <span class="w q3">&nbsp;&nbsp;</span>
<span class="w q5">&nbsp;&nbsp;</span> <span class="w q7">high</span></label>
</div>
"""

NOSCRIPT = "<noscript><p>This page shows its documents by a script of its own.</p></noscript>"


def read_asset(name: str) -> str:
    """A script or style of the word view."""
    return files("moos.show").joinpath("assets", name).read_text(encoding="utf-8")


def build_show_page(shown: Sequence[tuple[DocumentView, DocumentView | None]]) -> str:
    """The page as HTML.

    Args:
        shown: Documents, each with another selection of it where two are compared.
    """
    data: list[list[dict[str, Any]]] = [
        [page_data(view) for view in pair if view is not None] for pair in shown
    ]
    body = (
        '<main class="shaded" id="moos-main"><h1 id="moos-title">Documents</h1>'
        '<nav class="documents" id="moos-documents" aria-label="Documents"></nav>'
        f'{LEGEND}{NOSCRIPT}<div id="moos-view"></div></main>{json_block("moos-data", data)}'
    )
    scripts = [read_asset(name) for name in (*WORD_VIEW, "start.js")]
    style = f"{STYLE}{_WIDE}{read_asset('show.css')}"
    return build_page("moos show", body, style=style, scripts=scripts)


def write_show_page(path: Path, shown: Sequence[tuple[DocumentView, DocumentView | None]]) -> None:
    """Write the page of these documents to a file, and say so."""
    path.write_text(build_show_page(shown), encoding="utf-8")
    logger.info("the page is in %s; open it in a browser", path)
