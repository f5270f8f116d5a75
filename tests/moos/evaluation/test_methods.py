"""Methods meet each context's budget in the reader's tokens, and rank words as they say."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from moos.config import ConfigModel, ScoringConfig, load_config
from moos.errors import ConfigError, DataError, ModelError
from moos.evaluation.method_config import (
    LLMLingua2Config,
    MethodConfig,
    MoosMethodConfig,
    PlainMethodConfig,
    RandomMethodConfig,
    SelectiveContextConfig,
)
from moos.evaluation.methods import load_method
from moos.evaluation.methods.baselines import WordMethod, fit_nothing
from moos.evaluation.methods.budgets import make_largest
from moos.evaluation.methods.llmlingua2 import NUM_RATES, LLMLingua2Method
from moos.evaluation.methods.moos_method import MoosMethod
from moos.evaluation.methods.selective_context import SurprisalScorer, plan_halves
from moos.evaluation.methods.stop_words import STOP_WORDS
from moos.evaluation.methods.word_statistics import count_lines, fit_tf_idf
from moos.tokens import TextTokenizer
from moos.words import cut_words
from tests.tiny_teacher import make_model, make_tokenizer

ROOT = Path(__file__).parents[3]
CONTEXTS = [
    "The committee met on Tuesday and decided that no further action was needed. Prices rose by "
    "3.5 percent, and the model keeps the words that matter most for the reader.",
    "This is not a test of memory; it is a test of what can be left out without harm.\n\n"
    "Prices of foo_bar.py fell in Paris.",
    "So, um, well: the the the the next report is what it is, and it was left out.",
]
KINDS = ("full", "none", "lead", "stop-words", "tf-idf")


class MethodHolder(ConfigModel):
    method: MethodConfig


@pytest.fixture(scope="module")
def reader(make_checkpoint):
    return TextTokenizer.from_file(make_checkpoint("modernbert") / "tokenizer.json")


@pytest.fixture
def load(reader):
    """`load(kind="lead")`: the method of that config."""

    def load(**config):
        holder = MethodHolder.model_validate({"method": config})
        return load_method(holder.method, reader, device="cpu")

    return load


def is_subsequence(words, of):
    rest = iter(of)
    return all(word in rest for word in words)


def words_of(text):
    words = cut_words(text)
    return [text[start:end] for start, end in zip(words.starts, words.ends, strict=True)]


@pytest.mark.parametrize("kind", ["random", "lead", "stop-words", "tf-idf", "moos"])
@pytest.mark.parametrize("budgets", [[0, 0, 0], [1, 9, 30], [40, 12, 7], [1000, 20, 1000]])
def test_each_context_meets_its_own_budget(load, reader, tiny_checkpoint, kind, budgets):
    more = {"checkpoint": str(tiny_checkpoint), "protect": []} if kind == "moos" else {}
    compressed = load(kind=kind, **more).compress(CONTEXTS, budgets)
    for text, context, budget in zip(compressed, CONTEXTS, budgets, strict=True):
        assert reader.count(text) <= budget
        assert (text == context) == (reader.count(context) <= budget)
        assert is_subsequence(words_of(text), words_of(context))


@pytest.mark.parametrize("kind", ["random", "lead", "stop-words", "tf-idf"])
def test_a_larger_budget_keeps_a_superset(load, kind):
    method = load(kind=kind)
    kept = []
    for budget in (0, 3, 8, 15, 30, 50, 500):
        words = words_of(method.compress(CONTEXTS[:1], [budget])[0])
        assert is_subsequence(kept, words)
        kept = words
    assert kept == words_of(CONTEXTS[0])


def test_full_and_none_know_no_budget(load):
    assert load(kind="full").compress(CONTEXTS, [0, 5, 5]) == CONTEXTS
    assert load(kind="none").compress(CONTEXTS, [0, 5, 500]) == ["", "", ""]


@pytest.mark.parametrize("kind", [*KINDS, "random"])
@pytest.mark.parametrize("context", ["", " \n\t ", "的一是不了人我在有他。", "x" * 300])
def test_any_context_is_compressed(load, kind, context):
    (text,) = load(kind=kind).compress([context], [2])
    # White space alone holds no word that could go.
    assert len(text) <= len(context)


def test_lead_keeps_the_beginning(load):
    (text,) = load(kind="lead").compress(CONTEXTS[:1], [20])
    assert text
    assert CONTEXTS[0].startswith(text)


def test_random_words_depend_on_seed_and_text_alone(load):
    first, second, _ = load(kind="random").compress(CONTEXTS, [20, 20, 20])
    assert load(kind="random").compress([CONTEXTS[1], CONTEXTS[0]], [20, 20]) == [second, first]
    assert load(kind="random", seed=1).compress(CONTEXTS[:1], [20]) != [first]
    other = CONTEXTS[0].replace("3.5", "3.6")  # as many tokens
    (text,) = load(kind="random").compress([other], [20])
    assert text.replace("3.6", "3.5") != first


def test_stop_words_and_punctuation_all_go_before_any_other_word(load, reader):
    context = "The model keeps, for the reader, no words but those that matter."
    budget = reader.count(context) - 1
    (text,) = load(kind="stop-words").compress([context], [budget])
    # What the budget would still hold stays unused; a negation is no stop word.
    assert text == "model keeps reader no words matter"
    (shorter,) = load(kind="stop-words").compress([context], [reader.count(text) - 1])
    assert len(words_of(shorter)) < 6
    assert not set(words_of(shorter)) & STOP_WORDS
    assert not STOP_WORDS & {"no", "not", "never", "nor", "neither", "without", "cannot"}


def test_stop_words_lets_the_most_common_of_the_other_words_go_first(load, reader):
    contexts = ["report prices", "report harm", "report memory prices"]
    budget = reader.count("memory prices")
    assert load(kind="stop-words").compress(contexts, [99, 99, budget])[2] == "memory prices"


def test_tf_idf_prefers_words_that_are_frequent_here_and_rare_elsewhere(load, reader):
    contexts = ["the test the model the test", "the reader", "the model"]
    budget = reader.count("test test")
    assert load(kind="tf-idf").compress(contexts, [budget, 9, 9])[0] == "test test"
    scores = fit_tf_idf(contexts)(contexts[0], cut_words(contexts[0]))
    # In all of 3 lines; twice here in 1 line; once here in 2 lines.
    expected = [0.0, (1 + np.log(2)) * np.log(2), 0.0, np.log(4 / 3), 0.0]
    np.testing.assert_allclose(scores[:5], expected, rtol=1e-6)


def test_lines_are_the_documents_so_that_one_context_is_enough():
    frequencies = count_lines(["The cat\n\nThe dog\nthe DOG dog", "", "\n"])
    assert frequencies.num_lines == 3
    assert frequencies.by_form == {"the": 3, "cat": 1, "dog": 2}
    assert frequencies.idf("the") == 0.0
    assert frequencies.idf("bird") == pytest.approx(np.log(4))


def test_a_word_without_a_chance_leaves_the_budget_unused(reader):
    def score(text, words):
        return np.where(np.arange(len(words)) == 1, 1.0, -np.inf).astype(np.float32)

    method = WordMethod("second", reader, fit_nothing(score))
    assert method.compress(["a b c", "a"], [2, 1]) == ["b", "a"]


@given(st.integers(1, 60), st.integers(-1, 60))
def test_bisection_finds_the_largest_setting_that_fits(num_settings, most):
    tried = []

    def make(setting):
        tried.append(setting)
        return setting

    best = make_largest(make, lambda setting: setting <= most, num_settings)
    assert best == min(max(most, 0), num_settings - 1)
    assert len(tried) <= 8


# Selective-Context


@pytest.fixture(scope="module")
def causal():
    return make_model("sdpa"), TextTokenizer(make_tokenizer().backend_tokenizer.to_str())


def surprisal_of(model, ids):
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[0, *ids]])).logits[0, :-1]
    return functional.cross_entropy(logits, torch.tensor(ids), reduction="none").numpy()


def test_a_word_scores_the_mean_self_information_of_its_tokens(causal):
    model, tokenizer = causal
    text = "cat sat"
    (tokens,) = tokenizer.tokenize([text])
    values = surprisal_of(model, tokens.ids.tolist())
    scores = SurprisalScorer(model, tokenizer, first_id=0)(text, cut_words(text))
    # Every character is a token; the space belongs to the word behind it.
    np.testing.assert_allclose(scores, [values[:3].mean(), values[3:].mean()], atol=1 / 2048)


def test_a_long_text_is_read_in_windows_of_which_the_second_half_is_scored(causal):
    model, tokenizer = causal
    text = "!?;:#" * 4  # every character is a token and a word
    ids = tokenizer.tokenize([text])[0].ids.tolist()
    words = cut_words(text)
    assert len(words) == len(ids) == 20
    scores = SurprisalScorer(model, tokenizer, first_id=0, window_tokens=9)(text, words)
    expected = [surprisal_of(model, ids[:8])]
    expected += [surprisal_of(model, ids[start : start + 8])[4:] for start in (4, 8, 12)]
    np.testing.assert_allclose(scores, np.concatenate(expected), atol=1 / 2048)


@given(st.integers(0, 200), st.integers(1, 50))
def test_every_token_is_one_windows_own(num_tokens, window_tokens):
    at = 0
    for start, own_start, end in plan_halves(num_tokens, window_tokens):
        assert own_start == at
        assert 0 <= start <= own_start < end
        assert end - start <= window_tokens
        assert own_start == 0 or own_start - start >= window_tokens // 2
        at = end
    assert at == num_tokens


def test_a_text_is_read_by_the_causal_model_once(causal, reader):
    model, tokenizer = causal
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    scorer = SurprisalScorer(model, tokenizer, first_id=0)
    method = WordMethod("surprisal", reader, fit_nothing(scorer))
    outputs = [method.compress(CONTEXTS, [budget] * 3) for budget in (5, 10, 20)]
    handle.remove()
    assert len(calls) == 3
    assert outputs[0] != outputs[1] != outputs[2]


def test_selective_context_is_loaded_from_a_directory(load, reader, teacher_directory, tmp_path):
    method = load(kind="selective-context", path=str(teacher_directory), window_tokens=32)
    assert method.name == "selective-context"
    compressed = method.compress(CONTEXTS, [20, 30, 1000])
    assert 10 < reader.count(compressed[0]) <= 20
    assert 20 < reader.count(compressed[1]) <= 30
    assert compressed[2] == CONTEXTS[2]
    with pytest.raises(ModelError, match="of selective-context cannot be loaded"):
        load(kind="selective-context", path=str(tmp_path))


# LLMLingua-2


class FakePackage:
    """`PromptCompressor` of llmlingua, as far as it is called: keeps a share of the words."""

    def __init__(self, path="", **options):
        self.path, self.options = path, options
        self.num_passes = 0
        self.rates = []
        self.calls = []

        def model(*, input_ids, attention_mask):
            self.num_passes += 1
            return SimpleNamespace(logits=input_ids)

        self.model = model

    def compress_prompt_llmlingua2(self, context, *, rate, **options):
        (text,) = context
        if "fails" in text:
            raise IndexError("list index out of range")
        ids = torch.tensor([[ord(character) for character in text]])
        self.model(input_ids=ids, attention_mask=torch.ones_like(ids))
        self.rates.append(rate)
        self.calls.append(options)
        words = text.split()
        return {"compressed_prompt": " ".join(words[: int(len(words) * rate)])}


def test_llmlingua2s_rate_meets_the_budget_and_its_model_runs_once(reader):
    package = FakePackage()
    method = LLMLingua2Method("peer", package, reader, {"force_tokens": ["."]})
    context = " ".join(f"w{index}" for index in range(100))
    for budget in (50, 150):
        (text,) = method.compress([context], [budget])
        words = context.split()
        assert reader.count(text) <= budget
        assert reader.count(" ".join(words[: len(text.split()) + 1])) > budget
    assert package.num_passes == 1
    assert all(options == {"force_tokens": ["."]} for options in package.calls)
    assert {round(rate * NUM_RATES % 1, 6) for rate in package.rates} == {0.5}


def test_llmlingua2_leaves_a_context_within_its_budget(reader):
    package = FakePackage()
    method = LLMLingua2Method("peer", package, reader, {})
    assert method.compress(["", "a b"], [0, 100]) == ["", "a b"]
    assert package.rates == []


def test_a_failure_of_the_package_names_the_context(reader):
    method = LLMLingua2Method("peer", FakePackage(), reader, {})
    with pytest.raises(DataError, match=r"fails at rate .* on the context 'this fails': IndexErr"):
        method.compress(["this fails"], [1])


def test_llmlingua2_is_loaded_by_its_package(load, monkeypatch):
    packages = []

    def make(*args, **options):
        packages.append(FakePackage(*args, **options))
        return packages[0]

    monkeypatch.setitem(sys.modules, "llmlingua", SimpleNamespace(PromptCompressor=make))
    method = load(kind="llmlingua-2", path="some/xlm-roberta-large-meetingbank")
    (package,) = packages
    assert package.path == "some/xlm-roberta-large-meetingbank"
    assert package.options == {
        "device_map": "cpu",
        "model_config": {"trust_remote_code": False, "use_safetensors": True},
        "use_llmlingua2": True,
    }
    method.compress(["a b c d"], [2])
    assert package.calls[0] == {
        "force_tokens": ["\n", "?", "!", "."],
        "force_reserve_digit": False,
        "drop_consecutive": True,
    }


def test_llmlingua2_without_its_package_or_a_path_it_knows_is_refused(load, monkeypatch):
    monkeypatch.setitem(sys.modules, "llmlingua", None)
    with pytest.raises(ConfigError, match=r"pip install llmlingua==0\.2\.2"):
        load(kind="llmlingua-2", path="x/bert-base-multilingual-cased")
    with pytest.raises(
        ConfigError, match=r"'x/mine' holds neither bert-base.*rename the directory"
    ):
        load(kind="llmlingua-2", path="x/mine")


def test_a_package_that_cannot_load_says_why(load, monkeypatch):
    def refuse(*args, **options):
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "llmlingua", SimpleNamespace(PromptCompressor=refuse))
    with pytest.raises(ModelError, match=r"OSError: no network; .*TIKTOKEN_CACHE_DIR"):
        load(kind="llmlingua-2", path="x/bert-base-multilingual-cased")


# moos


def test_moos_compresses_as_the_compressor_does(tiny_compressor, make_checkpoint, reader):
    path = str(make_checkpoint("modernbert") / "tokenizer.json")
    budgets = [20, 31, 12]
    expected = [
        tiny_compressor.compress(CONTEXTS, target_tokens=budget, budget_tokenizer=path)[index].text
        for index, budget in enumerate(budgets)
    ]
    assert MoosMethod("moos", tiny_compressor, reader).compress(CONTEXTS, budgets) == expected


def test_moos_keeps_protected_words_over_the_budget(plain_compressor, reader):
    protected = MoosMethod("moos", plain_compressor, reader, protect=["numbers", "negations"])
    assert protected.compress(CONTEXTS[:1], [0]) == ["no 3.5"]
    assert MoosMethod("moos", plain_compressor, reader, protect=[]).compress(CONTEXTS, [0] * 3) == [
        "",
        "",
        "",
    ]


@pytest.mark.parametrize("budget_per", ["context", "corpus"])
def test_moos_scores_a_context_once(chosen_compressor, reader, budget_per):
    compressor = chosen_compressor({})
    method = MoosMethod("moos", compressor, reader, budget_per=budget_per)
    for budget in (5, 10, 20):
        method.compress(CONTEXTS[:2], [budget] * 2)
    assert len(compressor.engine.inputs) == 2
    method.compress(CONTEXTS, [5, 5, 5])
    assert len(compressor.engine.inputs) == 3


def test_one_threshold_gives_dense_contexts_more_within_the_sum_of_budgets(
    chosen_compressor, reader
):
    compressor = chosen_compressor({"a": 0.9, "b": 0.1})
    method = MoosMethod("moos", compressor, reader, protect=[], budget_per="corpus")
    contexts = [" ".join("a" * 40), " ".join("b" * 40)]
    budgets = [reader.count(contexts[0]) // 2] * 2
    dense, padded = method.compress(contexts, budgets)
    assert (dense, padded) == (contexts[0], "")
    third = [budget // 3 for budget in budgets]
    dense, padded = method.compress(contexts, third)
    assert padded == ""
    assert sum(third) - 2 <= reader.count(dense) <= sum(third)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_a_corpus_meets_the_sum_of_its_budgets(plain_compressor, reader, share):
    contexts = [f"{context} {index}" for index, context in enumerate(CONTEXTS * 3)]
    counts = [reader.count(context) for context in contexts]
    budgets = [int(share * count) for count in counts]
    method = MoosMethod("moos", plain_compressor, reader, protect=[], budget_per="corpus")
    compressed = method.compress(contexts, budgets)
    kept = sum(map(reader.count, compressed))
    # The longest word of a tie at the threshold may be left out, in each context.
    assert sum(budgets) - 10 * len(contexts) <= kept <= sum(budgets)
    assert (compressed == contexts) == (share == 1.0)


def test_one_threshold_needs_comparable_scores(load, tiny_checkpoint):
    with pytest.raises(
        ConfigError, match=r"'moos \S+ corpus rate' with budget_per=corpus: .*alpha"
    ):
        load(kind="moos", checkpoint=str(tiny_checkpoint), budget_per="corpus")


def test_moos_is_loaded_with_its_scoring(load, tiny_checkpoint, plain_compressor, reader):
    method = load(kind="moos", checkpoint=str(tiny_checkpoint), scoring={"alpha": 1})
    expected = MoosMethod("moos", plain_compressor, reader).compress(CONTEXTS, [20] * 3)
    assert method.compress(CONTEXTS, [20] * 3) == expected


def test_a_context_that_is_no_unicode_is_an_error(load, plain_compressor, reader):
    for method in (load(kind="lead"), MoosMethod("moos", plain_compressor, reader)):
        with pytest.raises(DataError, match="lone surrogate"):
            method.compress(["a", "b \ud800"], [1, 1])


# Configs


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (PlainMethodConfig(kind="stop-words"), "stop-words"),
        (PlainMethodConfig(kind="full", name="all of it"), "all of it"),
        (RandomMethodConfig(kind="random"), "random"),
        (RandomMethodConfig(kind="random", seed=2), "random seed=2"),
        (SelectiveContextConfig(kind="selective-context", path="gpt2"), "selective-context"),
        (LLMLingua2Config(kind="llmlingua-2", path="x"), "llmlingua-2"),
        (MoosMethodConfig(kind="moos"), "moos"),
        (MoosMethodConfig(kind="moos", scoring=ScoringConfig(alpha=1)), "moos alpha=1"),
        (MoosMethodConfig(kind="moos", protect=()), "moos protect=none"),
        (
            MoosMethodConfig(
                kind="moos",
                checkpoint="out/beta-0/",
                scoring=ScoringConfig(alpha=0.85),
                budget_per="corpus",
                protect=("numbers", "urls"),
            ),
            "moos beta-0 alpha=0.85 corpus rate protect=numbers+urls",
        ),
    ],
)
def test_a_method_is_called_by_what_it_sets(config, name):
    assert config.display_name == name


def test_a_config_names_its_method_by_kind():
    assert load_config(MethodHolder, None, ["method.kind=none"]).method.kind == "none"
    with pytest.raises(ConfigError, match=r"method\.kind: .*one of full, none, lead"):
        load_config(MethodHolder, None, ["method={}"])
    with pytest.raises(ConfigError, match=r"did you mean 'checkpoint'"):
        load_config(MethodHolder, None, ["method={kind: moos, chekpoint: x}"])


def test_baselines_are_loaded_without_torch():
    script = (
        "import sys, moos.evaluation.method_config, moos.evaluation.methods; "
        "print(*sorted({'ray', 'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == ""
