import json
from html.parser import HTMLParser

import pytest

HOSTILE = (
    "<script>alert('x')</script> & <i>slanted</i> \"quoted\" words that say something or other"
)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def parse_report():
    def parse(output):
        page = Tags()
        page.feed((output / "report.html").read_text(encoding="utf-8"))
        return page

    return parse


def test_the_report_shows_totals_and_a_document(
    compress, write_jsonl, documents, tmp_path, parse_report
):
    summary = compress(write_jsonl("docs.jsonl", documents(9)), tmp_path / "out")
    page = parse_report(tmp_path / "out")
    assert f"{summary['tokens']:,}" in page.text
    assert "s" in page.tags, "dropped words are struck through"
    assert "svg" in page.tags
    assert any("committee" in part for part in page.text)


def test_the_report_escapes_what_comes_from_the_data(compress, write_jsonl, tmp_path, parse_report):
    records = [{"text": HOSTILE}, {"<i>key</i>": 1}]
    compress(write_jsonl("a&lt;b.jsonl", records), tmp_path / "out", "max_quarantined=1")
    page = parse_report(tmp_path / "out")
    assert not {"script", "i"} & set(page.tags)
    assert any("<script>" in part or "script" in part for part in page.text)


def test_the_report_names_the_reasons_of_quarantine(compress, write_jsonl, tmp_path, parse_report):
    records = [{"text": "a word"}, {"text": None}, {"text": None}]
    compress(write_jsonl("docs.jsonl", records), tmp_path / "out", "max_quarantined=1")
    assert "'text' is null" in parse_report(tmp_path / "out").text


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
    (settings,) = (part for part in parse_report(tmp_path / "out").text if "checkpoint" in part)
    assert f" · {told} · " in settings


def test_a_run_without_documents_has_a_report(compress, write_jsonl, tmp_path, parse_report):
    compress(write_jsonl("docs.jsonl", []), tmp_path / "out")
    assert "No document." in parse_report(tmp_path / "out").text


def test_the_history_tells_when_runs_began_and_ended(compress, write_jsonl, documents, tmp_path):
    source = write_jsonl("docs.jsonl", documents(3))
    compress(source, tmp_path / "out")
    compress(source, tmp_path / "out")
    lines = (tmp_path / "out" / "_run" / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["started", "finished", "resumed", "finished"]
    assert [event["splits_to_do"] for event in events[::2]] == [1, 0]
    assert all(event["time"].endswith("+00:00") for event in events)
