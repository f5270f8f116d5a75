"""The page of `moos show` in a real browser; slow by its start, so not run by default."""

import json
import time
from dataclasses import replace

import pytest

from moos.config import SelectionConfig
from moos.rendering import merge_kept_words, render
from moos.scored_text import compress_scored
from moos.selector import Selector
from moos.show.document_view import reselect, view_document
from pipelines.show_page import build_show_page

pytestmark = pytest.mark.slow

HOSTILE = "</script><img src=x onerror=alert(1)>"
TEXT = (
    f"The committee met on Tuesday and {HOSTILE} decided that nothing <b>bold</b> was needed.\n\n"
    "Prices rose by 3.5 percent, no-one knows why; it names 的一是 and \U0001f680 foo_bar.\n"
)


@pytest.fixture(scope="module")
def make_view(tiny_compressor):
    def make(text, rate=0.4, title="a document", **settings):
        selector = Selector(SelectionConfig(rate=rate, **settings))
        (prepared,) = tiny_compressor.preparer.prepare([text])
        (scored,) = tiny_compressor.score([prepared])
        (document,) = compress_scored([scored], selector)
        return view_document(title, scored, document, selector)

    return make


@pytest.fixture
def open_page(browser, tmp_path):
    def open_(*shown):
        path = tmp_path / "page.html"
        path.write_text(build_show_page(shown), encoding="utf-8")
        browser.open(path)
        return browser

    return open_


def shown_keep(browser, side=0):
    """What the page shows as kept, by word."""
    script = """JSON.stringify(Array.from(document.querySelectorAll(".pane")[%d]
        .querySelectorAll(".w"), (w) => w.classList.contains("k")))"""
    return json.loads(browser.run(script % side))


def slide(browser, value, side=0):
    browser.run(
        f"""new Promise((done) => {{
          const range = document.querySelectorAll("input[type=range]")[{side}];
          range.value = {value};
          range.dispatchEvent(new Event("input"));
          requestAnimationFrame(() => requestAnimationFrame(done));
        }})"""
    )


def test_a_hostile_text_stays_text(open_page, make_view):
    browser = open_page((make_view(TEXT, title=f"a {HOSTILE}"), None))
    assert browser.complaints() == []
    assert browser.run("document.querySelectorAll('img, .words b').length") == 0
    assert HOSTILE in browser.run("document.querySelector('.words').textContent")
    assert HOSTILE in browser.run("document.getElementById('moos-title').textContent")


def test_the_slider_selects_as_moos_does(open_page, make_view):
    view = make_view(TEXT)
    browser = open_page((view, None))
    assert shown_keep(browser) == view.keep.tolist()
    for percent in (1, 20, 40, 63, 100):
        slide(browser, percent)
        again = reselect(view, Selector(SelectionConfig(rate=percent / 100)))
        assert shown_keep(browser) == again.keep.tolist()
        status = browser.run("document.querySelector('.status').textContent")
        assert status.startswith(f"{again.num_kept_tokens} of {again.num_tokens} tokens kept")
        assert ("over budget" in status) == again.over_budget
        browser.run("document.querySelector('.copy').click()")
        copied = browser.run("document.querySelector('textarea').value")
        spans = merge_kept_words(again.keep, again.words, len(TEXT))
        assert copied == render(TEXT, spans)
    browser.run("document.querySelector('.controls button').click()")
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert shown_keep(browser) == view.keep.tolist(), "as decided"
    assert browser.complaints() == []


def test_a_word_tells_its_figures_to_keyboard_and_mouse(open_page, make_view):
    view = make_view(TEXT)
    browser = open_page((view, None))
    browser.run("document.querySelector('.words').focus()")
    browser.press("Home")
    browser.press("ArrowRight")
    told = browser.run("document.querySelector('.wordcard').innerText")
    score = float(view.figures.score[1])
    assert told.startswith("committee")
    assert "preserve probability" in told
    assert f"{score:.3f}" in told
    browser.press("Escape")
    assert browser.run("document.querySelector('.wordcard').hidden") is True
    browser.run(
        """Array.from(document.querySelectorAll(".w")).find((w) => w.textContent === "3.5")
          .dispatchEvent(new PointerEvent("pointerover", { bubbles: true }))"""
    )
    assert "numbers" in browser.run("document.querySelector('.wordcard').innerText")


def test_two_selections_stand_side_by_side_with_their_differences(open_page, make_view):
    low, high = make_view(TEXT, 0.2), make_view(TEXT, 0.7)
    browser = open_page((low, high))
    assert (shown_keep(browser, 0), shown_keep(browser, 1)) == (
        low.keep.tolist(),
        high.keep.tolist(),
    )
    differing = int((low.keep != high.keep).sum())
    assert browser.run("document.querySelectorAll('.x').length") == 2 * differing > 0
    slide(browser, 70, 0)
    assert browser.run("document.querySelectorAll('.x').length") == 0
    assert "0 words differ" in browser.run("document.querySelector('.differing').textContent")


def test_documents_are_chosen_by_their_titles(open_page, make_view):
    browser = open_page((make_view("one two", title="a"), None), (make_view(TEXT, title="b"), None))
    browser.run("document.querySelectorAll('.documents button')[1].click()")
    assert browser.run("document.getElementById('moos-title').textContent") == "b"
    assert HOSTILE in browser.run("document.querySelector('.words').textContent")


def test_without_scores_there_is_no_slider(open_page, make_view):
    browser = open_page((replace(make_view(TEXT), figures=None), None))
    assert browser.run("document.querySelectorAll('input[type=range]').length") == 0
    assert browser.complaints() == []


def test_a_document_of_100_000_words_is_opened_and_slid_within_seconds(open_page, make_view):
    view = make_view(TEXT * 3000)
    assert len(view.words) > 100_000
    began = time.monotonic()
    browser = open_page((view, None))
    opened = time.monotonic() - began
    slid = browser.run(
        """new Promise((done) => {
          const range = document.querySelector("input[type=range]"), began = performance.now();
          range.value = 60;
          range.dispatchEvent(new Event("input"));
          requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
        })"""
    )
    assert (opened < 20, slid < 3000) == (True, True), (opened, slid)
