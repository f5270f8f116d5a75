"""SQuAD and the English part of XQuAD: questions whose answers stand in the paragraph.

Data: rajpurkar.github.io/SQuAD-explorer (v1.1, CC BY-SA 4.0) and github.com/google-deepmind/xquad.
Neither has an official prompt for language models; this one is ours.
"""

from collections.abc import Iterator

from moos.evaluation.example import Example, Task
from moos.evaluation.metrics import f1_scorer
from moos.evaluation.tasks.sources import Record, load_records, read_records

BEFORE = (
    "Answer the question with a short phrase taken from the text. The text may have been shortened "
    "by leaving out words.\n\nText: "
)
AFTER = "\n\nQuestion: {question}"
MAX_NEW_TOKENS = 32

HUB = {"xquad-en": ("google/xquad", "xquad.en"), "squad": ("rajpurkar/squad", "plain_text")}
"""Dataset and subset of each task; the split is `validation`."""


def load_squad(name: str, path: str | None) -> Task:
    """Load `xquad-en` or `squad`; another file of the layout may go by either name.

    Args:
        name: The task.
        path: JSONL of `context` and `qas`, a list of `question` and `answers`, which are texts or
            objects with `text`; or SQuAD's own JSON; or rows as on the hub. None: the hub.

    Raises:
        ConfigError: The data cannot be loaded.
        DataError: They have another layout, or a question without an answer.
    """
    if path is None:
        dataset, subset = HUB[name]
        records = load_records(dataset, subset, split="validation")
    else:
        records = read_records(path)
    examples = tuple(
        _build_example(context, question, str(number))
        for number, (context, question) in enumerate(_iterate(records))
    )
    return Task(
        name=name,
        group="extractive QA",
        metric="F1",
        score=f1_scorer,
        examples=examples,
        max_new_tokens=MAX_NEW_TOKENS,
        stop=("\n",),
        chat=True,
        source="SQuAD v1.1 evaluate-v1.1.py (F1); prompt of moos",
    )


def _iterate(records: list[Record]) -> Iterator[tuple[str, Record]]:
    """Each question with its context, from any of the layouts."""
    for record in records:
        if record.has("data"):
            articles = record.records("data")
            yield from _iterate([part for art in articles for part in art.records("paragraphs")])
        elif record.has("qas"):
            context = record.text("context")
            yield from ((context, question) for question in record.records("qas"))
        else:
            yield record.text("context"), record


def _build_example(context: str, question: Record, number: str) -> Example:
    text = question.text("question")
    return Example(
        id=question.label("id", default=number),
        context=context,
        before=BEFORE,
        after=AFTER.format(question=text),
        question=text,
        answers=_read_answers(question),
    )


def _read_answers(question: Record) -> tuple[str, ...]:
    answers = question.fields.get("answers")
    if isinstance(answers, dict):
        return question.record("answers").texts("text")
    if isinstance(answers, list) and answers and isinstance(answers[0], dict):
        return tuple(answer.text("text") for answer in question.records("answers"))
    return question.texts("answers")
