import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from moos import CompressedDocument, Compressor, render
from moos.characters import SPACE, classify
from moos.config import ScoringConfig, WindowConfig
from moos.engines.batching import plan_micro_batches
from moos.errors import ConfigError, DataError, ModelError
from moos.joined_texts import GROUP_CHARS, group_by_chars
from moos.rendering import merge_kept_words
from moos.scored_text import compress_scored
from moos.scores import GRID, round_scores
from moos.selection import budget_of_rate
from moos.words import count_tokens, cut_words, map_tokens

TEXT = (
    "The committee met on Tuesday and decided that no further action was needed. "
    "Prices rose by 3.5 percent, and the model keeps the words that matter most.\n"
)


def assert_sound(text: str, document: CompressedDocument) -> None:
    """What holds for every document, whatever was decided."""
    assert render(text, document.spans) == document.text
    flat = [bound for span in document.spans for bound in span]
    assert all(start < end for start, end in document.spans)
    assert flat == sorted(flat)
    assert not flat or (flat[0] >= 0 and flat[-1] <= len(text))
    held = np.zeros(len(text), dtype=np.bool_)
    for start, end in document.spans:
        held[start:end] = True
    table = document.word_table
    if len(table.words) == 0:
        assert held.all()
    # A word is held whole or not at all, and white space only where a word beside it is.
    edges = np.concatenate([[0], np.cumsum(held)])
    lengths = table.words.ends - table.words.starts
    assert (edges[table.words.ends] - edges[table.words.starts] == lengths * table.kept).all()
    is_space = classify(text) & SPACE != 0
    assert (held[~is_space].sum()) == (lengths * table.kept).sum()
    assert 0 <= document.num_kept_tokens <= document.num_tokens
    assert table.kept[table.protected].all()
    for scores in (table.score, table.preserve_probability, table.outlier_score):
        assert ((scores >= 0) & (scores <= 1)).all()
        assert (scores * GRID == np.rint(scores * GRID)).all()


def token_counts(compressor: Compressor, text: str) -> np.ndarray:
    """The compressor's tokens of each word."""
    words = cut_words(text)
    (tokens,) = compressor.tokenizer.tokenize([text])
    return count_tokens(map_tokens(tokens, words), len(words))


@pytest.mark.parametrize("selection", [{"rate": 0.5}, {"target_tokens": 3, "protect": []}])
def test_a_hostile_text_is_compressed_without_being_altered(
    tiny_compressor, hostile_text, selection
):
    document = tiny_compressor.compress(hostile_text, **selection)
    assert_sound(hostile_text, document)
    whole = tiny_compressor.compress(hostile_text, rate=1.0)
    assert whole.text == hostile_text
    assert (whole.rate, whole.over_budget) == (1.0, False)


@pytest.mark.parametrize("kind", ["xlm-r", "modernbert", "deberta-v2"])
def test_a_hostile_text_is_sound_with_any_tokenizer(make_checkpoint, hostile_text, kind):
    document = Compressor.load(make_checkpoint(kind), device="cpu").compress(hostile_text)
    assert_sound(hostile_text, document)


@settings(max_examples=40)
@given(data=st.data())
def test_any_text_is_compressed_without_being_altered(tiny_compressor, any_text, data):
    text = data.draw(any_text)
    rate = data.draw(st.floats(0.01, 1.0))
    protect = data.draw(st.sampled_from([(), ("numbers",), ("negations", "urls", "code")]))
    document = tiny_compressor.compress(text, rate=rate, protect=protect)
    assert_sound(text, document)
    if not document.words:
        assert document.text == text
        return
    counts, protected = token_counts(tiny_compressor, text), document.word_table.protected
    budget = budget_of_rate(rate, document.num_tokens)
    assert document.num_kept_tokens == counts[document.word_table.kept].sum()
    assert document.num_kept_tokens <= max(budget, counts[protected].sum())
    assert document.over_budget == (counts[protected].sum() > budget)


@pytest.mark.parametrize("unit", ["x", "👍", "的", "!", "\u0301", "\x00"])
def test_one_long_word_is_compressed(tiny_compressor, unit):
    text = unit * (500_000 if unit == "x" else 10_000)
    document = tiny_compressor.compress(text, rate=0.5)
    assert_sound(text, document)


def test_an_empty_text_has_rate_1(tiny_compressor):
    document = tiny_compressor.compress("")
    assert (document.text, document.spans, document.words) == ("", [], [])
    assert (document.num_tokens, document.num_kept_tokens, document.rate) == (0, 0, 1.0)
    assert tiny_compressor.compress([]) == []


def test_a_lone_surrogate_is_an_error_that_names_its_place(tiny_compressor):
    with pytest.raises(DataError, match=r"^text holds the lone surrogate U\+DC00 at character 4"):
        tiny_compressor.compress("bad \udc00 text")
    with pytest.raises(DataError, match=r"text 1 of 3: .*U\+D83D at character 0"):
        tiny_compressor.compress(["fine", "\ud83d", "fine"])


def test_one_bad_text_does_not_stop_the_others(tiny_compressor):
    selector = tiny_compressor.selector(rate=0.5)
    texts = ["\ud800", TEXT, "\udfff", "a b c", "x\ud800"]
    results = tiny_compressor.compress_each(texts, selector)
    assert [isinstance(result, DataError) for result in results] == [True, False, True, False, True]
    assert results[1].spans == tiny_compressor.compress(TEXT).spans
    assert all(
        isinstance(r, DataError) for r in tiny_compressor.compress_each(["\ud800"], selector)
    )


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"rate": 0.5, "target_tokens": 3}, "set one budget"),
        ({"rates": 0.5}, r"rates: Extra inputs.*\(got 0\.5\)"),
        ({"rate": 0}, r"rate: .*\(got 0\)"),
        ({"corpus_rate": 1.5}, r"corpus_rate: .*\(got 1\.5\)"),
        ({"corpus_rate": 0.5, "rate": 0.5}, "set one budget"),
        ({"protect": ["dates"]}, "protect"),
        ({"protect_patterns": ["("]}, "is not a regular expression"),
    ],
)
def test_a_selection_that_is_not_valid_is_refused(tiny_compressor, selection, message):
    with pytest.raises(ConfigError, match=message):
        tiny_compressor.compress(TEXT, **selection)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (None, "texts is None; give a string or a list of strings"),
        (5, "texts is int; give"),
        (iter(["a"]), "texts is list_iterator; give"),
        (["a", None], r"texts\[1\] is None; give strings"),
        ([b"a"], r"texts\[0\] is bytes; give strings"),
        (b"a", r"texts\[0\] is int; give strings"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_text_is_refused(tiny_compressor, texts, told):
    with pytest.raises(TypeError, match=told):
        tiny_compressor.compress(texts)


def test_alpha_1_is_the_plain_classifier(tiny_checkpoint):
    from transformers import AutoModelForTokenClassification

    raw = Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json"))
    encoding = raw.encode("met on the test of memory")  # every word is one token
    model = AutoModelForTokenClassification.from_pretrained(tiny_checkpoint)
    with torch.inference_mode():
        logits = model.eval()(torch.tensor([encoding.ids])).logits
    expected = round_scores(logits.softmax(dim=-1)[0, 1:-1, 1].numpy())
    exact = Compressor.load(
        tiny_checkpoint, scoring=ScoringConfig(alpha=1.0), engine="torch", device="cpu"
    )
    words = exact.compress("met on the test of memory").words
    assert len(words) == len(expected)
    np.testing.assert_allclose([word.score for word in words], expected, atol=1.01 / GRID)
    assert all(word.score == word.preserve_probability for word in words)


@settings(max_examples=20)
@given(data=st.data())
def test_a_batch_equals_one_by_one(plain_compressor, any_text, data):
    texts = data.draw(st.lists(any_text, min_size=1, max_size=6))
    texts = [text + TEXT * data.draw(st.integers(0, 2)) for text in texts]
    together = plain_compressor.compress(texts, rate=0.4)
    assert [document.spans for document in together] == [
        plain_compressor.compress(text, rate=0.4).spans for text in texts
    ]


def test_the_same_batch_gives_the_same_numbers(tiny_compressor):
    texts = [TEXT * count for count in (3, 1, 2)]
    first, second = (tiny_compressor.compress(texts) for _ in range(2))
    assert [document.words for document in first] == [document.words for document in second]


def test_a_higher_rate_keeps_a_superset(tiny_compressor):
    kept: set[int] = set()
    for rate in (0.05, 0.1, 0.29, 0.3, 0.5, 0.77, 0.9, 1.0):
        table = tiny_compressor.compress(TEXT * 4, rate=rate).word_table
        larger = set(np.flatnonzero(table.kept).tolist())
        assert kept <= larger
        kept = larger
    assert len(kept) == len(table.kept)


@pytest.mark.parametrize("budget", [0, 1, 5, 20, 10_000])
def test_a_target_is_kept_in_tokens_of_the_compressor(tiny_compressor, budget):
    document = tiny_compressor.compress(TEXT * 3, target_tokens=budget, protect=[])
    assert document.num_kept_tokens <= budget
    assert not document.over_budget
    assert (document.text == TEXT * 3) == (budget == 10_000)


def test_protected_words_stay_though_they_exceed_the_budget(tiny_compressor):
    document = tiny_compressor.compress(TEXT, target_tokens=1, protect=["numbers", "negations"])
    assert document.text == "no 3.5"
    assert document.over_budget
    assert document.num_kept_tokens > 1
    enough = tiny_compressor.compress(TEXT, target_tokens=document.num_kept_tokens)
    assert not enough.over_budget


def test_the_users_words_and_patterns_stay(tiny_compressor):
    document = tiny_compressor.compress(
        TEXT, target_tokens=0, protect=[], protect_words=["tuesday"], protect_patterns=["matt"]
    )
    assert document.text == "Tuesday matter"


def test_chosen_scores_decide(chosen_compressor):
    compressor = chosen_compressor({"a": 0.9, "b": 0.1, "c": 0.8, "d": 0.7})
    assert compressor.compress("a b c d", target_tokens=2, protect=[]).text == "a c"
    assert compressor.compress("a b c d", threshold=0.7, protect=[]).text == "a c d"
    assert compressor.compress("e f g h", target_tokens=2, protect=[]).text == "e f"  # ties
    assert [word.kept for word in compressor.compress("a b", rate=0.5, protect=[]).words] == [
        True,
        False,
    ]


def test_the_outlier_score_has_its_weight(chosen_compressor):
    compressor = chosen_compressor({"a": 1.0, "b": 0.0}, alpha=0.75, outlier=0.5)
    scores = [word.score for word in compressor.compress("a b").words]
    assert scores == [0.875, 0.125]
    assert [word.outlier_score for word in compressor.compress("a b").words] == [0.5, 0.5]


@pytest.mark.parametrize("context_tokens", [0, 1, 8, 1000])
def test_windows_show_context_and_own_every_token_once(chosen_compressor, context_tokens):
    compressor = chosen_compressor({}, context_tokens=context_tokens)
    text = "a b c d e f. g h i j k l m " * 20
    compressor.compress(text)
    (tokens,) = compressor.tokenizer.tokenize([text])
    owned = np.concatenate([i.ids[i.own_start : i.own_end] for i in compressor.engine.inputs])
    assert owned.tolist() == tokens.ids.tolist()
    for position, item in enumerate(compressor.engine.inputs):
        assert len(item.ids) <= 64
        assert (item.ids[0], item.ids[-1]) == (2, 3)  # [CLS] and [SEP]
        shown = item.own_start - 1
        assert shown == (0 if position == 0 else min(context_tokens, 15))


def test_context_changes_the_scores_but_not_the_promises(tiny_checkpoint):
    window = WindowConfig(max_length=32, context_tokens=6)
    compressor = Compressor.load(tiny_checkpoint, window=window, device="cpu")
    document = compressor.compress(TEXT * 5, rate=0.4, protect=[])
    assert_sound(TEXT * 5, document)
    assert document.num_kept_tokens <= 0.4 * document.num_tokens


def test_a_window_longer_than_the_encoder_is_refused(tiny_checkpoint):
    with pytest.raises(ModelError, match=r"window\.max_length=65 exceeds the 64 positions"):
        Compressor.load(tiny_checkpoint, window=WindowConfig(max_length=65), device="cpu")


@pytest.mark.parametrize("kind", ["modernbert", "xlm-r"])
@pytest.mark.parametrize("budget", [0, 1, 7, 40, 100_000])
@pytest.mark.parametrize(
    "text", [TEXT * 3, "的一是不了人我在有他。" * 9, "emoji 👩🏽‍🚀 \x00 x_y " * 9]
)
def test_a_target_is_kept_in_the_tokens_of_the_reader(
    tiny_compressor, make_checkpoint, kind, budget, text
):
    path = make_checkpoint(kind) / "tokenizer.json"
    reader = Tokenizer.from_file(str(path))

    def count(compressed: str) -> int:
        return len(reader.encode(compressed, add_special_tokens=False).ids)

    document = tiny_compressor.compress(
        text, target_tokens=budget, budget_tokenizer=str(path), protect=[]
    )
    assert_sound(text, document)
    assert document.num_tokens == count(text)
    assert document.num_kept_tokens == count(document.text) <= budget
    table = document.word_table
    if table.kept.all():
        return
    # The best of the dropped words, the earlier of equals, would not have fitted.
    costs = token_counts(tiny_compressor, text)
    dropped = np.flatnonzero(~table.kept & (costs > 0))
    best = dropped[np.argmax(table.score[dropped])]
    larger = table.kept.copy()
    larger[best] = True
    for follower in range(best + 1, len(costs)):
        if costs[follower]:
            break
        larger[follower] = True
    assert count(render(text, merge_kept_words(larger, table.words, len(text)))) > budget


def test_a_rate_is_of_the_readers_tokens(tiny_compressor, make_checkpoint):
    path = str(make_checkpoint("modernbert") / "tokenizer.json")
    document = tiny_compressor.compress(TEXT * 3, rate=0.3, budget_tokenizer=path, protect=[])
    assert 0.2 < document.rate <= 0.3


def test_protected_words_over_a_readers_budget_are_reported(tiny_compressor, make_checkpoint):
    path = str(make_checkpoint("modernbert") / "tokenizer.json")
    document = tiny_compressor.compress(TEXT, target_tokens=1, budget_tokenizer=path)
    assert (document.text, document.over_budget) == ("no 3.5", True)


@pytest.mark.parametrize("text", ["\n" * 500, " \u2028" * 200])
def test_white_space_alone_is_within_a_readers_budget_or_over_it(
    tiny_compressor, make_checkpoint, text
):
    path = str(make_checkpoint("modernbert") / "tokenizer.json")
    document = tiny_compressor.compress(text, target_tokens=10, budget_tokenizer=path)
    assert document.num_kept_tokens <= 10 or document.over_budget


def test_a_readers_tokenizer_that_is_missing_is_named(tiny_compressor, tmp_path):
    with pytest.raises(ModelError, match=r"missing\.json cannot be read"):
        tiny_compressor.compress(TEXT, budget_tokenizer=str(tmp_path / "missing.json"))


def test_unknown_tokens_are_counted(tiny_compressor):
    assert tiny_compressor.compress("the test").num_unknown_tokens == 0
    assert tiny_compressor.compress("the ꙮ test ⿰").num_unknown_tokens == 2


def test_case_and_line_breaks_come_through_an_uncased_model(tiny_compressor):
    text = "MIXED Case\r\n\tÉTÉ\u00a0Straße"
    assert tiny_compressor.compress(text, rate=1.0).text == text
    words = [text[word.start : word.end] for word in tiny_compressor.compress(text).words]
    assert words == ["MIXED", "Case", "ÉTÉ", "Straße"]


def test_preparing_scoring_and_selecting_apart_is_compressing(tiny_compressor, hostile_text):
    """In three processes, as a run on a cluster may do it."""
    texts = [TEXT, hostile_text, TEXT * 3]
    selector = tiny_compressor.selector(rate=0.4)
    prepared = pickle.loads(pickle.dumps(tiny_compressor.preparer.prepare(texts)))
    scored = pickle.loads(pickle.dumps(tiny_compressor.score(prepared)))
    assert [item.text for item in scored] == texts
    apart = [compress_scored([item], selector)[0] for item in scored]
    together = tiny_compressor.compress(texts, rate=0.4)
    assert [document.words for document in apart] == [document.words for document in together]
    assert [document.spans for document in apart] == [document.spans for document in together]
    for name in (
        "num_tokens",
        "num_kept_tokens",
        "num_unknown_tokens",
        "num_letters",
        "num_non_latin_letters",
    ):
        assert [getattr(d, name) for d in apart] == [getattr(d, name) for d in together]


def test_a_text_that_cannot_be_prepared_has_its_error_in_its_place(tiny_compressor):
    prepared = tiny_compressor.preparer.prepare(["\ud800", TEXT, "x\udfff", ""])
    assert [isinstance(part, DataError) for part in prepared] == [True, False, True, False]
    assert (prepared[1].text, prepared[3].text) == (TEXT, "")
    assert tiny_compressor.preparer.prepare([]) == []
    assert tiny_compressor.score([]) == []


@given(st.lists(st.integers(0, GROUP_CHARS + 10), max_size=8))
def test_groups_hold_every_text_once_in_order(lengths):
    texts = ["x" * length for length in lengths]
    groups = list(group_by_chars(texts, lengths))
    assert [text for group in groups for text in group] == texts
    assert all(sum(map(len, group[:-1])) < GROUP_CHARS for group in groups)


@given(st.lists(st.integers(1, 600), max_size=40), st.integers(64, 2048))
def test_micro_batches_hold_every_window_once_and_fit(lengths, max_positions):
    batches = plan_micro_batches(lengths, max_positions)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert longest * len(batch) <= max_positions or len(batch) == 1
    assert batches == plan_micro_batches(lengths, max_positions)
