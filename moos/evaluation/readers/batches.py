"""Which prompts run through a local model together, and what they share.

Prompts that begin with the same text make a group, and the tokens that all of a group begin with
are read once. They are counted on the tokens of the whole prompts: tokens of the parts would be
others wherever a token reaches across the cut.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """A prompt as a model reads it.

    Attributes:
        index: Its position among the prompts.
        group: Equal for prompts that begin with the same text.
        ids: Its tokens, at least one.
        max_new_tokens: Longest answer.
    """

    index: int
    group: Hashable
    ids: NDArray[np.int32]
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class SharingPrompts:
    """Prompts of one group in one batch.

    Attributes:
        num_shared: Tokens that all of them begin with; every prompt has more.
        prompts: The prompts, at least one.
    """

    num_shared: int
    prompts: tuple[TokenizedPrompt, ...]

    @property
    def held_once(self) -> bool:
        """What they share is worth one copy for all: several prompts, and the longer part of each.

        A short beginning, or that of one prompt, is copied to the rows: attention over one stretch
        of tokens is the faster then.
        """
        return len(self.prompts) > 1 and 2 * self.num_shared >= len(self.prompts[0].ids)

    @property
    def shared(self) -> NDArray[np.int32]:
        """The tokens that all of them begin with."""
        return self.prompts[0].ids[: self.num_shared]

    @property
    def own(self) -> list[NDArray[np.int32]]:
        """The other tokens of each prompt."""
        return [prompt.ids[self.num_shared :] for prompt in self.prompts]


def plan_batches(
    prompts: Sequence[TokenizedPrompt], max_tokens: int
) -> Iterator[list[SharingPrompts]]:
    """Batches of prompts, the longest first: what memory has no room for fails at once.

    Args:
        prompts: The prompts.
        max_tokens: Most tokens that the cache of a batch comes to hold, answers and padding
            included; a prompt that needs more is a batch of its own.
    """
    groups: dict[Hashable, list[TokenizedPrompt]] = defaultdict(list)
    for prompt in sorted(prompts, key=lambda each: (-len(each.ids), each.index)):
        groups[prompt.group].append(prompt)
    sharing = [_share(group) for group in groups.values()]
    sharing.sort(key=lambda each: -each.num_shared)
    batch: list[SharingPrompts] = []
    for group in sharing:
        for part in _split(group, max_tokens):
            if batch and _cache_tokens([*batch, part]) > max_tokens:
                yield batch
                batch = []
            batch.append(part)
    if batch:
        yield batch


def _share(prompts: Sequence[TokenizedPrompt]) -> SharingPrompts:
    """A group with what it shares: all but the last token, where there is but one prompt."""
    first = prompts[0].ids
    num_shared = min(len(prompt.ids) for prompt in prompts) - 1
    for prompt in prompts[1:]:
        differs = np.flatnonzero(first[:num_shared] != prompt.ids[:num_shared])
        num_shared = int(differs[0]) if len(differs) else num_shared
    return SharingPrompts(num_shared, tuple(prompts))


def _split(group: SharingPrompts, max_tokens: int) -> Iterator[SharingPrompts]:
    """A group in parts that are within the bound, or one prompt each."""
    # Prompts are in order of length: the first is the longest of its part.
    start = 0
    while start < len(group.prompts):
        end = start + 1
        while end < len(group.prompts):
            if (
                _cache_tokens([SharingPrompts(group.num_shared, group.prompts[start : end + 1])])
                > max_tokens
            ):
                break
            end += 1
        yield SharingPrompts(group.num_shared, group.prompts[start:end])
        start = end


def _cache_tokens(batch: Sequence[SharingPrompts]) -> int:
    """Tokens in the cache of a batch when its answers are as long as they may be."""
    most_new = max(prompt.max_new_tokens for part in batch for prompt in part.prompts)
    most_own = max(len(part.prompts[0].ids) - part.num_shared for part in batch)
    copied = [part for part in batch if not part.held_once]
    most_copied = max((part.num_shared for part in copied), default=0)
    return (
        sum(len(part.prompts) for part in batch) * (most_own + most_new)
        + sum(len(part.prompts) for part in copied) * most_copied
        + sum(part.num_shared for part in batch if part.held_once)
    )
