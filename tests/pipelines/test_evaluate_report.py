import json
import sys
from html.parser import HTMLParser

import pytest

from moos.storage import Storage
from pipelines.evaluate_broken import (
    MAX_CHARS,
    choose_broken,
    compared_html,
    find_answers,
    find_broken,
    find_kept,
)
from pipelines.evaluate_plot_style import choose_styles
from pipelines.evaluate_report import write_evaluate_report

HOSTILE = '</script><img src=x onerror=alert(1)> | `a` $x^ & "b"'
TEXT = "The Panthers gave up just 308 points, ranking sixth. Kuechly had 118 tackles."
LAST = {"score", "cost", "speed", "retention", "deletions", "smoothing-layers", "smoothing-tokens"}


class Page(HTMLParser):
    """Tags with their attributes, and the text in its order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.parts = [], [], []
        self.feed(html)
        self.text = "\n".join(self.parts)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))

    def handle_data(self, data):
        self.parts.append(data)


def estimate(value, low, high):
    return {"value": value, "low": low, "high": high, "num_examples": 20, "num_groups": 5}


def score_figure(method, rate, value, difference=None, achieved=None):
    return {
        "method": method,
        "rate": rate,
        "score": estimate(value, value - 0.05, value + 0.06),
        "share_of_full": estimate(value / 0.8, value / 0.8 - 0.1, value / 0.8 + 0.1),
        "difference": difference,
        "achieved_rate": achieved,
        "num_prompt_tokens": 4321,
        "compress_seconds": 2.0,
        "read_seconds": 30.0,
        "speed_up": 1.37,
        "cost_per_1000": None,
    }


def make_figures():
    scores = [
        score_figure("full", None, 0.8, estimate(0.2, 0.1, 0.3), 1.0),
        score_figure("random", 0.5, 0.41, estimate(-0.191, -0.3, -0.082), 0.487),
        score_figure("moos", 0.5, 0.712, estimate(0.111, 0.021, 0.2), 0.494),
        score_figure("lingua", 0.5, 0.601, None, 0.498),
        score_figure("moos", 0.33, 0.633, estimate(0.01, -0.021, 0.04), 0.327),
        score_figure("none", None, 0.07, None, 0.0),
    ]
    bucket = {
        "num_examples": 10,
        "min_tokens": 120,
        "max_tokens": 1480,
        "mean_tokens": 600.0,
        "read_seconds_full": 3.21,
        "read_seconds": 1.23,
        "compress_seconds": 0.45,
        "speed_up": 1.91,
    }
    kinds = {
        "numbers": {"num_facts": 1404, "num_kept": 1399, "share": 1399 / 1404},
        "urls": {"num_facts": 0, "num_kept": 0, "share": None},
    }
    return {
        "run": {
            "reader": "tiny-reader (llama, 0a1b)",
            "reader_settings": {"kind": "local", "dtype": "float32"},
            "tasks": [
                {
                    "name": name,
                    "group": "QA",
                    "metric": "F1",
                    "source": "evaluate-v1.1.py",
                    "num_examples": 20,
                    "num_contexts": 5,
                    "mean_context_tokens": 612.4,
                    "max_context_tokens": 1480,
                    "num_cut": 3,
                }
                for name in ("squad", "news")
            ],
            "methods": [
                {"name": name, "kind": name, "settings": {"seed": 7}, "content": None}
                for name in ("full", "random", "moos", "lingua", "none")
            ],
            "rates": [0.5, 0.33],
            "baseline": "lingua",
            "budget_tokenizer": "tokenizer.json",
            "retention": "meetings.jsonl",
            "deletions": "deletions.jsonl",
            "smoothing": "held-out.parquet",
            "price_per_million_tokens": None,
            "confidence": 0.95,
            "num_resamples": 10_000,
            "seed": 13,
            "versions": {"python": "3.11.2", "torch": "2.7.1"},
            "device": "a processor",
            "command": "moos evaluate evaluate.yaml seed=13",
        },
        "cells": [{"task": task, **score} for task in ("squad", "news") for score in scores],
        "groups": [{"group": "QA", "num_tasks": 2, **score} for score in scores],
        "speed": [{"method": "moos", "rate": 0.5, "buckets": [bucket], "pays_from": 120}],
        "retention": [
            {
                "method": "moos",
                "rate": 0.5,
                "achieved_rate": 0.493,
                "num_documents": 35,
                "kinds": kinds,
            }
        ],
        "deletions": [
            {
                "method": "moos",
                "auc": 0.7654,
                "sentence_auc": 0.7321,
                "num_sentences": 1000,
                "num_tokens": 24010,
                "kept_share": 0.441,
            }
        ],
        "smoothing": [
            {
                "name": name,
                "path": name,
                "layers": [0.211, 0.322, last],
                "num_windows": 512,
                "tokens": ["The", "vote"],
                "cosine": [[1.0, 0.4], [0.4, 1.0]],
            }
            for name, last in (("base", 0.433), ("CE", 0.844))
        ],
    }


def result(method, rate, score, *, example="q1", task="squad", **fields):
    return {
        "task": task,
        "group": "QA",
        "metric": "F1",
        "example": example,
        "context": "c0ffee00",
        "method": method,
        "rate": rate,
        "score": score,
        "answer": f"answer of {method}",
        "answers": ["308"],
        "question": "How many points did they give up?",
        "num_context_tokens": 20,
        "num_compressed_tokens": 10,
        "num_prompt_tokens": 40,
        "compress_seconds": 0.1,
        "read_seconds": 1.0,
        **fields,
    }


def context(method, rate, text, task="squad"):
    return {
        "task": task,
        "context": "c0ffee00",
        "method": method,
        "rate": rate,
        "text": text,
        "num_tokens": 10,
        "num_full_tokens": 20,
        "seconds": 0.1,
    }


BROKEN_ROWS = [result("full", None, 1.0), result("moos", 0.5, 0.0)]
CONTEXTS = [
    context("full", None, TEXT),
    context("moos", 0.5, "Panthers gave points, ranking sixth. Kuechly 118 tackles."),
]


@pytest.fixture
def write(tmp_path):
    """`write(figures, rows, contexts)`: the page and the Markdown file."""

    def write(figures, rows=(), contexts=()):
        write_evaluate_report(Storage(str(tmp_path)), figures, list(rows), iter(contexts))
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        return page, (tmp_path / "report.md").read_text(encoding="utf-8")

    return write


@pytest.fixture
def no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.mark.parametrize(
    "shown",
    [
        "tiny-reader (llama, 0a1b)",
        "moos evaluate evaluate.yaml seed=13",
        "python 3.11.2, torch 2.7.1",
        "95 % from 10,000 bootstrap resamples",
        "13",
        "71.2 [66.2, 77.2]",
        "89.0 % [79.0, 99.0]",
        "+11.1 [+2.1, +20.0] ▲",
        "-19.1 [-30.0, -8.2] ▼",
        "+1.0 [-2.1, +4.0]",
        "0.487",
        "1.37×",
        "120–1,480",
        "1.91×",
        "3.21 → 0.45 + 1.23 s",
        "120 tokens",
        "99.6 %",
        "1,399 of 1,404",
        "0.7654",
        "0.7321",
        "24,010",
        "0.844",
        "612",
        "1 of 1",
    ],
)
def test_page_and_markdown_hold_every_number(write, no_matplotlib, shown):
    page, markdown = write(make_figures(), BROKEN_ROWS, CONTEXTS)
    assert shown in Page(page).parts
    assert shown in markdown.replace("\\", "")


def test_plots_are_files_and_in_the_page(write, tmp_path):
    page, markdown = write(make_figures())
    files = {path.stem: path.read_bytes() for path in (tmp_path / "plots").glob("*.png")}
    assert set(files) == LAST
    assert all(data.startswith(b"\x89PNG") for data in files.values())
    sources = [a["src"] for a in Page(page).attributes if "src" in a]
    assert len(sources) == len(files)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(f"(plots/{name}.png)" in markdown for name in files)


def test_without_matplotlib_the_tables_are_there_and_it_is_told(write, no_matplotlib, tmp_path):
    page, markdown = write(make_figures())
    assert not (tmp_path / "plots").exists()
    assert "img" not in Page(page).tags
    assert Page(page).tags.count("table") >= 6
    assert "pip install matplotlib" in page
    assert "pip install matplotlib" in markdown


def poison(value, keys):
    """The same with every string made hostile, but for those that are looked up by."""
    if isinstance(value, dict):
        return {k: v if k in keys else poison(v, keys) for k, v in value.items()}
    if isinstance(value, list):
        return [poison(part, keys) for part in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) else value


def test_everything_from_the_data_is_escaped(write):
    figures = poison(make_figures(), ())
    rows = poison(BROKEN_ROWS, ("method", "context"))
    page, markdown = write(figures, rows, poison(CONTEXTS, ("method", "context")))
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert not [a for a in parsed.attributes if "onerror" in a]
    assert len([t for t in parsed.tags if t == "img"]) == len(LAST)
    assert f"answer of full{HOSTILE}" in parsed.text
    as_code = "    "
    assert "<img" not in "".join(line for line in markdown.split("\n") if line[:4] != as_code)
    tables = [part for part in markdown.strip().split("\n\n") if part.startswith("|")]
    bars = [{line.replace("\\|", "").count("|") for line in table.split("\n")} for table in tables]
    assert bars
    assert all(len(counts) == 1 for counts in bars), "a bar in a name begins no column"


@pytest.mark.parametrize(
    ("full", "compressed", "is_broken"),
    [
        (1.0, 0.0, True),
        (0.8, 0.5, True),  # 0.8 - 0.5 is a little less than 0.3 in floats
        (0.5, 0.2, True),
        (0.49, 0.0, False),  # the whole context did not answer it either
        (1.0, 0.71, False),
        (0.6, 1.0, False),
    ],
)
def test_what_counts_as_broken(full, compressed, is_broken):
    rows = [result("full", None, full), result("moos", 0.5, compressed)]
    broken, counts = find_broken(rows)
    assert len(broken) == is_broken
    count = counts["squad", "moos", 0.5]
    assert (count.num_answered, count.num_broken) == (full >= 0.5, is_broken)


def test_nothing_is_broken_without_the_full_context_or_by_none():
    assert find_broken([result("moos", 0.5, 0.0)]) == ([], {})
    assert find_broken([result("full", None, 1.0), result("none", None, 0.0)]) == ([], {})


def test_a_broken_answer_is_shown_with_its_text(write, no_matplotlib):
    page, markdown = write(make_figures(), BROKEN_ROWS, CONTEXTS)
    parsed = Page(page)
    for shown in ("How many points did they give up?", "answer of full", "answer of moos"):
        assert shown in parsed.text
        assert shown in markdown
    assert "<s>The </s>" in page
    assert "<s> up just <mark>308</mark> </s>" in page


def test_there_is_no_section_when_nothing_broke(write, no_matplotlib):
    page, markdown = write(
        make_figures(), [result("full", None, 1.0), result("moos", 0.5, 1.0)], CONTEXTS
    )
    assert "broke" not in page
    assert "broke" not in markdown


def test_examples_are_spread_over_tasks_and_no_question_comes_twice():
    rows = [
        result(method, rate, score, example=str(n), task=task)
        for task, num in (("squad", 30), ("news", 2))
        for n in range(num)
        for method, rate, score in (
            ("full", None, 1.0),
            ("moos", 0.5, 0.0 if n % 2 else 0.6),
            ("random", 0.5, 0.0),
        )
    ]
    chosen = choose_broken(*find_broken(rows), limit=6)
    questions = [(pair.row["task"], pair.row["example"]) for pair in chosen]
    assert len(questions) == len(set(questions)) == 6
    assert sum(task == "news" for task, _ in questions) == 2
    assert {pair.row["method"] for pair in chosen} == {"moos", "random"}
    assert [pair.drop for pair in chosen] == sorted((p.drop for p in chosen), reverse=True)


@pytest.mark.parametrize(
    ("compressed", "kept"),
    [
        ("Panthers gave 308 points", ["Panthers gave", "308 points"]),
        ("panthers GAVE", ["Panthers gave"]),  # compressors may be uncased
        ("", []),
        (TEXT, [TEXT]),
    ],
)
def test_kept_words_are_found(compressed, kept):
    assert [TEXT[start:end] for start, end in find_kept(TEXT, compressed)] == kept


def test_answers_are_found_as_whole_words():
    text = "In 308 of 1308 cases, New  York\nwon; new york."
    found = [text[start:end] for start, end in find_answers(text, ["308", "New York", "York"])]
    assert found == ["308", "New  York", "new york"]
    assert find_answers(text, [" ", ""]) == []


def test_of_a_long_text_the_part_about_a_dropped_answer_is_shown():
    kept, dropped = "kept 308 here. ", "of 308 points "
    filler = "and so on. " * MAX_CHARS
    shown = compared_html(f"{kept}{filler}{dropped}{filler}", f"{kept}{filler}", ["308"])
    assert "<s> of <mark>308</mark> points " in shown
    assert "kept <mark>" not in shown
    assert len(shown) < 2 * MAX_CHARS


def test_what_was_not_asked_for_has_no_section(write, tmp_path):
    figures = make_figures() | {name: [] for name in ("cells", "groups", "speed", "smoothing")}
    figures["run"] |= {"reader": None, "reader_settings": None, "tasks": [], "baseline": None}
    page, _ = write(figures)
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {"retention", "deletions"}
    assert not {"Scores", "Speed", "Over-smoothing", "Tasks"} & set(Page(page).parts)


def test_figures_that_cannot_be_told_are_dashes(write):
    figures = make_figures()
    for figure in (*figures["cells"], *figures["groups"]):
        figure |= {"share_of_full": None, "difference": None, "achieved_rate": None}
        figure |= {"speed_up": None}
    figures["deletions"][0] |= {"auc": None, "sentence_auc": None, "kept_share": None}
    page, markdown = write(figures)
    assert "None" not in page.split("</style>")[1].replace("base64", "")
    assert "None" not in markdown


def test_odd_names_and_texts_are_drawn(write):
    figures = json.loads(json.dumps(make_figures()).replace('"moos"', '"_m$oo^ 日本"'))
    write(figures, [result("full", None, 1.0), result("m", 0.5, 0.0, answer="\ud800")], CONTEXTS)


def test_every_method_looks_different_everywhere():
    figures = make_figures()
    names = ["full", *(f"method {n}" for n in range(40)), "none"]
    figures["run"]["methods"] = [{"name": name} for name in names]
    styles = choose_styles(figures)
    assert "full" not in styles
    assert len({(style.colour, style.mark) for style in styles.values()}) == len(styles)
