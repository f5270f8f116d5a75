"""The report of a run in a real browser; slow by its start, so not run by default."""

import json

import pytest

from moos.config import load_config
from pipelines.compress import run_compress
from pipelines.config import CompressConfig

pytestmark = pytest.mark.slow

HOSTILE = "</script><img src=x onerror=alert(1)>"
TEXT = f"The committee of 3 met on Tuesday and {HOSTILE} decided that nothing at all was needed. "


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory, tiny_checkpoint):
    """The report of a run over hostile documents, in the browser."""
    directory = tmp_path_factory.mktemp("run")
    for name, count in (("a", 3), ("b", 9), ("c", 5)):
        records = [{"id": f"{name}{i} {HOSTILE}", "text": TEXT * (1 + i % 3)} for i in range(count)]
        lines = [json.dumps(record) for record in records]
        lines += [json.dumps({"id": HOSTILE, "text": None}), f'{{"text": {HOSTILE}}}']
        path = directory / "in" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(line + "\n" for line in lines))
    settings = (
        f"input.path={directory / 'in'}",
        f"output.path={directory / 'out'}",
        f"checkpoint={tiny_checkpoint}",
        "executor=local",
        "engine=torch",
        "input.id_column=id",
        "output.annotations=all",
        "max_quarantined=1",
    )
    run_compress(load_config(CompressConfig, None, settings))
    browser.open(directory / "out" / "report.html")
    return browser


def test_what_comes_from_the_data_stays_text(opened):
    assert opened.complaints() == []
    assert opened.run("document.querySelectorAll('img').length") == 0
    assert HOSTILE in opened.run("document.body.innerText")


def test_a_document_opens_as_words_and_closes(opened):
    assert opened.run("document.querySelectorAll('.opened .w').length") == 0
    opened.run("document.querySelector('[data-open]').click()")
    assert opened.run("document.querySelectorAll('.opened .w').length") > 10
    assert opened.run("document.querySelectorAll('.opened input[type=range]').length") == 1
    assert HOSTILE in opened.run("document.querySelector('.opened .words').textContent")
    opened.run("document.querySelector('[data-open]').click()")
    assert opened.run("document.querySelectorAll('.opened .w').length") == 0
    assert opened.complaints() == []


def test_the_files_sort_by_a_column(opened):
    def files():
        script = """JSON.stringify(Array.from(
          document.querySelector("table[data-sortable]").tBodies[0].rows,
          (row) => row.cells[0].innerText
        ))"""
        return json.loads(opened.run(script))

    assert files() == ["a.jsonl", "b.jsonl", "c.jsonl"]
    opened.run("document.querySelectorAll('.sort')[2].click()")
    assert files() == ["b.jsonl", "c.jsonl", "a.jsonl"]
    opened.run("document.querySelectorAll('.sort')[2].click()")
    assert files() == ["a.jsonl", "c.jsonl", "b.jsonl"]
    heads = "document.querySelectorAll('table[data-sortable] th')"
    assert opened.run(f"{heads}[2].getAttribute('aria-sort')") == "ascending"


def test_the_page_fits_a_narrow_screen(opened):
    size = {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    opened.call("Emulation.setDeviceMetricsOverride", **size)
    assert opened.run("document.documentElement.scrollWidth") <= 360
    opened.call("Emulation.clearDeviceMetricsOverride")
