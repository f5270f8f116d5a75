"""GSM8K with compressed demonstrations: what is shortened is the worked examples, not the question.

Data: github.com/openai/grade-school-math (MIT). Demonstrations: the eight hardest ones of
chain-of-thought-hub, `prompt_hardest.txt`, which LLMLingua compresses. Prompt and extraction are
LLMLingua-2's, `experiments/llmlingua2/evaluation/eval_gsm8k.py`; it completes, without a chat.
"""

import posixpath

from moos.errors import ConfigError, DataError
from moos.evaluation.example import Example, Task
from moos.evaluation.metrics_reasoning import extract_gsm8k_truth, score_gsm8k
from moos.evaluation.tasks.sources import Record, load_records, read_records, read_text

BEFORE = "Please reference the following examples to answer the math question. \n \n\n"
AFTER = "\n\nQuestion: {question}\nLet's think step by step."
STOP = ("\nQuestion:",)
MAX_NEW_TOKENS = 400
DEMONSTRATIONS = "prompt_hardest.txt"


def load_gsm8k(name: str, path: str | None, demonstrations: str | None) -> Task:
    """Load `gsm8k`.

    Args:
        name: The task.
        path: JSONL of `question` and `answer`, whose last line is `#### ` and the number. None:
            the hub's test split.
        demonstrations: The file of worked examples, each beginning with `Question: `. None:
            `prompt_hardest.txt` beside `path`.

    Raises:
        ConfigError: The data or the demonstrations cannot be loaded.
        DataError: They have another layout.
    """
    if demonstrations is None:
        if path is None:
            raise ConfigError(
                f"task {name!r} needs its demonstrations, which are not on the hub; set "
                f"demonstrations to chain-of-thought-hub's {DEMONSTRATIONS}"
            )
        demonstrations = posixpath.join(posixpath.dirname(path), DEMONSTRATIONS)
    context = read_text(demonstrations).strip()
    if not context.startswith("Question: "):
        raise DataError(
            f"{demonstrations} begins with {context[:40]!r}; demonstrations begin with 'Question: '"
        )
    records = (
        load_records("openai/gsm8k", "main", split="test") if path is None else read_records(path)
    )
    return Task(
        name=name,
        group="reasoning",
        metric="accuracy",
        score=score_gsm8k,
        examples=tuple(_build_example(record, context, str(n)) for n, record in enumerate(records)),
        max_new_tokens=MAX_NEW_TOKENS,
        stop=STOP,
        chat=False,
        source="LLMLingua-2 eval_gsm8k.py (prompt, extraction); GSM8K dataset.py (reference)",
    )


def _build_example(record: Record, context: str, number: str) -> Example:
    question = record.text("question")
    return Example(
        id=record.label("id", "idx", default=number),
        context=context,
        before=BEFORE,
        after=AFTER.format(question=question),
        question=question,
        answers=(extract_gsm8k_truth(record.text("answer")),),
    )
