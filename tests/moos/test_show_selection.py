"""What a page selects and renders in the browser is what moos does, to the last word."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moos.show
from moos.config import SelectionConfig
from moos.rendering import merge_kept_words, render
from moos.scored_text import compress_scored
from moos.selector import Selector
from moos.show.document_view import DocumentView, WordFigures, reselect, view_document
from moos.show.page_data import STEPS, page_data
from moos.tokens import TextTokenizer
from moos.words import cut_words

quickjs = pytest.importorskip("quickjs")

SCRIPT = Path(moos.show.__file__).parent / "assets" / "selection.js"
DRIVER = """
function open_(text) { globalThis.doc = moosSelection.prepare(JSON.parse(text)); }
function told(now) {
  return JSON.stringify({
    keep: Array.from(now.keep), kept: now.kept, over: now.over,
    text: moosSelection.render(doc, now.keep),
  });
}
function byRate(text) { return told(moosSelection.selectRate(doc, moosSelection.parseRate(text))); }
function byStep(n) { return told(moosSelection.selectStep(doc, doc.data.steps[n])); }
function decided() { return told({ keep: doc.decided, kept: 0, over: false }); }
function parse(text) { return JSON.stringify(moosSelection.parseRate(text)); }
"""
RATES = ("0.01", "0.1", "0.29", "0.333", "0.5", "0.57", "0.9", "1")


@pytest.fixture(scope="module")
def script():
    context = quickjs.Context()
    # What a function of a page sees; the names of one script are there for the next.
    context.eval(SCRIPT.read_text(encoding="utf-8") + DRIVER)
    return context


def make_view(text, seed, protect=("numbers", "negations", "identifiers")):
    """A document with scores and token counts by chance: many ties, some words without tokens."""
    words = cut_words(text)
    chance = np.random.default_rng(seed)
    levels = chance.choice([0, 1, 1024, 2048, 2049, 4096, *range(0, 4096, 97)], len(words))
    scores = (levels / 4096).astype(np.float32)
    counts = chance.choice(np.int32([0, 1, 1, 1, 2, 7]), len(words)).astype(np.int32)
    config = SelectionConfig(rate=0.5, protect=protect)
    view = DocumentView(
        title="a document",
        text=text,
        words=words,
        keep=np.ones(len(words), dtype=bool),
        num_tokens=int(counts.sum()) if len(words) else len(text.split()),
        num_kept_tokens=0,
        budget="rate 0.5",
        figures=WordFigures(
            preserve_probability=scores,
            outlier_score=scores,
            score=scores,
            token_counts=counts,
            num_tokens=int(counts.sum()) if len(words) else len(text.split()),
        ),
    )
    return reselect(view, Selector(config))


def check(told, view):
    told = json.loads(told)
    assert told["keep"] == view.keep.astype(int).tolist()
    spans = merge_kept_words(view.keep, view.words, len(view.text))
    assert told["text"] == render(view.text, spans)
    return told


def check_rates(script, view, rates=RATES):
    script.get("open_")(json.dumps(page_data(view)))
    check(script.get("decided")(), view)
    for rate in rates:
        again = reselect(
            view, Selector(view.selector.config.model_copy(update={"rate": float(rate)}))
        )
        told = check(script.get("byRate")(rate), again)
        assert (told["kept"], told["over"]) == (again.num_kept_tokens, again.over_budget)


def test_hostile_texts_are_selected_and_rendered_alike(script, hostile_text):
    for seed in range(3):
        check_rates(script, make_view(hostile_text, seed))


@given(
    parts=st.lists(
        st.sampled_from(
            (
                "The committee met. ",
                "don't ",
                "1,234.5",
                " -3",
                "foo_bar.py ",
                "的一是",
                "กขค",
                "\U0001f469\U0001f3fd\u200d\U0001f680",
                "e\u0301 ",
                "\n",
                "\r\n",
                "\u2028",
                "  ",
                "(a), ",
                "b.) ",
                "no ",
            )
        ),
        max_size=40,
    ),
    seed=st.integers(0, 1 << 30),
)
def test_texts_of_all_kinds_are_selected_and_rendered_alike(script, parts, seed):
    check_rates(script, make_view("".join(parts), seed), RATES[1:6:2])


def test_scores_of_a_model_are_selected_alike(script, tiny_compressor):
    texts = [
        "The University of Paris was founded in 1150; no-one knows the exact day, they say. " * 5,
        "Prices rose by 3.5 percent (five million people), which is not what we expected.\n" * 9,
    ]
    selector = Selector(SelectionConfig(rate=0.4))
    prepared = tiny_compressor.preparer.prepare(texts)
    for scored in tiny_compressor.score(prepared):
        (document,) = compress_scored([scored], selector)
        view = view_document("a document", scored, document, selector)
        check_rates(script, view)
        script.get("open_")(json.dumps(page_data(view)))
        told = json.loads(script.get("byRate")("0.4"))
        assert told["text"] == document.text
        assert told["kept"] == document.num_kept_tokens


def test_a_readers_tokens_are_counted_beforehand(script, tiny_checkpoint, make_checkpoint):
    reader = TextTokenizer.from_file(make_checkpoint("modernbert") / "tokenizer.json")
    text = "The committee met on Tuesday, and 3 of them decided nothing at all. " * 6
    view = make_view(text, 1)
    config = SelectionConfig(rate=0.5, budget_tokenizer="reader.json")
    view = reselect(view, Selector(config, reader))
    data = page_data(view)
    assert len(data["steps"]) == STEPS
    script.get("open_")(json.dumps(data))
    for step in range(STEPS):
        rate = (step + 1) / STEPS
        again = reselect(view, Selector(config.model_copy(update={"rate": rate}), reader))
        told = check(script.get("byStep")(step), again)
        assert (told["kept"], told["over"]) == (again.num_kept_tokens, again.over_budget)


def test_scores_that_are_not_known_offer_no_selection():
    view = make_view("one two three", 1)
    figures = view.figures
    scores = np.where([True, False, True], figures.score, np.nan).astype(np.float32)
    partly = WordFigures(
        preserve_probability=scores,
        outlier_score=scores,
        score=scores,
        token_counts=figures.token_counts,
        num_tokens=figures.num_tokens,
    )
    data = page_data(replace(view, figures=partly))
    assert (data["canSelect"], data["score"][1]) == (False, -1)
    assert page_data(replace(view, figures=None))["canSelect"] is False


def test_why_a_word_is_protected_is_told_by_class():
    config = SelectionConfig(protect_words=("tuesday",), protect_patterns=("^The",))
    text = "The 3 met not on Tuesday at foo_bar."
    view = make_view(text, 1)
    view = reselect(view, Selector(config))
    data = page_data(view)
    words = [
        text[start:end]
        for start, end in zip(view.words.starts.tolist(), view.words.ends.tolist(), strict=True)
    ]
    told = {word: data["reasons"][why] for word, why in zip(words, data["why"], strict=True) if why}
    assert told == {
        "The": ["protect_patterns ^The"],
        "3": ["numbers"],
        "not": ["negations"],
        "Tuesday": ["protect_words"],
        "foo_bar": ["identifiers"],
    }


def test_there_may_be_more_reasons_than_a_number_has_bits(script):
    names = [f"word{i}x" for i in range(70)]
    config = SelectionConfig(rate=0.1, protect=(), protect_patterns=tuple(names))
    view = make_view(" ".join([*names[:3], "between", *names[3:]]), 1)
    view = reselect(view, Selector(config))
    data = page_data(view)
    told = [data["reasons"][why] for why in data["why"]]
    wanted = [[f"protect_patterns {name}"] for name in names]
    assert told == [*wanted[:3], [], *wanted[3:]]
    check_rates(script, view, ("0.1",))


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("0.29", {"top": 29, "bottom": 100}),
        (" .5 ", {"top": 5, "bottom": 10}),
        ("1", {"top": 1, "bottom": 1}),
        ("1.0", {"top": 10, "bottom": 10}),
        ("0", None),
        ("1.01", None),
        ("", None),
        (".", None),
        ("-0.5", None),
        ("half", None),
        ("1e-1", None),
    ],
)
def test_rates_are_read_as_they_are_written(script, text, parsed):
    assert json.loads(script.get("parse")(text)) == parsed
