"""The targets by name: what is attacked, with what to begin from."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz import target_config, target_jsonl, target_render, target_selection, target_words


@dataclass(frozen=True, slots=True)
class Target:
    """A part of the product under attack.

    Attributes:
        check: Takes a case, which is any bytes; raises where a promise is broken.
        seeds: Cases to begin from.
        dictionary: What to put into cases.
    """

    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    dictionary: tuple[bytes, ...]


TARGETS = {
    name: Target(module.check, module.SEEDS, module.DICTIONARY)
    for name, module in (
        ("jsonl", target_jsonl),
        ("words", target_words),
        ("selection", target_selection),
        ("render", target_render),
        ("config", target_config),
    )
}
