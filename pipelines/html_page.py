"""The frame of every HTML page that moos writes, and the policy that a browser holds it to.

A page is one file that loads nothing. Two things keep what stands in the data from running in the
browser of whoever looks: all of it is escaped where it is put in, and the page's
Content-Security-Policy lets a browser run no script but the page's own, which it knows by their
hashes, and fetch nothing from anywhere.
"""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from typing import Any


def build_page(title: str, body: str, *, style: str, scripts: Sequence[str] = ()) -> str:
    """A whole page; half of a surrogate pair, which a file's name may hold, becomes `?`.

    Args:
        title: Plain text; it is escaped here.
        body: HTML, whatever comes from data in it escaped by the caller.
        style: CSS of ours, no data in it.
        scripts: JavaScript of ours, no data in it (see `json_block`); run behind the body. Without
            any, the page runs none, whatever its body holds: no handler in an attribute either.
    """
    sources = " ".join(f"'sha256-{_hash(script)}'" for script in scripts) or "'none'"
    policy = (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head>"
        f"<body>{body}{''.join(f'<script>{script}</script>' for script in scripts)}</body></html>\n"
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def json_block(element_id: str, value: Any) -> str:
    """An element that holds data for a page's script: `JSON.parse` of its text gives it back.

    Nothing in the data can end the element: what HTML might read in it is escaped as JSON has it.

    Args:
        element_id: The element's id, of letters and hyphens.
        value: What `json.dumps` takes.
    """
    text = json.dumps(value)  # ASCII
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{element_id}">{text}</script>'


def _hash(script: str) -> str:
    assert "</" not in script, "a browser would end the script there"
    assert "\r" not in script, "a browser would hash it without"
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
