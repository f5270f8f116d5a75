"""Benchmarks as tasks: examples with the prompt, extraction and score that they come with."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from moos.errors import ConfigError, DataError
from moos.evaluation.example import Task
from moos.evaluation.tasks import bbh, longbench
from moos.evaluation.tasks.custom import load_custom
from moos.evaluation.tasks.gsm8k import load_gsm8k
from moos.evaluation.tasks.hotpotqa import load_hotpotqa
from moos.evaluation.tasks.meetings import (
    load_meetingbank_qa,
    load_meetingbank_summary,
    load_qmsum,
)
from moos.evaluation.tasks.squad import load_squad
from moos.evaluation.tasks.subset import choose_examples

_LOADERS: dict[str, Callable[[str, str | None], Task]] = {
    "xquad-en": load_squad,
    "squad": load_squad,
    "hotpotqa": load_hotpotqa,
    "qmsum": load_qmsum,
    "meetingbank-qa": load_meetingbank_qa,
    "meetingbank-summary": load_meetingbank_summary,
    "custom": load_custom,
    **{f"longbench/{task}": longbench.load_longbench for task in longbench.GROUPS},
}

_DEMONSTRATED: dict[str, Callable[[str, str | None, str | None], Task]] = {
    "gsm8k": load_gsm8k,
    **{f"bbh/{task}": bbh.load_bbh for task in bbh.TASKS},
}
"""Tasks whose context is their demonstrations."""

TASK_NAMES = (*_LOADERS, *_DEMONSTRATED)
"""Every task; `custom/` with any name behind it is one, too."""


def load_task(
    name: str,
    path: str | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    max_context_tokens: int | None = None,
    demonstrations: str | None = None,
) -> Task:
    """Load a task from a local file or from the hub.

    Args:
        name: One of `TASK_NAMES`, such as `xquad-en`, `longbench/hotpotqa`, `bbh/navigate`.
        path: A local file or fsspec URL, for some tasks a directory; the loaders say which layouts.
            None: the hub, through `datasets`.
        limit: Most examples, chosen as `choose_examples` says; None: all.
        seed: Seed of that choice.
        max_context_tokens: As in `Task`.
        demonstrations: Where the demonstrations of `gsm8k` and `bbh/...` are, unless beside or in
            `path`.

    Raises:
        ConfigError: No such task, a setting that has no effect on it, its data cannot be loaded,
            or a package that it needs is missing.
        DataError: Its data have another layout.
    """
    if name in _DEMONSTRATED:
        task = _DEMONSTRATED[name](name, path, demonstrations)
    else:
        if demonstrations is not None:
            raise ConfigError(
                f"demonstrations={demonstrations!r} has no effect on task {name!r}; leave it out"
            )
        task = _find_loader(name)(name, path)
    _check_ids(task)
    examples = choose_examples(task.examples, limit, seed)
    return replace(task, examples=examples, max_context_tokens=max_context_tokens)


def _find_loader(name: str) -> Callable[[str, str | None], Task]:
    loader = _LOADERS.get("custom" if name.startswith("custom/") else name)
    if loader is None:
        raise ConfigError(f"there is no task {name!r}, only {', '.join(TASK_NAMES)}")
    return loader


def _check_ids(task: Task) -> None:
    if not task.examples:
        raise DataError(f"task {task.name!r} has no example; set its path to a file that has")
    (id_, count), *_ = Counter(example.id for example in task.examples).most_common(1)
    if count > 1:
        raise DataError(
            f"task {task.name!r} has {count} examples with the id {id_!r}; ids must differ, or be "
            "left out of the file"
        )
