"""LongBench's English and code tasks (github.com/THUDM/LongBench, MIT; arXiv 2308.14508).

Prompts and lengths are those of `config/dataset2prompt.json` and `config/dataset2maxlen.json`, and
`pred.py` says which tasks are put to a chat model without a chat; scores are in
`metrics_longbench`. The official code cuts the middle out of prompts that are too long for its
model: `max_context_tokens` does it to the context.
"""

from collections.abc import Callable

from moos.evaluation.example import Example, Scorer, Task
from moos.evaluation.metrics import f1_scorer, over_answers, token_f1
from moos.evaluation.metrics_longbench import (
    code_sim_score,
    count_score,
    retrieval_score,
    rouge_scorer,
    score_classification,
)
from moos.evaluation.tasks.longbench_prompts import PROMPTS
from moos.evaluation.tasks.sources import Record, find_file, load_records, read_records

ARCHIVE = "hf://datasets/THUDM/LongBench/data.zip"
"""The dataset's files; its loading script, which unpacks them, no longer runs with `datasets`."""

GROUPS = {
    "narrativeqa": "single-document QA",
    "qasper": "single-document QA",
    "multifieldqa_en": "single-document QA",
    "hotpotqa": "multi-document QA",
    "2wikimqa": "multi-document QA",
    "musique": "multi-document QA",
    "gov_report": "summarization",
    "qmsum": "summarization",
    "multi_news": "summarization",
    "trec": "few-shot learning",
    "triviaqa": "few-shot learning",
    "samsum": "few-shot learning",
    "passage_count": "synthetic",
    "passage_retrieval_en": "synthetic",
    "lcc": "code",
    "repobench-p": "code",
}
"""The tasks, with the groups that the paper averages over."""

MAX_NEW_TOKENS = {
    "narrativeqa": 128,
    "qasper": 128,
    "multifieldqa_en": 64,
    "hotpotqa": 32,
    "2wikimqa": 32,
    "musique": 32,
    "gov_report": 512,
    "qmsum": 512,
    "multi_news": 512,
    "trec": 64,
    "triviaqa": 32,
    "samsum": 128,
    "passage_count": 32,
    "passage_retrieval_en": 32,
    "lcc": 64,
    "repobench-p": 64,
}

WITHOUT_CHAT = frozenset({"trec", "triviaqa", "samsum", "lcc", "repobench-p"})

# Official: a newline ends a summary of samsum, unless it comes first. Only the first line is
# scored, so this saves as much and bears a newline in front.
_STOPS = {"samsum": ("\nDialogue:",)}

_SCORERS: dict[str, tuple[str, Callable[[], Scorer]]] = {
    "triviaqa": ("F1", lambda: over_answers(token_f1, first_line=True)),
    "gov_report": ("ROUGE-L", rouge_scorer),
    "qmsum": ("ROUGE-L", rouge_scorer),
    "multi_news": ("ROUGE-L", rouge_scorer),
    "samsum": ("ROUGE-L", lambda: rouge_scorer(first_line=True)),
    "trec": ("accuracy", lambda: score_classification),
    "passage_count": ("accuracy", lambda: over_answers(count_score)),
    "passage_retrieval_en": ("accuracy", lambda: over_answers(retrieval_score)),
    "lcc": ("edit similarity", lambda: over_answers(code_sim_score)),
    "repobench-p": ("edit similarity", lambda: over_answers(code_sim_score)),
}
"""Metric and scorer of the tasks that are not scored by F1 of the whole answer."""


def load_longbench(name: str, path: str | None) -> Task:
    """Load `longbench/` and the name of one of the 16 tasks.

    Args:
        name: The task.
        path: JSONL of `input`, `context`, `answers`, `all_classes` and `_id`, or a directory with
            one such file for each task, as `data.zip` unpacks. None: the hub.

    Raises:
        ConfigError: The data cannot be loaded, or ROUGE's package is missing.
        DataError: They have another layout.
    """
    task = name.removeprefix("longbench/")
    metric, build_scorer = _SCORERS.get(task, ("F1", lambda: f1_scorer))
    score = build_scorer()
    if path is None:
        files = f"zip://data/{task}.jsonl::{ARCHIVE}"
        records = load_records("json", split="train", data_files=files)
    else:
        records = read_records(find_file(path, f"{task}.jsonl"))
    return Task(
        name=name,
        group=GROUPS[task],
        metric=metric,
        score=score,
        examples=tuple(_build_example(task, record, str(n)) for n, record in enumerate(records)),
        max_new_tokens=MAX_NEW_TOKENS[task],
        stop=_STOPS.get(task, ()),
        chat=task not in WITHOUT_CHAT,
        source="LongBench pred.py, eval.py, metrics.py, dataset2prompt.json, dataset2maxlen.json",
    )


def split_prompt(task: str, question: str) -> tuple[str, str]:
    """What a task's prompt holds before and after the context, with the question filled in."""
    before, _, after = PROMPTS[task].partition("{context}")
    return before.replace("{input}", question), after.replace("{input}", question)


def _build_example(task: str, record: Record, number: str) -> Example:
    question = record.text("input")
    before, after = split_prompt(task, question)
    return Example(
        id=record.label("_id", default=number),
        context=record.text("context"),
        before=before,
        after=after,
        question=question or after.strip(),
        answers=record.texts("answers"),
        classes=record.texts("all_classes") if record.has("all_classes") else (),
    )
