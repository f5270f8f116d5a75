import numpy as np
import pytest

from jobs.show import wants_colour
from moos.show.document_view import DocumentView, Protection
from moos.show.terminal import FOLDED_WORDS, SHOWN_WORDS, print_view, split_runs
from moos.words import cut_words


def make_view(text, keep, protected=(), title="a document"):
    words = cut_words(text)
    keep = np.isin(np.arange(len(words)), keep)
    mask = np.isin(np.arange(len(words)), protected)
    return DocumentView(
        title=title,
        text=text,
        words=words,
        keep=keep,
        num_tokens=len(words),
        num_kept_tokens=int(keep.sum()),
        budget="rate 0.5",
        protections=(Protection("numbers", mask),),
    )


def printed(capsys, *views, **options):
    print_view(*views, **{"in_colour": False, "max_chars": None, **options})
    return capsys.readouterr().out


def test_marks_tell_what_was_dropped_and_what_is_protected(capsys):
    out = printed(capsys, make_view("one two  three 4 five", [0, 3], [3]))
    assert out == (
        "a document: 2 of 5 tokens kept, rate 0.400 (rate 0.5)\none [-two  three-] {4} [-five-]\n\n"
    )


def test_colours_strike_what_was_dropped(capsys):
    out = printed(capsys, make_view("one two 3", [0, 2], [2]), in_colour=True)
    assert "one \x1b[2;9mtwo\x1b[0m \x1b[36m3\x1b[0m" in out
    assert "[-" not in out


def test_a_comparison_marks_what_only_one_of_them_keeps(capsys):
    text = "one two three four"
    out = printed(capsys, make_view(text, [0, 1]), make_view(text, [0, 2], title="another"))
    assert "1. a document: 2 of 4" in out
    assert "2. another: 2 of 4" in out
    assert "\none [1+two+] [2+three+] [-four-]\n" in out


@pytest.mark.parametrize("length", [FOLDED_WORDS, FOLDED_WORDS + 1, 200])
def test_a_long_cut_is_folded(capsys, length):
    text = "begin " + " ".join(f"w{i}x" for i in range(length)) + " end"
    view = make_view(text, [0, length + 1])
    out = printed(capsys, view)
    hidden = length - 2 * SHOWN_WORDS
    assert (f"… {hidden} words …" in out) == (length > FOLDED_WORDS)
    assert f"w{length - 1}x-] end" in out
    assert "words …" not in printed(capsys, view, fold=False)
    assert "".join(run.text for run in split_runs(view, fold=False)) == text


def test_the_text_is_cut_where_more_is_not_wanted(capsys):
    out = printed(capsys, make_view("one two three four", [0, 1, 2, 3]), max_chars=7)
    assert "\none two\n... more with --chars\n" in out
    text = "one two three"
    assert "more with" not in printed(capsys, make_view(text, [0]), max_chars=len(text))
    out = printed(capsys, make_view(text, [0]), max_chars=4)
    assert "\none \n... more with --chars\n" in out, "no marks around nothing"


def test_nothing_in_a_text_or_its_name_drives_the_terminal(capsys):
    text = "red \x1b[31m bell \x07 back \x08 right \u202e left \x9b2J line\r\nend"
    out = printed(capsys, make_view(text, [0], title="name\x1b]0;x\x07"))
    assert not set(out) & set("\x1b\x07\x08\x9b\r\u202e")
    assert "␛" in out
    assert "line\nend" in out


@pytest.mark.parametrize("text", ["", " \n ", "word", "  padded  "])
def test_texts_of_few_words_are_shown(capsys, text):
    view = make_view(text, [0])
    assert "".join(run.text for run in split_runs(view)) == text
    assert "a document" in printed(capsys, view)


@pytest.mark.parametrize(
    ("choice", "is_terminal", "environment", "wanted"),
    [
        ("auto", True, {}, True),
        ("auto", False, {}, False),
        ("auto", True, {"NO_COLOR": "1"}, False),
        ("auto", True, {"TERM": "dumb"}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {}, False),
    ],
)
def test_colours_are_for_terminals(monkeypatch, choice, is_terminal, environment, wanted):
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wants_colour(choice) is wanted
