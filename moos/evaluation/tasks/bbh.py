"""BIG-Bench Hard with compressed demonstrations: 27 tasks with three chains of thought each.

Data and demonstrations: github.com/suzgunmirac/BIG-Bench-Hard (MIT), `bbh/` and `cot-prompts/`.
What is compressed, lengths and extraction are LLMLingua-2's, `experiments/llmlingua2/evaluation/
eval_bbh.py`: the sentence that says what the task is stays whole, and it completes, without a
chat. The question ends as the demonstrations' do.
"""

from moos.errors import ConfigError, DataError
from moos.evaluation.example import Example, Scorer, Task
from moos.evaluation.metrics_reasoning import score_bbh_choice, score_bbh_text
from moos.evaluation.tasks.sources import (
    Record,
    find_file,
    is_file,
    load_records,
    read_records,
    read_text,
)

AFTER = "\n\nQ: {question}\nA: Let's think step by step."
STOP = ("\n\nQ:",)
MAX_NEW_TOKENS = 400
LONGER = {"geometric_shapes": 800}
HUB = "SaylorTwift/bbh"
"""A copy of the data, without the demonstrations; lm-evaluation-harness uses it."""

CHOICE_TASKS = (
    "date_understanding",
    "disambiguation_qa",
    "geometric_shapes",
    "hyperbaton",
    "logical_deduction_five_objects",
    "logical_deduction_seven_objects",
    "logical_deduction_three_objects",
    "movie_recommendation",
    "penguins_in_a_table",
    "reasoning_about_colored_objects",
    "ruin_names",
    "salient_translation_error_detection",
    "snarks",
    "temporal_sequences",
    "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects",
    "tracking_shuffled_objects_three_objects",
)
"""Tasks whose target is an option such as `(B)`."""

TEXT_TASKS = (
    "boolean_expressions",
    "causal_judgement",
    "dyck_languages",
    "formal_fallacies",
    "multistep_arithmetic_two",
    "navigate",
    "object_counting",
    "sports_understanding",
    "web_of_lies",
    "word_sorting",
)
"""Tasks whose target is a text."""

TASKS = (*CHOICE_TASKS, *TEXT_TASKS)

_CANARY = "canary GUID"
_RULER = "-----"


def load_bbh(name: str, path: str | None, demonstrations: str | None) -> Task:
    """Load `bbh/` and the name of one of the 27 tasks.

    Args:
        name: The task.
        path: A JSON file of `examples` (a list of `input` and `target`) and, unless they come
            apart, `cot_prompt`; or a directory with one for each task, named after it, with or
            without `.gz`; or the official repository. None: the hub.
        demonstrations: The official `cot-prompts` directory or a file of it. None: they are in
            the task's file, or in `cot-prompts` of the repository that `path` is.

    Raises:
        ConfigError: The data or the demonstrations cannot be loaded.
        DataError: They have another layout.
    """
    task = name.removeprefix("bbh/")
    prompt: str | None = None
    if path is None:
        records = load_records(HUB, task, split="test")
    else:
        whole = read_records(find_file(path, f"{task}.json", f"bbh/{task}.json"))[0]
        records = whole.records("examples")
        prompt = whole.text("cot_prompt") if whole.has("cot_prompt") else None
    if demonstrations is not None or prompt is None:
        prompt = _read_demonstrations(name, path, demonstrations)
    instruction, context = _split_prompt(name, prompt)
    score: Scorer = score_bbh_choice if task in CHOICE_TASKS else score_bbh_text
    return Task(
        name=name,
        group="BIG-Bench Hard",
        metric="accuracy",
        score=score,
        examples=tuple(
            _build_example(record, instruction, context, str(n)) for n, record in enumerate(records)
        ),
        max_new_tokens=LONGER.get(task, MAX_NEW_TOKENS),
        stop=STOP,
        chat=False,
        source="BIG-Bench-Hard cot-prompts (demonstrations); LLMLingua-2 eval_bbh.py (extraction)",
    )


def _read_demonstrations(name: str, path: str | None, demonstrations: str | None) -> str:
    task = name.removeprefix("bbh/")
    if demonstrations is not None:
        return read_text(find_file(demonstrations, f"{task}.txt"))
    if path is None or is_file(path):
        raise ConfigError(
            f"task {name!r} has no demonstrations in {path or HUB!r}; set demonstrations to the "
            "directory cot-prompts of github.com/suzgunmirac/BIG-Bench-Hard"
        )
    return read_text(find_file(path, f"cot-prompts/{task}.txt"))


def _split_prompt(name: str, prompt: str) -> tuple[str, str]:
    """The instruction with the blank line after it, and the demonstrations; no canary."""
    lines = prompt.strip().split("\n")
    while lines and (_CANARY in lines[0] or lines[0].strip() in ("", _RULER)):
        lines.pop(0)
    instruction, found, context = "\n".join(lines).partition("\n\nQ: ")
    if not found:
        raise DataError(
            f"the demonstrations of {name!r} begin with {prompt[:60]!r} and have no paragraph that "
            "begins with 'Q: '; give a file of cot-prompts"
        )
    return f"{instruction}\n\n", f"Q: {context}"


def _build_example(record: Record, instruction: str, context: str, number: str) -> Example:
    question = record.text("input")
    return Example(
        id=record.label("id", default=number),
        context=context,
        before=instruction,
        after=AFTER.format(question=question),
        question=question,
        answers=(record.text("target"),),
    )
