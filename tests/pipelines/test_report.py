import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from moos.errors import DataError
from moos.selector import Selector
from moos.storage import Storage
from pipelines.compress import run_compress
from pipelines.document_digest import EXTREMES, MIN_TOKENS
from pipelines.events import DIRECTORY
from pipelines.outputs import read_manifest
from pipelines.report_parts import histogram, table
from pipelines.report_tables import MAX_FILES, files_table
from pipelines.split_timings import SLOWEST, SplitTimings

HOSTILE = (
    "<script>alert('x')</script> & <i>slanted</i> \"quoted\" words that say something or other"
)


class Page(HTMLParser):
    """The tags and texts of a page, what its script reads, and the rest of it as text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.scripts, self.held = [], [], 0, None
        data = re.search(r'<script type="application/json" id="moos-data">(.*?)</script>', html)
        self.documents = [] if data is None else json.loads(data[1])
        self.html = html
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def parse_report():
    return lambda output: Page((output / "report.html").read_text(encoding="utf-8"))


def read_done(output):
    return {path.stem: json.loads(path.read_text()) for path in output.glob("_run/done/*/*.json")}


def test_the_report_shows_totals_and_documents(
    compress, write_jsonl, documents, tmp_path, parse_report
):
    summary = compress(write_jsonl("docs.jsonl", documents(9)), tmp_path / "out")
    page = parse_report(tmp_path / "out")
    assert f"{summary['tokens']:,}" in page.text
    assert f"{summary['tokens'] - summary['kept_tokens']:,}" in page.text
    assert "s" in page.tags, "dropped words are struck through"
    assert page.tags.count("svg") == 2
    assert any("committee" in part for part in page.text)


def test_the_report_escapes_what_comes_from_the_data(compress, write_jsonl, tmp_path, parse_report):
    records = [{"text": HOSTILE}, {"<i>key</i>": 1}]
    compress(write_jsonl("a&lt;b.jsonl", records), tmp_path / "out", "max_quarantined=1")
    page = parse_report(tmp_path / "out")
    assert "i" not in page.tags
    assert page.tags.count("script") == 5, "the word view's, and the data"
    assert any("<script>" in part or "script" in part for part in page.text)
    assert page.documents[0][0]["text"] == HOSTILE
    assert "alert('x')</script>" not in page.html


def test_the_report_names_the_reasons_of_quarantine(compress, write_jsonl, tmp_path, parse_report):
    records = [{"text": "a word"}, {"text": None}, {"text": None}, b'{"text": <b>']
    compress(write_jsonl("docs.jsonl", records), tmp_path / "out", "max_quarantined=1")
    text = parse_report(tmp_path / "out").text
    assert "'text' is null" in text
    assert text[text.index("2") + 1] == " null"
    assert '{"text": <b>' in text


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("selection.rate=0.4", "rate 0.4"),
        ("selection.target_tokens=9", "target_tokens 9"),
        ("selection.threshold=0.25", "threshold 0.25"),
        ("selection.corpus_rate=0.4", "corpus_rate 0.4"),
        ("max_quarantined=1", "rate 0.5"),
    ],
)
def test_the_report_names_the_budget(
    compress, write_jsonl, documents, tmp_path, parse_report, override, told
):
    source = write_jsonl("docs.jsonl", documents(3))
    compress(source, tmp_path / "out", override, "scoring.alpha=1")
    (settings,) = (part for part in parse_report(tmp_path / "out").text if "· checkpoint" in part)
    assert f" · {told} · " in settings


def test_a_run_without_documents_has_a_report(compress, write_jsonl, tmp_path, parse_report):
    compress(write_jsonl("docs.jsonl", []), tmp_path / "out")
    assert "No document." in parse_report(tmp_path / "out").text


def test_a_price_tells_what_is_saved_and_is_no_other_run(
    compress, write_jsonl, documents, tmp_path, parse_report
):
    source, output = write_jsonl("docs.jsonl", documents(5)), tmp_path / "out"
    compress(source, output)
    assert "saved per reading" not in parse_report(output).text
    manifest = (output / "manifest.json").read_bytes()
    summary = compress(source, output, "report.price_per_million_tokens=2500")
    saved = (summary["tokens"] - summary["kept_tokens"]) / 1e6 * 2500
    text = parse_report(output).text
    assert text[text.index("saved per reading") + 1] == f"${saved:,.2f}"
    assert (output / "manifest.json").read_bytes() == manifest


@pytest.fixture
def varied(compress, write_jsonl, documents, tmp_path):
    """A run of three files by a threshold, so that its documents' rates differ."""
    for name, first in (("a", 0), ("b", 20), ("c", 40)):
        write_jsonl(f"in/{name}.jsonl", documents(20, first))
    settings = ("scoring.alpha=1", "selection.threshold=0.5", "input.id_column=id")
    compress(tmp_path / "in", tmp_path / "out", *settings, "output.annotations=all")
    return tmp_path / "out"


def test_the_report_opens_the_most_and_the_least_compressed(varied, parse_report, read_rows):
    rows = [row for row in read_rows(varied) if row["num_tokens"] >= MIN_TOKENS]
    by_rate = sorted(rows, key=lambda row: (row["rate"], -row["num_tokens"]))
    shown = [documents[0] for documents in parse_report(varied).documents]
    rates = [round(one["kept_tokens"] / one["total"], 5) for one in shown]
    assert rates[0] == pytest.approx(by_rate[0]["rate"], abs=1e-5)
    assert rates[4] == pytest.approx(by_rate[-1]["rate"], abs=1e-5)
    assert rates[:4] == sorted(rates[:4])
    assert rates[4:8] == sorted(rates[4:8], reverse=True)
    for one in shown:
        assert one["canSelect"] is True, "the output holds all scores"
        assert one["title"].rpartition(" ")[2] in {row["id"] for row in read_rows(varied)}


def test_the_first_document_of_each_of_a_few_files_is_shown(
    compress, write_jsonl, documents, tmp_path, parse_report
):
    """However many splits the files before it have."""
    write_jsonl("in/a.jsonl", documents(60))
    write_jsonl("in/b.jsonl", documents(2))
    summary = compress(tmp_path / "in", tmp_path / "out", "input.split_bytes=1KiB")
    assert summary["splits"] > 6
    page = parse_report(tmp_path / "out")
    titles = {documents[0]["title"] for documents in page.documents}
    assert {"a.jsonl, document 0, id d0", "b.jsonl, document 60, id d0"} <= titles


def test_what_a_done_record_says_of_its_documents_is_true(varied, read_rows):
    manifest = read_manifest(Storage(str(varied)))
    words = {"kept_words_by_score": 0, "dropped_words_by_score": 0}
    for entry in manifest["splits"]:
        digest = read_done(varied)[entry["split"]]["digest"]
        for name in words:
            words[name] += np.array(digest[name])
        assert len(digest["most_compressed"]) == EXTREMES
    for name, is_kept in (("kept_words_by_score", True), ("dropped_words_by_score", False)):
        scores = [
            word["score"]
            for row in read_rows(varied)
            for word in row["kept_words"]
            if word["kept"] is is_kept
        ]
        counted = np.histogram(scores, len(words[name]), (0.0, 1.0))[0]
        assert words[name].tolist() == counted.tolist()


def test_records_that_are_tried_again_leave_the_same_digest(
    config, write_jsonl, documents, tmp_path, monkeypatch
):
    """Rows move when others come between them."""
    records = documents(12)
    for place in (0, 5):
        records[place] = {"text": "unruly " * 40 + records[place]["text"]}
    source = write_jsonl("docs.jsonl", records)
    settings = ("selection.threshold=0.5", "scoring.alpha=1", "max_quarantined=1")
    run_compress(config(source, tmp_path / "whole", *settings))
    protect = Selector.protect

    def fail(self, texts):
        places = [place for place, text in enumerate(texts.texts) if "unruly" in text]
        errors = {place: DataError("unruly") for place in places}
        return replace(protect(self, texts), errors=errors)

    monkeypatch.setattr(Selector, "protect", fail)
    part = config(source, tmp_path / "part", *settings)
    assert run_compress(part)["quarantined"] == 2
    monkeypatch.undo()
    (whole,) = read_done(tmp_path / "whole").values()
    (before,) = read_done(tmp_path / "part").values()
    assert before["digest"] != whole["digest"]
    run_compress(part, retry_quarantined=True)
    (after,) = read_done(tmp_path / "part").values()
    assert after["digest"] == whole["digest"]


def test_the_slowest_splits_are_told_from_the_events_of_all_runs(
    compress, write_jsonl, documents, tmp_path, parse_report
):
    source, output = tmp_path / "in", tmp_path / "out"
    write_jsonl("in/a.jsonl", documents(3))
    compress(source, output)
    write_jsonl("in/b.jsonl", documents(3))
    compress(source, output)
    text = " ".join(parse_report(output).text)
    section = text[text.index("Slowest splits") : text.index("Quarantine")]
    for entry in read_manifest(Storage(str(output)))["splits"]:
        assert entry["split"] in section
    manifest = (output / "manifest.json").read_text()
    assert "seconds" not in manifest
    for path in (output / DIRECTORY).glob("*"):
        path.unlink()
    compress(source, output)
    assert "No run left events that tell." in parse_report(output).text


def test_timings_hold_the_slowest_however_many_there_are():
    timings = SplitTimings()
    for number in range(3000):
        event = {"event": "split_done", "split": f"s{number}", "pass_name": "compress"}
        timings.add({**event, "path": "a", "seconds": number % 1000, "counts": {"tokens": 5}})
    timings.add({"event": "split_done", "split": "s999", "seconds": "so long"})
    slowest = timings.slowest({f"s{number}" for number in range(2000)})
    assert len(slowest) == SLOWEST
    assert [one.seconds for one in slowest[:3]] == [999, 999, 998]
    assert len(timings._latest) <= 50 * SLOWEST


def test_of_very_many_files_the_largest_are_listed():
    splits = [f"s{number}" for number in range(MAX_FILES + 50)]
    entries = [
        {"split": name, "source": {"path": f"{name}.jsonl"}, "documents": 1, "quarantined": 0}
        for name in splits
    ]
    done = {
        name: {"counts": {"tokens": number, "kept_tokens": 0}} for number, name in enumerate(splits)
    }
    shown = files_table({"splits": entries}, done)
    assert shown.count("<tr>") == MAX_FILES + 1
    assert "s49.jsonl" not in shown
    assert "s50.jsonl" in shown
    assert "and 50 smaller files" in shown


def test_a_table_escapes_and_carries_what_it_is_sorted_by():
    shown = table(["<a>", "n"], [("<b>", 1234), ("c", 5)], sortable=True)
    assert "<b>" not in shown
    assert '<td class="n" data-v="1234">1,234</td>' in shown


def test_a_histogram_tells_kept_and_dropped():
    shown = histogram([1, 0], "words", [2, 0])
    assert "<title>0.00 to 0.50: 1 kept, 2 dropped</title>" in shown
    assert "<title>0.00 to 0.50: 4</title>" in histogram([4, 0], "documents")


def test_the_history_tells_when_runs_began_and_ended(compress, write_jsonl, documents, tmp_path):
    source = write_jsonl("docs.jsonl", documents(3))
    compress(source, tmp_path / "out")
    compress(source, tmp_path / "out")
    lines = (tmp_path / "out" / "_run" / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["started", "finished", "resumed", "finished"]
    assert [event["splits_to_do"] for event in events[::2]] == [1, 0]
    assert all(event["time"].endswith("+00:00") for event in events)
