"""An evaluation from config to figures: what is asked once, what goes on, what is counted."""

import json
import math

import pytest

from moos.config import load_config
from moos.errors import ConfigError, MoosError
from moos.evaluation.example import ReaderAnswer
from moos.storage import Storage
from moos.tokens import TextTokenizer
from pipelines import evaluate, evaluate_methods
from pipelines.evaluate import run_evaluate
from pipelines.evaluate_compress import DIRECTORY
from pipelines.evaluate_config import EvaluateConfig
from pipelines.evaluate_contexts import BudgetTokenizer, cut_middle
from pipelines.evaluate_methods import WARM_UP, FreshMethod
from pipelines.evaluate_plan import describe_evaluate, prepare_evaluate
from pipelines.evaluate_progress import EvaluateProgress
from pipelines.evaluate_scores import (
    ScoreSettings,
    combine_estimates,
    measure_cells,
    measure_groups,
)
from pipelines.evaluate_speed import measure_speed, pays_from

CONTEXTS = (
    "Rome has seven hills, and the river runs between them. Paris has but one of that kind.",
    "Lina sold 14 boats in the spring. In autumn, when no one buys, she mends old nets.",
)
WORDS = (("seven", "one"), ("boats", "nets"))
"""A word of each context's first half, and one of its second."""

FILES = ("results.jsonl", "contexts.jsonl", "figures.json", "report.md")


class WordReader:
    """Answers with the last word of the question if the context still has it."""

    name = "words"

    def __init__(self, *, interrupted_after=None):
        self.asked = []
        self.num_warmed = 0
        self.interrupted_after = interrupted_after

    def count(self, text):
        return len(text)

    def answer(self, prompts, on_answer=None):
        answers = []
        for index, prompt in enumerate(prompts):
            if len(self.asked) == self.interrupted_after:
                raise KeyboardInterrupt
            word = prompt.own.split()[-1] if prompt.own else "Hello"
            text = word if word in prompt.shared.split("Text: ")[-1] else "gone"
            size = len(prompt.shared + prompt.own)
            answers.append(ReaderAnswer(text, size, 1, size / 100))
            if on_answer is None:  # nobody waits for what warms it up
                self.num_warmed += 1
            else:
                self.asked.append(prompt.shared + prompt.own)
                on_answer(index, answers[-1])
        return answers


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "notes.jsonl"
    records = [
        {"context": context, "question": f"Is there a word {word}", "answers": word}
        for context, words in zip(CONTEXTS, WORDS, strict=True)
        for word in words
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def make_config(notes, tmp_path, teacher_directory):
    """`make_config("rates=[0.4]")`: two contexts with two questions each, at rate 0.5."""

    def make(*overrides):
        given = [
            f"output.path={tmp_path / 'out'}",
            f"tasks=[{{name: custom, path: {notes}}}]",
            "reader.kind=local",
            f"reader.path={teacher_directory}",
            "methods=[{kind: full}, {kind: none}, {kind: lead}, {kind: random}]",
            "rates=[0.5]",
            "device=cpu",
        ]
        return load_config(EvaluateConfig, None, [*given, *overrides])

    return make


@pytest.fixture
def run_with(monkeypatch):
    """`run_with(reader, config)`: run with this reader in place of the one that is configured."""

    def run(reader, config):
        with monkeypatch.context() as patch:
            patch.setattr(evaluate, "load_reader", lambda config, *, device: reader)
            return run_evaluate(config, command="moos evaluate test")

    return run


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_figures(config):
    return json.loads(Storage(config.output.path).get("figures.json"))


def read_all(config):
    return [Storage(config.output.path).get(name) for name in FILES]


@pytest.mark.slow
def test_a_run_with_a_real_reader_and_every_cheap_method_writes_everything(make_config, tmp_path):
    kinds = ("full", "none", "lead", "random", "stop-words", "tf-idf", "moos")
    methods = ", ".join(f"{{kind: {kind}}}" for kind in kinds)
    config = make_config(f"methods=[{methods}]", "rates=[0.5, 0.4]", "price_per_million_tokens=2")
    summary = run_evaluate(config)
    assert (summary["answers"], len(summary["cells"])) == (4 * 12, 12)
    rows = read_lines(tmp_path / "out/results.jsonl")
    assert [row["rate"] for row in rows[::4]] == [None, None, *[0.5, 0.4] * 5]
    contexts = read_lines(tmp_path / "out/contexts.jsonl")
    assert [row["text"] for row in contexts[:4]] == [*CONTEXTS, "", ""]
    unprotected = [row for row in contexts if row["rate"] is not None and row["method"] != "moos"]
    assert all(row["num_tokens"] <= row["rate"] * row["num_full_tokens"] for row in unprotected)
    figures = read_figures(config)
    assert [cell["method"] for cell in figures["cells"]][::2] == ["full", *kinds[2:]]
    assert figures["run"]["reader"].startswith("teacher")
    assert (tmp_path / "out/report.html").exists()
    before = read_all(config)
    # Seconds are measured, so other answers or compressions would have other ones.
    run_evaluate(config)
    assert read_all(config) == before


def test_answers_and_figures_are_what_one_counts_by_hand(make_config, run_with, tmp_path):
    config = make_config("baseline=none", "price_per_million_tokens=50")
    run_with(WordReader(), config)
    rows = read_lines(tmp_path / "out/results.jsonl")
    by_method = {
        name: [row for row in rows if row["method"] == name] for name in ("full", "none", "lead")
    }
    assert [row["score"] for row in by_method["full"]] == [1, 1, 1, 1]
    assert [row["score"] for row in by_method["none"]] == [0, 0, 0, 0]
    assert [row["score"] for row in by_method["lead"]] == [1, 0, 1, 0]
    assert by_method["lead"][1]["answer"] == "gone"
    cells = {cell["method"]: cell for cell in read_figures(config)["cells"]}
    lead, full = cells["lead"], cells["full"]
    assert (lead["score"]["value"], lead["share_of_full"]["value"]) == (0.5, 0.5)
    # Each context has a question answered and one not: every resample has the same mean.
    assert (lead["difference"]["low"], lead["difference"]["high"]) == (0.5, 0.5)
    assert (lead["score"]["num_examples"], lead["score"]["num_groups"]) == (4, 2)
    assert (cells["none"]["difference"], cells["none"]["achieved_rate"]) == (None, 0)
    assert (full["speed_up"], full["achieved_rate"]) == (1, 1)
    sizes = [row["num_prompt_tokens"] for row in by_method["lead"]]
    assert lead["num_prompt_tokens"] == sum(sizes)
    assert lead["read_seconds"] == pytest.approx(sum(sizes) / 100)
    assert lead["cost_per_1000"] == pytest.approx(50 * sum(sizes) / 4 / 1000)
    compress_s = by_method["lead"][0]["compress_seconds"] + by_method["lead"][2]["compress_seconds"]
    assert lead["compress_seconds"] == pytest.approx(compress_s)
    seconds = lead["compress_seconds"] + lead["read_seconds"]
    assert lead["speed_up"] == pytest.approx(full["read_seconds"] / seconds)


def test_a_finished_run_asks_nothing_and_compresses_nothing_again(
    make_config, run_with, monkeypatch
):
    config = make_config()
    first, again = WordReader(), WordReader()
    run_with(first, config)
    assert (len(first.asked), first.num_warmed) == (16, 1)
    before = read_all(config)

    def refuse(*args, **settings):
        raise AssertionError("no method is needed")

    monkeypatch.setattr(evaluate_methods, "load_method", refuse)
    run_with(again, config)
    assert (again.asked, again.num_warmed) == ([], 0)
    assert read_all(config) == before


def test_a_run_that_is_interrupted_goes_on_where_it_stopped(make_config, run_with, tmp_path):
    config = make_config("price_per_million_tokens=50")
    first, second = WordReader(interrupted_after=6), WordReader()
    with pytest.raises(KeyboardInterrupt):
        run_with(first, config)
    assert not (tmp_path / "out/results.jsonl").exists()
    plan = describe_evaluate(prepare_evaluate(config))
    assert (plan["answers"], plan["answers_cached"], plan["compressions_to_do"]) == (16, 6, 0)
    run_with(second, config)
    assert len(first.asked) == 6
    assert len(second.asked) == 10
    assert set(first.asked).isdisjoint(second.asked)
    assert len(read_lines(tmp_path / "out/results.jsonl")) == 16


def test_another_method_or_rate_asks_only_what_is_new(make_config, run_with):
    run_with(WordReader(), make_config())
    reader = WordReader()
    # A name of its own changes nothing that is asked.
    methods = "methods=[{kind: full, name: whole}, {kind: lead}]"
    run_with(reader, make_config(methods, "rates=[0.5, 0.3]"))
    assert len(reader.asked) == 4


def test_compression_that_is_interrupted_keeps_the_groups_that_are_whole(
    make_config, run_with, monkeypatch, tmp_path
):
    monkeypatch.setattr("pipelines.evaluate_compress.GROUP_TOKENS", 1)
    load, compressed = evaluate_methods.load_method, []

    class Failing:
        def __init__(self, method, fails):
            self.method, self.fails = method, fails

        def compress(self, contexts, budgets):
            if contexts != [WARM_UP]:
                if self.fails and compressed:
                    raise MoosError("out of order")
                compressed.extend(contexts)
            return self.method.compress(contexts, budgets)

    def load_failing(config, tokenizer, *, device):
        return Failing(load(config, tokenizer, device=device), fails)

    monkeypatch.setattr(evaluate_methods, "load_method", load_failing)
    config, fails = make_config("methods=[{kind: lead}]"), True
    with pytest.raises(MoosError, match="out of order"):
        run_with(WordReader(), config)
    assert describe_evaluate(prepare_evaluate(config))["compressions_to_do"] == 2
    fails = False
    run_with(WordReader(), config)
    assert compressed == list(CONTEXTS)


def test_a_damaged_compression_is_made_again(make_config, run_with, tmp_path):
    config = make_config("methods=[{kind: lead}]")
    run_with(WordReader(), config)
    before = read_lines(tmp_path / "out/contexts.jsonl")
    (part,) = (tmp_path / "out" / DIRECTORY).iterdir()
    part.write_bytes(part.read_bytes()[:-20])
    run_with(WordReader(), config)
    after = read_lines(tmp_path / "out/contexts.jsonl")
    assert [row["text"] for row in after] == [row["text"] for row in before]


def test_a_method_is_loaded_anew_before_it_meets_a_context_again(monkeypatch, make_config):
    loaded = []

    class Method:
        def compress(self, contexts, budgets):
            return list(contexts)

    def load(config, tokenizer, *, device):
        loaded.append(Method())
        return loaded[-1]

    monkeypatch.setattr(evaluate_methods, "load_method", load)
    tokenizer = BudgetTokenizer("", None, "")
    fresh = FreshMethod(make_config().methods[2], tokenizer, None)
    first = fresh.take(["a", "b"])
    assert fresh.take(["c"]) is first
    assert fresh.take(["b", "d"]) is not first
    assert len(loaded) == 2


def test_long_contexts_lose_their_middle_for_every_method(make_config, run_with, notes, tmp_path):
    config = make_config(f"tasks=[{{name: custom, path: {notes}, max_context_tokens: 21}}]")
    run_with(WordReader(), config)
    rows = read_lines(tmp_path / "out/contexts.jsonl")
    assert [row["text"] for row in rows[:2]] == [text[:10] + text[-10:] for text in CONTEXTS]
    assert {row["num_full_tokens"] for row in rows} == {20}
    (task,) = read_figures(config)["run"]["tasks"]
    assert (task["num_cut"], task["max_context_tokens"]) == (2, 20)


def test_a_cut_is_made_of_slices_and_halves_as_longbench_does_it(tiny_checkpoint):
    tokenizer = TextTokenizer.from_file(tiny_checkpoint / "tokenizer.json")
    text = "The committee met.  Prices rose, and no action was needed before the report."
    (tokens,) = tokenizer.tokenize([text])
    cut = cut_middle(text, tokens, 5)
    assert cut == "The committee" + "report."
    assert cut_middle(text, tokens, len(tokens)) == text


def test_what_needs_no_reader_is_measured_without_one(
    make_config, notes, tmp_path, tiny_checkpoint, labelled_jsonl
):
    sentences = tmp_path / "deletions.jsonl"
    record = {"text": "The old committee met on Tuesday.", "summaries": ["committee met Tuesday."]}
    sentences.write_text(json.dumps(record) + "\n")
    config = make_config(
        "tasks=[]",
        f"retention={{path: {notes}, text_column: context}}",
        f"deletions.path={sentences}",
        f"smoothing={{checkpoints: {{shipped: default}}, labels: {labelled_jsonl}}}",
        f"methods=[{{kind: full}}, {{kind: lead}}, {{kind: moos, checkpoint: {tiny_checkpoint}}},"
        f" {{kind: moos, checkpoint: {tiny_checkpoint}, protect: []}}]",
    )
    assert run_evaluate(config)["answers"] == 0
    figures = read_figures(config)
    assert (figures["cells"], figures["speed"], figures["run"]["reader"]) == ([], [], None)
    full, lead, moos, _ = figures["retention"]
    assert full["kinds"]["numbers"] == {"num_facts": 1, "num_kept": 1, "share": 1.0}
    assert (full["kinds"]["urls"]["share"], moos["kinds"]["numbers"]["share"]) == (None, 1.0)
    assert (lead["num_documents"], lead["kinds"]["negations"]["num_kept"]) == (2, 0)
    # Protection changes no score, so it is no other ranking.
    assert [figure["method"] for figure in figures["deletions"]] == ["lead", "moos bert0"]
    assert figures["deletions"][0]["num_tokens"] == 6
    (smoothing,) = figures["smoothing"]
    assert (smoothing["name"], len(smoothing["layers"])) == ("shipped", 7)
    assert len(smoothing["cosine"]) == len(smoothing["tokens"]) > 1
    assert describe_evaluate(prepare_evaluate(config))["answers"] == 0


def test_an_output_of_something_else_is_left_alone(make_config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds 'precious\.txt', which is not of an evaluation"):
        run_evaluate(make_config())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious.txt"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["baseline=best"], "baseline: 'best' is none of the methods 'full', 'none', 'lead'"),
        (["reader=null"], "tasks: 'custom' needs a reader; set reader.kind"),
        (["tasks=[]"], "nothing to do: set tasks, retention"),
        (["tasks=[]", "deletions.path=x"], "reader: it has no effect without tasks"),
        (["tasks=[]", "reader=null", "retention.path=x"], "set budget_tokenizer"),
        (["methods=[]"], "methods: there is none"),
        (["methods=[{kind: lead}, {kind: lead}]"], "methods: 'lead' stands there twice"),
        (["tasks=[{name: a}, {name: a}]"], "tasks: 'a' stands there twice"),
        (["rates=[0.5, 0.5]"], "rates: a rate stands there twice"),
        (["rates=[0]"], "rates.0: "),
        (["rates=[]"], "rates: "),
        (["tasks=[{name: a, limit: 0}]"], "tasks.0.limit: "),
        (["methods=[{kind: leed}]"], "methods.0: "),
        (["price_per_million_tokens=0"], "price_per_million_tokens: "),
        (["smoothing={checkpoints: {}, labels: x}"], "smoothing.checkpoints: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_go_together_is_refused_with_its_key(make_config, overrides, told):
    with pytest.raises(ConfigError) as caught:
        make_config(*overrides)
    assert told in str(caught.value)


def row(task, example, method, rate, score, **figures):
    given = {"context": example, "num_context_tokens": 100, "num_compressed_tokens": 50}
    seconds = {"num_prompt_tokens": 60, "compress_seconds": 1.0, "read_seconds": 2.0}
    return {
        "task": task,
        "group": "QA",
        "example": example,
        "method": method,
        "rate": rate,
        "score": score,
        **given,
        **seconds,
        **figures,
    }


def test_groups_are_means_over_tasks_and_sums_of_seconds():
    rows = [
        row("a", "1", "full", None, 1.0, compress_seconds=0, read_seconds=9.0),
        row("a", "1", "x", 0.5, 0.5),
        row("b", "2", "full", None, 0.0, compress_seconds=0, read_seconds=3.0),
        row("b", "2", "x", 0.5, 0.25),
    ]
    settings = ScoreSettings(full="full", baseline="full", price=None, seed=0)
    cells = measure_cells(rows, settings)
    assert [cell["share_of_full"] is None for cell in cells] == [False, False, True, True]
    full, group = measure_groups(cells, {"a": "QA", "b": "QA"}, "full")
    assert (full["score"]["value"], full["num_tasks"]) == (0.5, 2)
    assert (group["score"]["value"], group["difference"]["value"]) == (0.375, -0.125)
    # Task b's full context scores nothing: it has no share.
    assert group["share_of_full"]["value"] == 0.5
    assert (group["speed_up"], group["achieved_rate"]) == (12 / 6, 0.5)
    assert group["cost_per_1000"] is None


def test_intervals_of_independent_tasks_are_combined_by_their_squares():
    first = {"value": 0.5, "low": 0.2, "high": 0.9, "num_examples": 3, "num_groups": 3}
    second = {"value": 0.7, "low": 0.3, "high": 1.0, "num_examples": 2, "num_groups": 1}
    combined = combine_estimates([first, second])
    assert combined["value"] == pytest.approx(0.6)
    assert combined["low"] == pytest.approx(0.6 - math.hypot(0.3, 0.4) / 2)
    assert combined["high"] == pytest.approx(0.6 + math.hypot(0.4, 0.3) / 2)
    assert (combined["num_examples"], combined["num_groups"]) == (5, 4)
    assert combine_estimates([]) is None


def test_compression_pays_from_the_bucket_on_from_which_all_are_faster():
    rows = []
    for length in (10, 20, 30, 40, 50):
        whole = {"num_context_tokens": length, "read_seconds": length / 10}
        rows.append(row("a", str(length), "full", None, 1.0, **whole))
        short = {"num_context_tokens": length, "read_seconds": length / 20, "compress_seconds": 1.2}
        # The second question on a context shares its compression.
        rows += [row("a", str(length), "x", 0.5, 1.0, **short)]
    (speed,) = measure_speed(rows, "full")
    assert [bucket["num_examples"] for bucket in speed["buckets"]] == [1] * 5
    assert [bucket["speed_up"] > 1 for bucket in speed["buckets"]] == [False, False] + [True] * 3
    assert speed["pays_from"] == 30
    assert pays_from(speed["buckets"][:2]) is None
    assert measure_speed(rows, None) == []


def test_equal_lengths_are_one_bucket():
    rows = [row("a", str(number), "full", None, 1.0) for number in range(9)]
    rows += [row("a", str(number), "x", 0.5, 1.0) for number in range(9)]
    (speed,) = measure_speed(rows, "full")
    assert [bucket["num_examples"] for bucket in speed["buckets"]] == [9]


def test_progress_tells_speed_and_time_left_of_what_is_new():
    now = [0.0]
    progress = EvaluateProgress("answers", 10, 100, clock=lambda: now[0])
    progress.add(num_done=5, tokens=500, work=50, is_new=False)
    assert progress.describe() == "answers: 5 of 10"
    now[0] = 2.0
    progress.add(num_done=1, tokens=40, work=10)
    assert progress.describe() == "answers: 6 of 10, 40 tokens, 20 tokens/s, 8 s left"
