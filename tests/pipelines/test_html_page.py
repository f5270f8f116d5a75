import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipelines.html_page import build_page, json_block
from pipelines.train_report import build_train_page

ROOT = Path(__file__).parent.parent.parent
HOSTILE = "</script><img src=x onerror=alert(1)>"
TEXT = f"The committee met on Tuesday and {HOSTILE} decided that no action was needed."


class Page(HTMLParser):
    """The tags, attributes and text of a page, and its policy by directive."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        (policy,) = (value for name, value in self.attributes if value and "default-src" in value)
        self.policy = dict(part.strip().split(" ", 1) for part in policy.split(";"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def check_harmless(html: str) -> Page:
    """Nothing of the hostile string became an element, and nothing may be fetched or run."""
    page = Page(html)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [value for name, value in page.attributes if (name, value) == ("src", "x")]
    assert not [v for n, v in page.attributes if n in ("src", "href") and not v.startswith("data:")]
    assert page.policy["default-src"] == "'none'"
    assert "unsafe" not in page.policy["script-src"]
    assert "http" not in " ".join(page.policy.values())
    return page


def test_a_page_without_scripts_runs_none():
    page = check_harmless(build_page(HOSTILE, "<p>text</p>", style="p { color: red }"))
    assert page.policy["script-src"] == "'none'"
    assert "script" not in page.tags
    assert HOSTILE in page.text


def test_a_page_runs_its_own_scripts_alone():
    scripts = ("console.log('one')", "let two = 2 && 3;")
    html = build_page("title", "<p>text</p>", style="", scripts=scripts)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert Page(html).policy["script-src"] == " ".join(f"'sha256-{one}'" for one in hashes)
    assert re.findall("<script>(.*?)</script>", html) == list(scripts)


def test_half_of_a_surrogate_pair_does_not_keep_a_page_from_being_written():
    assert "caf?" in build_page("caf\udce9", "caf\udce9", style="").encode("utf-8").decode()


def test_data_for_a_script_cannot_end_its_element():
    value = {"text": TEXT, "more": ["<!--", "]]>", "\u2028", "\U0001f600", "&lt;"]}
    block = json_block("documents", value)
    inner = re.fullmatch(r"<script [^>]*>([^<>&]*)</script>", block)
    assert inner is not None, "but for the element's own tags no such character is left"
    assert json.loads(inner[1]) == value


def test_every_page_is_built_by_the_one_that_sets_a_policy():
    files = [p for package in ("moos", "pipelines", "jobs") for p in (ROOT / package).rglob("*.py")]
    holding = [p.name for p in files if "<!doctype" in p.read_text(encoding="utf-8").lower()]
    assert holding == ["html_page.py"]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_the_report_of_a_compressed_corpus_is_harmless(
    compress, write_jsonl, write_parquet, tmp_path, suffix
):
    # No slash fits in a file's name; without it the tag opens all the same.
    name = f"<script><img src=x onerror=alert(1)>'\"&lt;.{suffix}"
    columns = {"id": [HOSTILE, None], "text": [TEXT, None], HOSTILE: ["a", "b"]}
    if suffix == "parquet":
        source = write_parquet(name, columns)
    else:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        source = write_jsonl(name, [*rows, {f"{HOSTILE}": 1}, f'["{HOSTILE}"'.encode()])
    settings = ("input.id_column=id", "max_quarantined=1")
    compress(source.parent, tmp_path / "out", *settings)
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page = check_harmless(html)
    # Four of the page's own, and the data that they read, in which nothing looks like HTML.
    assert page.tags.count("script") == 5
    (data,) = re.findall(r'<script type="application/json" id="moos-data">(.*?)</script>', html)
    assert "<" not in data
    assert json.loads(data)[0][0]["text"] == TEXT
    assert page.policy["script-src"].count("sha256-") == 4
    assert "img" not in page.tags
    assert name in page.text
    assert HOSTILE in page.text


def test_the_report_of_a_training_run_is_harmless():
    metrics = {
        "auc": 0.9,
        "auc_alpha_1": 0.8,
        "best_step": 10,
        "class_similarity": 0.1,
        "auc_by_domain_alpha_1": {HOSTILE: 0.5},
    }
    page = check_harmless(build_train_page(f"run {HOSTILE}", metrics, [], b"\x89PNG"))
    assert page.text.count(HOSTILE) == 2
    assert page.tags.count("img") == 1
