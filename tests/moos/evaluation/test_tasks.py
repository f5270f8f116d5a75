import gzip
import itertools
import json
import sys
import types

import pytest

from moos.errors import ConfigError, DataError
from moos.evaluation.example import Example
from moos.evaluation.tasks import TASK_NAMES, load_task
from moos.evaluation.tasks.bbh import CHOICE_TASKS, TEXT_TASKS
from moos.evaluation.tasks.longbench import GROUPS, MAX_NEW_TOKENS, split_prompt
from moos.evaluation.tasks.longbench_prompts import PROMPTS
from moos.evaluation.tasks.subset import choose_examples

SQUAD_QUESTION = {"id": "q1", "question": "Who {won}?", "answers": ["Denver", "Broncos"]}


def write(path, value):
    """JSONL of a list, JSON of anything else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(map(json.dumps, value)) if isinstance(value, list) else json.dumps(value)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def examples_of(*counts):
    """Examples of contexts that have so many questions."""
    return [
        Example(f"{context}/{number}", f"context {context}", "", "", "", ("a",))
        for context, count in enumerate(counts)
        for number in range(count)
    ]


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for `datasets`: rows by the name and subset, or by the data files."""
    rows = {}

    def load_dataset(name, config, *, split, data_files):
        return rows[data_files or (name, config), split]

    module = types.SimpleNamespace(load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return rows


def test_every_benchmark_of_the_paper_has_a_task():
    assert len(GROUPS) == 16
    assert len(CHOICE_TASKS) + len(TEXT_TASKS) == 27
    assert {"gsm8k", "bbh/navigate", "longbench/repobench-p", "squad", "hotpotqa"} < set(TASK_NAMES)


@pytest.mark.parametrize(
    "record",
    [
        {"context": "Text.", "qas": [SQUAD_QUESTION]},
        {"context": "Text.", **SQUAD_QUESTION},
        {"context": "Text.", **SQUAD_QUESTION, "answers": {"text": ["Denver", "Broncos"]}},
        {
            "data": [
                {
                    "paragraphs": [
                        {
                            "context": "Text.",
                            "qas": [
                                {
                                    **SQUAD_QUESTION,
                                    "answers": [{"text": "Denver"}, {"text": "Broncos"}],
                                }
                            ],
                        }
                    ]
                }
            ]
        },
    ],
)
def test_squad_is_read_from_each_layout_and_from_the_hub(tmp_path, hub, record):
    path = write(tmp_path / "squad.jsonl.gz", [record])
    hub[("google/xquad", "xquad.en"), "validation"] = [record]
    for task in (load_task("xquad-en", path), load_task("xquad-en")):
        assert task.examples == (
            Example(
                id="q1",
                context="Text.",
                before="Answer the question with a short phrase taken from the text. The text may "
                "have been shortened by leaving out words.\n\nText: ",
                after="\n\nQuestion: Who {won}?",
                question="Who {won}?",
                answers=("Denver", "Broncos"),
            ),
        )
        assert (task.metric, task.chat, task.stop) == ("F1", True, ("\n",))
        assert task.score("the Broncos", task.examples[0]) == 1.0


@pytest.mark.parametrize(
    "context",
    [
        [["First", ["One.", " Two."]], ["Second", []]],
        {"title": ["First", "Second"], "sentences": [["One.", " Two."], []]},
    ],
)
def test_hotpotqa_is_read_as_passages_from_both_layouts(tmp_path, context):
    record = {"_id": "h", "question": "Is it?", "answer": "yes", "context": context}
    task = load_task("hotpotqa", write(tmp_path / "hotpot.jsonl", [record]))
    (example,) = task.examples
    assert example.context == "Passage 1:\nFirst\nOne. Two.\n\nPassage 2:\nSecond\n"
    assert task.score("Yes.", example) == 1.0
    assert task.score("yes it is", example) == 0.0


def test_longbench_has_its_official_prompts_lengths_and_chat_rule(tmp_path, hub):
    record = {
        "input": "Where?",
        "context": "Here.",
        "answers": ["Paragraph 3"],
        "all_classes": None,
        "_id": "x",
    }
    path = write(tmp_path / "data" / "passage_retrieval_en.jsonl", [record])
    name = "longbench/passage_retrieval_en"
    files = "zip://data/passage_retrieval_en.jsonl::hf://datasets/THUDM/LongBench/data.zip"
    hub[files, "train"] = [record]
    whole = load_task(name, str(tmp_path / "data"), max_context_tokens=3500)
    assert whole.max_context_tokens == 3500
    for task in (whole, load_task(name, path), load_task(name)):
        (example,) = task.examples
        prompt = PROMPTS["passage_retrieval_en"].format(context="Here.", input="Where?")
        assert example.before + example.context + example.after == prompt
        assert (task.group, task.max_new_tokens, task.chat) == ("synthetic", 32, True)
        assert task.score("Paragraph 3 or 4", example) == 0.5


@pytest.mark.parametrize(
    ("task", "chat", "prediction", "answers", "score"),
    [
        ("trec", False, "city\nhuman", ["city"], 1.0),
        ("triviaqa", False, "\nParis\nQuestion", ["paris"], 1.0),
        ("lcc", False, "# note\nreturn x", ["return x"], 1.0),
        ("passage_count", True, "5 or 7", ["7"], 0.5),
        ("narrativeqa", True, "Paris\nFrance", ["France Paris"], 1.0),
    ],
)
def test_longbench_tasks_are_scored_as_by_its_eval(
    tmp_path, task, chat, prediction, answers, score
):
    record = {"input": "", "context": "c", "answers": answers, "all_classes": ["city", "human"]}
    loaded = load_task(f"longbench/{task}", write(tmp_path / "task.jsonl", [record]))
    assert loaded.chat == chat
    assert loaded.score(prediction, loaded.examples[0]) == score


def test_longbench_prompts_hold_the_context_once_and_the_input_after_it():
    assert PROMPTS.keys() == GROUPS.keys() == MAX_NEW_TOKENS.keys()
    for task, prompt in PROMPTS.items():
        before, after = split_prompt(task, "{context} {input}")
        assert prompt.count("{context}") == 1
        assert "{" not in before
        assert after.count("{context}") == prompt.count("{input}") <= 1


def test_gsm8k_compresses_its_demonstrations_with_llmlingua_prompt(tmp_path):
    question = {"question": "How many?", "answer": "1 + 1 = 2\n#### 1,002"}
    path = write(tmp_path / "test.jsonl", [question, question])
    (tmp_path / "prompt_hardest.txt").write_text("Question: One?\nThe answer is 1\n")
    task = load_task("gsm8k", path)
    first, second = task.examples
    assert first.context == second.context == "Question: One?\nThe answer is 1"
    assert first.before + first.context + first.after == (
        "Please reference the following examples to answer the math question. \n \n\n"
        "Question: One?\nThe answer is 1\n\nQuestion: How many?\nLet's think step by step."
    )
    assert (first.id, first.answers, task.chat, task.max_new_tokens) == ("0", ("1002",), False, 400)
    assert task.score("so it is\nThe answer is 1,002.", first) == 1.0


BBH_PROMPT = "Sort words.\n\nQ: b a\nA: Let's think step by step.\nSo the answer is a b."


@pytest.mark.parametrize("layout", ["one file", "official", "apart"])
def test_bbh_compresses_its_demonstrations_without_canary_and_instruction(tmp_path, layout):
    canary = f"BENCHMARK DATA. canary GUID 26b5\n-----\n{BBH_PROMPT}"
    body = {"examples": [{"input": "d c", "target": "c d"}]}
    settings = {}
    if layout == "one file":
        write(tmp_path / "word_sorting.json.gz", {**body, "cot_prompt": canary})
    else:
        write(tmp_path / "bbh" / "word_sorting.json", {"canary": "canary GUID", **body})
        (tmp_path / "cot-prompts").mkdir()
        (tmp_path / "cot-prompts" / "word_sorting.txt").write_text(canary)
    if layout == "apart":
        settings = {"demonstrations": str(tmp_path / "cot-prompts")}
        tmp_path = tmp_path / "bbh"
    task = load_task("bbh/word_sorting", str(tmp_path), **settings)
    (example,) = task.examples
    assert example.before == "Sort words.\n\n"
    assert example.context.startswith("Q: b a\n")
    assert example.before + example.context == BBH_PROMPT
    assert example.after == "\n\nQ: d c\nA: Let's think step by step."
    assert task.score("We sort. So the answer is c d.", example) == 1.0


def test_bbh_reads_longer_answers_where_llmlingua_does_and_options_by_letter(tmp_path):
    body = {"cot_prompt": BBH_PROMPT, "examples": [{"input": "x", "target": "(B)"}]}
    task = load_task("bbh/geometric_shapes", write(tmp_path / "shapes.json", body))
    assert task.max_new_tokens == 800
    assert task.score("So the answer is (B) hexagon.", task.examples[0]) == 1.0


@pytest.mark.parametrize(
    "record",
    [
        {"id": "m", "text": "A: Hi.\nB: Ho.", "queries": [{"query": "Why?", "answer": "So."}]},
        {
            "id": "m",
            "meeting_transcripts": [
                {"speaker": "A", "content": "Hi."},
                {"speaker": "B", "content": "Ho."},
            ],
            "general_query_list": [],
            "specific_query_list": [{"query": "Why?", "answer": "So."}],
        },
    ],
)
def test_qmsum_has_longbench_prompt_in_both_layouts(tmp_path, record):
    pytest.importorskip("rouge")
    task = load_task("qmsum", write(tmp_path / "qmsum.jsonl", [record]))
    (example,) = task.examples
    prompt = PROMPTS["qmsum"].format(context="A: Hi.\nB: Ho.", input="Why?")
    assert example.before + example.context + example.after == prompt
    assert (example.id, example.answers) == ("m/0", ("So.",))
    assert task.score("So.", example) == pytest.approx(1.0)


def test_qmsum_of_the_hub_parts_query_and_transcript(hub):
    pytest.importorskip("rouge")
    rows = [{"input": f"{query}\n\nA: Hi.\nB: Ho.", "output": "So."} for query in ("Why?", "How?")]
    hub[("pszemraj/qmsum-cleaned", None), "validation"] = rows
    why, how = load_task("qmsum").examples
    assert why.context == how.context == "A: Hi.\nB: Ho."
    assert (why.question, how.question) == ("Why?", "How?")


def test_meetingbank_has_llmlingua_prompts_and_scores(tmp_path, hub):
    record = {
        "idx": 7,
        "prompt": "Item 5.",
        "QA_pairs": [{"question": "Which?", "answer": "Five"}, {"question": "Who?", "answer": "X"}],
        "gpt4_summary": "The council met.",
    }
    hub[("microsoft/MeetingBank-QA-Summary", None), "test"] = [record]
    answered = load_task("meetingbank-qa")
    first = answered.examples[0]
    assert [example.id for example in answered.examples] == ["7/0", "7/1"]
    assert first.before + first.context + first.after == (
        "Write a high-quality answer for the given question using the provided meeting transcript "
        "(which may be compressed).\nItem 5.\nQuestion:Which?\nAnswer:"
    )
    assert answered.score(" It was five.", first) == 1.0
    summarized = load_task("meetingbank-summary", write(tmp_path / "bank.json", {"7": record}))
    (example,) = summarized.examples
    assert example.before + example.context + example.after == (
        "Summarize the provided meeting transcript (which may be compressed).\nItem 5.\nSummary:"
    )
    assert summarized.score("The council met.\nMore.", example) == 1.0
    other = [{"id": 1, "transcript": "Item 6.", "summary": "They met."}]
    (example,) = load_task("meetingbank-summary", write(tmp_path / "b.jsonl", other)).examples
    assert (example.context, example.answers) == ("Item 6.", ("They met.",))


@pytest.mark.parametrize(
    ("metric", "answer", "score"),
    [
        (None, "the red car", 2 / 3),
        ("f1", "the red car", 2 / 3),
        ("exact", "the red car", 0.0),
        ("contains", "the red car", 1.0),
    ],
)
def test_custom_questions_are_scored_by_their_metric(tmp_path, metric, answer, score):
    record = {"context": "c", "question": "q", "answers": "red"}
    path = write(
        tmp_path / "own.jsonl", [record if metric is None else record | {"metric": metric}]
    )
    task = load_task("custom/mine", path)
    assert (task.name, task.examples[0].id) == ("custom/mine", "0")
    assert task.score(answer, task.examples[0]) == pytest.approx(score)


OWN = {"context": "c", "question": "q", "answers": ["a"]}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"question": "q", "answers": "a"}], r"record 1 has no 'context', only 'question', 'ans"),
        ([OWN, OWN | {"question": 3}], r"record 2 has 3 as 'question'; it must be a text"),
        ([OWN | {"answers": []}], r"has \[\] as 'answers'"),
        ([OWN | {"metric": "bleu"}], r"has 'bleu' as 'metric'; it must be one of f1, exact"),
        ([OWN, OWN | {"metric": "rouge"}], r"record 2 has the metric 'rouge', the first one 'f1'"),
        ([OWN | {"id": "x"}, OWN | {"id": "x"}], r"2 examples with the id 'x'"),
        (["text"], r"record 1 is 'text'; it must be an object"),
        ([], r"holds no record"),
    ],
)
def test_a_record_of_another_layout_is_named(tmp_path, records, message):
    with pytest.raises(DataError, match=message):
        load_task("custom", write(tmp_path / "own.jsonl", records))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"context": "c"}\n{"context": ', r"own.jsonl: line 2 is no JSON"),
        (b"\xff\xfe", r"own.jsonl is damaged or no UTF-8"),
        (b"{", r"the object is no JSON"),
    ],
)
def test_a_file_that_is_no_json_is_named(tmp_path, content, message):
    (tmp_path / "own.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_task("custom", str(tmp_path / "own.jsonl"))


def test_a_truncated_file_is_damaged(tmp_path):
    path = tmp_path / "own.jsonl.gz"
    write(path, [OWN] * 100)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"own.jsonl.gz is damaged"):
        load_task("custom", str(path))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("xqad", {}, "there is no task 'xqad', only xquad-en, "),
        ("custom", {}, "set its path to a JSONL file"),
        ("custom", {"path": "missing.jsonl"}, "missing.jsonl cannot be read"),
        ("custom", {"path": "nosuch://x"}, "nosuch://x cannot be read"),
        ("squad", {"demonstrations": "d"}, "demonstrations='d' has no effect on task 'squad'"),
        ("gsm8k", {}, "needs its demonstrations"),
        ("bbh/navigate", {"path": "missing"}, "missing is no file and has none of navigate.json"),
    ],
)
def test_a_setting_that_cannot_work_is_named(tmp_path, monkeypatch, name, settings, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_task(name, **settings)


@pytest.mark.parametrize(("package", "name"), [("datasets", "squad"), ("rouge", "qmsum")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, package, name):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"needs the package {package}: .*'moos\[evaluate\]'"):
        load_task(name)


def test_a_dataset_that_cannot_be_loaded_is_named(hub):
    with pytest.raises(ConfigError, match=r"'rajpurkar/squad'.* cannot be loaded: KeyError"):
        load_task("squad")


@pytest.mark.parametrize("limit", [1, 2, 7, 50, 99, 100, 101, None])
def test_a_limit_gives_so_many_examples_in_order_and_always_the_same(limit):
    examples = examples_of(*[5] * 20)
    chosen = choose_examples(examples, limit, 0)
    assert len(chosen) == min(limit or 100, 100)
    assert list(chosen) == [example for example in examples if example in set(chosen)]
    assert chosen == choose_examples(examples, limit, 0)


def test_a_limit_takes_whole_contexts_from_all_over():
    chosen = choose_examples(examples_of(*[5] * 20), 25, 0)
    contexts = sorted({int(example.id.split("/")[0]) for example in chosen})
    assert len(contexts) == 5
    assert {after - before for before, after in itertools.pairwise(contexts)} == {4}


def test_a_limit_spreads_over_the_questions_of_a_single_context():
    numbers = [
        int(example.id.split("/")[1]) for example in choose_examples(examples_of(100), 10, 0)
    ]
    assert {after - before for before, after in itertools.pairwise(numbers)} == {10}


def test_a_limit_takes_as_many_contexts_as_hold_enough_questions():
    for seed in range(20):
        assert len(choose_examples(examples_of(1, 1, 1, 30, 1, 1), 8, seed)) == 8


def test_another_seed_chooses_others():
    examples = examples_of(*[1] * 100)
    assert len({choose_examples(examples, 10, seed) for seed in range(8)}) > 1


def test_a_limit_of_none_at_all_is_refused():
    with pytest.raises(ConfigError, match="limit=0 leaves no example"):
        choose_examples(examples_of(3), 0, 0)
