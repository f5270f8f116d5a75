"""A batch in a causal language model: its rows are fed tokens, and tell the likeliest next one."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AttentionInterface

from moos.evaluation.readers.batches import SharingPrompts
from moos.evaluation.readers.row_groups import RowGroup

ATTENTION = "moos_row_groups"
"""Name under which transformers knows the attention of `GroupDecoder`."""


class PlainDecoder:
    """Rows in a model, each on its own, with the attention and the cache that the model brings.

    Attributes:
        may_join: Rows of another decoder of the model can be taken over, by `join`.
    """

    may_join = False

    def __init__(self, model: Any) -> None:
        """Begin without rows: what is fed first says how many there are."""
        self._model = model
        accepted = inspect.signature(model.forward).parameters
        # transformers 5.24 changed the name, of the argument and of the result.
        self._cache_name = "cache" if "cache" in accepted else "past_key_values"
        self._cache: Any = None
        self._attended: torch.Tensor | None = None  # (rows, tokens in the cache)

    def prefill(self, batch: Sequence[SharingPrompts]) -> list[int]:
        """Read the prompts; the likeliest next token of each."""
        return self.feed([prompt.ids for part in batch for prompt in part.prompts])

    @torch.inference_mode()
    def feed(self, tokens: Sequence[NDArray[Any]]) -> list[int]:
        """Read tokens of every row; the likeliest next one of each."""
        ids, is_token = _pad(tokens, self._model.device)
        attended = is_token.long()
        if self._attended is not None:
            attended = torch.cat([self._attended, attended], dim=1)
        positions = (attended.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self._model(
            input_ids=ids,
            attention_mask=attended,
            position_ids=positions,
            use_cache=True,
            **({} if self._cache is None else {self._cache_name: self._cache}),
            **_only_last(self._model),
        )
        self._cache = getattr(output, self._cache_name)
        self._attended = attended
        return _likeliest(output)

    @torch.inference_mode()
    def take_rows(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in ascending order."""
        assert self._attended is not None, "nothing was fed yet"
        indices = torch.tensor(rows, device=self._attended.device)
        self._cache.batch_select_indices(indices)
        self._attended = self._attended[indices]


class GroupDecoder:
    """Rows in groups, each with one copy of the beginning that its rows share.

    Runs a model within `attention_of_groups`.

    Attributes:
        may_join: As `PlainDecoder` has it.
    """

    may_join = True

    def __init__(self, model: Any) -> None:
        """Begin without rows."""
        self._model = model
        self._groups: list[RowGroup] = []
        self._rows: list[torch.Tensor] = []  # of each group: its rows' places in the batch

    @torch.inference_mode()
    def prefill(self, batch: Sequence[SharingPrompts]) -> list[int]:
        """Read what prompts share, then the rest of each; the likeliest next token of each."""
        device = self._model.device
        beginnings = RowGroup(len(batch), device)
        if any(part.num_shared for part in batch):
            self._place([beginnings], [list(range(len(batch)))])
            self.feed([part.shared for part in batch])
        starts = np.cumsum([0, *(len(part.prompts) for part in batch)]).tolist()
        places = [list(range(start, end)) for start, end in pairwise(starts)]
        held_once = [at for at, part in enumerate(batch) if part.held_once]
        groups = [beginnings.begin(at, len(places[at])) for at in held_once]
        rows = [places[at] for at in held_once]
        copied = [at for at, part in enumerate(batch) if not part.held_once]
        if copied:
            origins = [at for at in copied for _ in places[at]]
            groups.append(beginnings.take(torch.tensor(origins, device=device)))
            rows.append([place for at in copied for place in places[at]])
        self._place(groups, rows)
        return self.feed([ids for part in batch for ids in part.own])

    def join(self, other: "GroupDecoder") -> None:
        """Take over another decoder's rows, behind its own; the other is of no more use."""
        num_rows = sum(map(len, self._rows))
        self._groups = [*self._groups, *other._groups]
        self._rows = [*self._rows, *(rows + num_rows for rows in other._rows)]

    def _place(self, groups: list[RowGroup], rows: list[list[int]]) -> None:
        self._groups = groups
        self._rows = [torch.tensor(each, device=self._model.device) for each in rows]

    @torch.inference_mode()
    def feed(self, tokens: Sequence[NDArray[Any]]) -> list[int]:
        """Read tokens of every row; the likeliest next one of each."""
        ids, is_token = _pad(tokens, self._model.device)
        positions = torch.zeros_like(ids)
        for group, rows in zip(self._groups, self._rows, strict=True):
            positions[rows] = group.expect(is_token[rows])
        attending = _ATTENDING.set(self)
        try:
            output = self._model(
                input_ids=ids, position_ids=positions, use_cache=False, **_only_last(self._model)
            )
        finally:
            _ATTENDING.reset(attending)
        return _likeliest(output)

    @torch.inference_mode()
    def take_rows(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in ascending order."""
        new_places = {row: place for place, row in enumerate(rows)}
        groups, placed = [], []
        for group, old in zip(self._groups, self._rows, strict=True):
            kept = [at for at, row in enumerate(old.tolist()) if row in new_places]
            if not kept:
                continue
            placed.append([new_places[int(old[at])] for at in kept])
            whole = len(kept) == len(old)
            groups.append(group if whole else group.take(torch.tensor(kept, device=old.device)))
        self._place(groups, placed)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Attention of all rows in a layer; shapes as `RowGroup.attend` has them."""
        if len(self._groups) == 1:
            return self._groups[0].attend(layer, query, key, value, scale)
        out = torch.empty_like(query)
        for group, rows in zip(self._groups, self._rows, strict=True):
            out[rows] = group.attend(layer, query[rows], key[rows], value[rows], scale)
        return out


_ATTENDING: ContextVar[GroupDecoder] = ContextVar("attending")


@contextmanager
def attention_of_groups(model: Any) -> Iterator[None]:
    """Meanwhile, a model attends through the `GroupDecoder` that runs it, and runs no other way."""
    AttentionInterface.register(ATTENTION, _attend)
    before = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in every layer; it makes no mask for attention of other names."""
    assert attention_mask is None, "a decoder's groups have their own masks"
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = _ATTENDING.get().attend(module.layer_idx, query, key, value, scale)
    return out.transpose(1, 2).contiguous(), None


def _pad(tokens: Sequence[NDArray[Any]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids with pads on their left, and where they are none; both (rows, longest)."""
    width = max(map(len, tokens))
    ids = np.zeros((len(tokens), width), dtype=np.int64)
    is_token = np.zeros((len(tokens), width), dtype=bool)
    for row, row_tokens in enumerate(tokens):
        ids[row, width - len(row_tokens) :] = row_tokens
        is_token[row, width - len(row_tokens) :] = True
    return torch.from_numpy(ids).to(device), torch.from_numpy(is_token).to(device)


def _only_last(model: Any) -> dict[str, int]:
    """Logits of a row's last token alone, where a model can be asked for that."""
    accepted = inspect.signature(model.forward).parameters
    return {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}


def _likeliest(output: Any) -> list[int]:
    next_ids: list[int] = output.logits[:, -1].argmax(dim=-1).tolist()
    return next_ids
