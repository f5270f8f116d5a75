"""Which prompts run through a local model together, and what they share.

Prompts that begin with the same text make a group, and the tokens that all of a group begin with
are read once. They are counted on the tokens of the whole prompts: tokens of the parts would be
others wherever a token reaches across the cut.
"""

from collections import defaultdict, deque
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


@dataclass(slots=True)
class Stay:
    """Prompts that came into a model together.

    Attributes:
        parts: The prompts.
        num_going: Rows of theirs that have not ended.
    """

    parts: list[SharingPrompts]
    num_going: int

    @property
    def cache_tokens(self) -> int:
        """Most tokens that the cache comes to hold of them, answers and padding included."""
        return _cache_tokens(self.parts, self.num_going)


class WaitingPrompts:
    """Prompts on their way into a model, the longest first: what has no room fails at once."""

    def __init__(
        self, prompts: Sequence[TokenizedPrompt], max_tokens: int, *, may_join: bool
    ) -> None:
        """Take the prompts.

        Args:
            prompts: The prompts.
            max_tokens: Most tokens that the cache comes to hold, answers and padding included; a
                prompt that needs more is in the model on its own.
            may_join: Prompts may come while others are there; otherwise when the last has left.
        """
        groups: dict[Hashable, list[TokenizedPrompt]] = defaultdict(list)
        for prompt in sorted(prompts, key=lambda each: (-len(each.ids), each.index)):
            groups[prompt.group].append(prompt)
        sharing = [_share(group) for group in groups.values()]
        sharing.sort(key=lambda each: -each.num_shared)
        # Smaller parts find room sooner: a step costs little more for many rows than for few.
        most = max_tokens // 2 if may_join else max_tokens
        self._parts = deque(part for group in sharing for part in _split(group, most))
        self._max_tokens = max_tokens
        self._may_join = may_join
        self._stays: list[Stay] = []

    def admit(self) -> Stay | None:
        """Prompts for which there is room now, taken off those that wait; None: none."""
        self._stays = [stay for stay in self._stays if stay.num_going]
        if self._stays and not self._may_join:
            return None
        room = self._max_tokens - sum(stay.cache_tokens for stay in self._stays)
        parts: list[SharingPrompts] = []
        while self._parts:
            found = [*parts, self._parts[0]]
            num_rows = sum(len(part.prompts) for part in found)
            if (parts or self._stays) and _cache_tokens(found, num_rows) > room:
                break
            parts.append(self._parts.popleft())
        if not parts:
            return None
        self._stays.append(Stay(parts, sum(len(part.prompts) for part in parts)))
        return self._stays[-1]


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
            part = SharingPrompts(group.num_shared, group.prompts[start : end + 1])
            if _cache_tokens([part], len(part.prompts)) > max_tokens:
                break
            end += 1
        yield SharingPrompts(group.num_shared, group.prompts[start:end])
        start = end


def _cache_tokens(parts: Sequence[SharingPrompts], num_rows: int) -> int:
    """Tokens in the cache when answers of so many of the parts' rows are as long as they may be."""
    most_new = max(prompt.max_new_tokens for part in parts for prompt in part.prompts)
    most_own = max(len(part.prompts[0].ids) - part.num_shared for part in parts)
    copied = [part for part in parts if not part.held_once]
    most_copied = max((part.num_shared for part in copied), default=0)
    num_copied = min(num_rows, sum(len(part.prompts) for part in copied))
    return (
        num_rows * (most_own + most_new)
        + num_copied * most_copied
        + sum(part.num_shared for part in parts if part.held_once)
    )
