"""A user's own questions: JSONL of context, question and answers."""

from collections.abc import Callable

from moos.errors import ConfigError, DataError
from moos.evaluation.example import Example, Scorer, Task
from moos.evaluation.metrics import contains_answer, exact_match_scorer, f1_scorer, over_answers
from moos.evaluation.metrics_longbench import rouge_scorer
from moos.evaluation.tasks.sources import Record, read_records

BEFORE = (
    "Answer the question from the text. The text may have been shortened by leaving out words."
    "\n\nText: "
)
AFTER = "\n\nQuestion: {question}"
MAX_NEW_TOKENS = {"f1": 32, "exact": 32, "contains": 128, "rouge": 256}
DEFAULT_METRIC = "f1"

_SCORERS: dict[str, tuple[str, Callable[[], Scorer]]] = {
    "f1": ("F1", lambda: f1_scorer),
    "exact": ("exact match", lambda: exact_match_scorer),
    "contains": ("contains", lambda: over_answers(contains_answer)),
    "rouge": ("ROUGE-L", rouge_scorer),
}


def load_custom(name: str, path: str | None) -> Task:
    """Load a task of one's own.

    Args:
        name: `custom`, or `custom/` and a name that tells it from others.
        path: JSONL, or a JSON list, of `context`, `question` and `answers` (a text or a list of
            texts). Optional: `id`, and `metric`, the same in every record: `f1` (the default) and
            `exact` of normalised words, `contains`, or `rouge` (ROUGE-L, for long answers).

    Raises:
        ConfigError: The path is missing or cannot be read, or ROUGE's package is missing.
        DataError: A record lacks a field, or the metrics are unknown or differ.
    """
    if path is None:
        raise ConfigError(f"task {name!r} is on no hub; set its path to a JSONL file")
    records = read_records(path)
    metric = _read_metric(records)
    label, build_scorer = _SCORERS[metric]
    return Task(
        name=name,
        group="custom",
        metric=label,
        score=build_scorer(),
        examples=tuple(_build_example(record, str(n)) for n, record in enumerate(records)),
        max_new_tokens=MAX_NEW_TOKENS[metric],
        stop=(),
        chat=True,
        source=f"{path}; prompt of moos",
    )


def _read_metric(records: list[Record]) -> str:
    first = records[0]
    metric = first.text("metric") if first.has("metric") else DEFAULT_METRIC
    if metric not in _SCORERS:
        raise DataError(
            f"{first.where} has {metric!r} as 'metric'; it must be one of {', '.join(_SCORERS)}"
        )
    for record in records:
        other = record.text("metric") if record.has("metric") else DEFAULT_METRIC
        if other != metric:
            raise DataError(
                f"{record.where} has the metric {other!r}, the first one {metric!r}; a task's "
                "scores are averaged, so make a file for each metric"
            )
    return metric


def _build_example(record: Record, number: str) -> Example:
    question = record.text("question")
    return Example(
        id=record.label("id", default=number),
        context=record.text("context"),
        before=BEFORE,
        after=AFTER.format(question=question),
        question=question,
        answers=record.texts("answers"),
    )
