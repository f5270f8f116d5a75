"""Progress counts each split once, whatever happens to its replica."""

import io
import logging
import re
import sys
import threading

import pytest

from pipelines import progress as progress_module
from pipelines.progress import ProgressReport


def counts(documents, tokens=0, kept=0, *, quarantined=0, size=0):
    return {
        "documents": documents,
        "quarantined": quarantined,
        "tokens": tokens,
        "kept_tokens": kept,
        "input_bytes": size,
    }


def test_counts_of_a_split_are_replaced_not_added():
    report = ProgressReport(100, 0)
    report.update("a", counts(1, 10, 5, size=10))
    report.update("a", counts(3, 30, 15, size=30))
    report.update("a", counts(2, 20, 10, size=20))  # its replica died; another began again
    share, line = report.describe()
    assert share == pytest.approx(0.2)
    assert line.startswith("2 documents, 20 tokens, ")


def test_splits_are_added_up():
    report = ProgressReport(100, 20)
    report.update("a", counts(1, 10, 5, size=10))
    report.finish_split("b", counts(2, 30, 5, quarantined=4), 40)
    share, line = report.describe()
    assert share == pytest.approx(0.7)
    assert line.startswith("3 documents, 4 quarantined, 40 tokens, ")
    assert "rate 0.250" in line
    assert re.search(r"\d:\d\d left$", line)


def test_late_news_of_a_finished_split_is_ignored():
    report = ProgressReport(100, 0)
    report.finish_split("a", counts(5, 50, 25), 100)
    report.update("a", counts(1, 10, 5, size=10))
    share, line = report.describe()
    assert share == 1.0
    assert line.startswith("5 documents, 50 tokens")


def test_before_the_first_news_it_waits():
    share, line = ProgressReport(100, 50).describe()
    assert share == 0.5
    assert "0 documents" in line
    assert line.endswith("starting")


def test_nothing_to_do_is_no_division_by_zero():
    assert ProgressReport(0, 0).describe()[0] == 0.0


def test_the_share_never_exceeds_one():
    report = ProgressReport(10, 0)
    report.update("a", counts(1, size=50))  # decompressed bytes of a compressed file
    assert report.describe()[0] == 1.0


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (61, "1:01"), (3599.6, "1:00:00"), (90_061, "25:01:01")]
)
def test_durations_read_like_a_clock(seconds, shown):
    assert progress_module.format_duration(seconds) == shown


def test_without_a_terminal_it_logs_lines_and_polls_first(monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(progress_module, "LOG_EVERY_S", 0.01)
    report = ProgressReport(100, 0)
    polled_twice = threading.Event()
    seen = []

    def poll():
        seen.append(len(seen))
        report.update("a", counts(len(seen), 10, 5, size=50))
        if len(seen) == 2:
            polled_twice.set()

    report.poll_with(poll)
    with caplog.at_level(logging.INFO, logger="pipelines"), report:
        assert polled_twice.wait(60)
    lines = [record.getMessage() for record in caplog.records]
    assert lines
    assert lines[0].startswith(" 50 %  1 documents, 10 tokens, ")


def test_on_a_terminal_it_draws_a_bar_that_ends_full(monkeypatch, caplog):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    with caplog.at_level(logging.INFO, logger="pipelines"), ProgressReport(100, 0) as report:
        report.finish_split("a", counts(5, 50, 25), 100)
    assert "100%" in terminal.getvalue()
    assert "5 documents" in terminal.getvalue()


def test_an_error_in_the_work_ends_the_display():
    with pytest.raises(RuntimeError, match="boom"), ProgressReport(100, 0) as report:
        raise RuntimeError("boom")
    assert not report._thread.is_alive()
