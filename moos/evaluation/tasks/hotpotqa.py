"""HotpotQA, distractor setting: questions that need two of ten Wikipedia paragraphs.

Data: hotpotqa.github.io (CC BY-SA 4.0), `hotpot_dev_distractor_v1.json`. The passages are laid out
as in LongBench's HotpotQA; the prompt is ours.
"""

from moos.errors import DataError
from moos.evaluation.example import Example, Task
from moos.evaluation.metrics import hotpotqa_f1, over_answers
from moos.evaluation.tasks.sources import Record, load_records, read_records

BEFORE = (
    "Answer the question with a short phrase taken from the passages, or with yes or no. The "
    "passages may have been shortened by leaving out words.\n\n"
)
AFTER = "\n\nQuestion: {question}"
MAX_NEW_TOKENS = 32


def load_hotpotqa(name: str, path: str | None) -> Task:
    """Load `hotpotqa`.

    Args:
        name: The task.
        path: The official JSON, or JSONL of its objects or of the hub's: `question`, `answer` and
            `context`, a list of titles with sentences. None: the hub.

    Raises:
        ConfigError: The data cannot be loaded.
        DataError: They have another layout.
    """
    records = (
        load_records("hotpotqa/hotpot_qa", "distractor", split="validation")
        if path is None
        else read_records(path)
    )
    return Task(
        name=name,
        group="multi-document QA",
        metric="F1",
        score=over_answers(hotpotqa_f1),
        examples=tuple(_build_example(record, str(n)) for n, record in enumerate(records)),
        max_new_tokens=MAX_NEW_TOKENS,
        stop=("\n",),
        chat=True,
        source="HotpotQA hotpot_evaluate_v1.py (F1); prompt of moos",
    )


def _build_example(record: Record, number: str) -> Example:
    question = record.text("question")
    passages = [
        f"Passage {place}:\n{title}\n{text}"
        for place, (title, text) in enumerate(_read_paragraphs(record), start=1)
    ]
    return Example(
        id=record.label("_id", "id", default=number),
        context="\n\n".join(passages),
        before=BEFORE,
        after=AFTER.format(question=question),
        question=question,
        answers=record.texts("answer"),
    )


def _read_paragraphs(record: Record) -> list[tuple[str, str]]:
    """Title and text of each paragraph: a list of pairs officially, two lists on the hub."""
    context = record.fields.get("context")
    pairs = context
    if isinstance(context, dict):
        titles, sentences = (context.get(name) or () for name in ("title", "sentences"))
        pairs = list(zip(titles, sentences, strict=False))
    if not isinstance(pairs, list) or not pairs or not all(map(_is_paragraph, pairs)):
        raise DataError(
            f"{record.where} has {context!r:.80} as 'context'; it must be a list of titles with "
            "their sentences"
        )
    return [(title, "".join(sentences)) for title, sentences in pairs]


def _is_paragraph(pair: object) -> bool:
    return (
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and isinstance(pair[1], list)
        and all(isinstance(sentence, str) for sentence in pair[1])
    )
