"""Which examples of a task are used when not all are: a subset that anyone gets again."""

from collections.abc import Sequence
from math import ceil

import numpy as np

from moos.errors import ConfigError
from moos.evaluation.example import Example


def choose_examples(
    examples: Sequence[Example], limit: int | None, seed: int
) -> tuple[Example, ...]:
    """At most `limit` examples, in their order: whole contexts, spread evenly over the task.

    As many contexts are taken as hold `limit` examples, at equal distances in the order in which
    they first occur; where they hold more, the surplus is left out at equal distances, too. So the
    questions on one context, which cost one compression, stay together, and a task with a single
    context, such as GSM8K with its demonstrations, gives questions from all over. The seed decides
    where the first of each lies. A larger limit need not give a superset.

    Args:
        examples: The task's examples.
        limit: Most to use; None: all.
        seed: Seed of the choice.

    Raises:
        ConfigError: The limit is below 1.
    """
    if limit is None:
        return tuple(examples)
    if limit < 1:
        raise ConfigError(f"limit={limit} leaves no example; set at least 1, or null for all")
    if limit >= len(examples):
        return tuple(examples)
    start = float(np.random.default_rng(seed).random())
    contexts = list(dict.fromkeys(example.context for example in examples))
    chosen = list(examples)
    for number in range(ceil(limit * len(contexts) / len(examples)), len(contexts) + 1):
        taken = {contexts[place] for place in _spread(len(contexts), number, start)}
        chosen = [example for example in examples if example.context in taken]
        if len(chosen) >= limit:
            break
    return tuple(chosen[place] for place in _spread(len(chosen), limit, start))


def _spread(size: int, number: int, start: float) -> list[int]:
    """`number` different places in a sequence of `size`, at equal distances."""
    return [int((index + start) * size / number) for index in range(number)]
