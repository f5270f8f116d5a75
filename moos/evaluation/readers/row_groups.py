"""Keys and values of the rows of a batch, and attention over them; a beginning is held once.

Rows that begin alike are a group. Their beginning, where it is the longer part, lies there once,
and one matrix product serves the queries of all of them (as in Hydragen, arXiv 2402.05099): a
step then reads it once instead of once a row, which is what a step of many rows costs.

Shapes: B rows of a group, H heads, K heads of keys and values, Q new tokens, P tokens of the
beginning, S other tokens, D dimensions of a head.
"""

import torch
from torch.nn import functional

_GROWN_BY = 64  # tokens that room is made for at once
_FOLDED_QUERIES = 16
"""Up to so many new tokens, heads become queries; above, keys are repeated, which then costs less
than a mask for every head."""
_SCORES_AT_ONCE = {"cpu": 1 << 21}
"""Attention scores worked at once: what a cache holds, as they are passed over several times."""
_SCORES_AT_ONCE_ELSEWHERE = 1 << 26


class _Held:
    """Keys or values of a layer's rows, in a tensor with room at its end."""

    def __init__(self) -> None:
        self._room: torch.Tensor | None = None  # (B, K, room, D)
        self._size = 0

    def append(self, new: torch.Tensor) -> torch.Tensor:
        """Add what is new, (B, K, Q, D); everything so far, (B, K, S, D)."""
        size = self._size + new.shape[2]
        if self._room is None:
            self._room = new
        elif size > self._room.shape[2]:
            grown = new.new_empty((*new.shape[:2], size + _GROWN_BY, new.shape[3]))
            grown[:, :, : self._size] = self._room[:, :, : self._size]
            self._room = grown
        if self._room is not new:
            self._room[:, :, self._size : size] = new
        self._size = size
        return self._room[:, :, :size]

    def take(self, rows: torch.Tensor) -> "_Held":
        """A copy of some rows; one may be taken several times."""
        assert self._room is not None, "nothing was held yet"
        taken = _Held()
        taken._room = self._room[:, :, : self._size].index_select(0, rows)
        taken._size = self._size
        return taken

    def row(self, row: int, first: int) -> torch.Tensor:
        """A copy of one row from a token on, (K, P, D)."""
        assert self._room is not None, "nothing was held yet"
        return self._room[row, :, first : self._size].clone()


class RowGroup:
    """Rows of a batch that begin alike, or do not share anything.

    Attributes:
        attended: (B, S), False for pads, which nothing attends to.
        num_shared: P, tokens of the beginning that is held once.
    """

    def __init__(self, num_rows: int, device: torch.device) -> None:
        """Rows without tokens."""
        self.attended = torch.zeros((num_rows, 0), dtype=torch.bool, device=device)
        self.num_shared = 0
        self._held: dict[int, tuple[_Held, _Held]] = {}
        # Keys (K, D, P), as their product with queries reads them; values (K, P, D).
        self._shared: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._mask: torch.Tensor | None = None

    def expect(self, is_token: torch.Tensor) -> torch.Tensor:
        """Take note of tokens to come, (B, Q), False for pads; their positions, (B, Q)."""
        num_new = is_token.shape[1]
        before = self.attended.shape[1]
        self.attended = torch.cat([self.attended, is_token], dim=1)
        self._mask = _mask(self.attended, before)
        positions = self.attended.cumsum(dim=1)[:, -num_new:] - 1 + self.num_shared
        return positions.clamp(min=0)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Add the keys and values of the expected tokens to a layer, and let them attend.

        Args:
            layer: Its number.
            query: (B, H, Q, D).
            key: (B, K, Q, D).
            value: (B, K, Q, D).
            scale: What the products of queries and keys are multiplied with.

        Returns:
            (B, H, Q, D).
        """
        held_keys, held_values = self._held.setdefault(layer, (_Held(), _Held()))
        keys, values = held_keys.append(key), held_values.append(value)
        if layer in self._shared:
            shared = self._shared[layer]
            return _attend_with_shared(query, (keys, values), shared, self._mask, scale)
        return _attend(query, keys, values, self._mask, scale)

    def take(self, rows: torch.Tensor) -> "RowGroup":
        """The group of these rows, in their order; one may be taken several times."""
        taken = RowGroup(0, self.attended.device)
        taken.attended = self.attended[rows]
        taken.num_shared, taken._shared = self.num_shared, self._shared
        taken._held = {
            layer: (keys.take(rows), values.take(rows))
            for layer, (keys, values) in self._held.items()
        }
        return taken

    def begin(self, row: int, num_rows: int) -> "RowGroup":
        """A group of new rows which all begin as one of these does."""
        first = int((~self.attended[row]).sum())  # pads are on the left
        begun = RowGroup(num_rows, self.attended.device)
        begun.num_shared = self.attended.shape[1] - first
        begun._shared = {
            layer: (keys.row(row, first).mT.contiguous(), values.row(row, first))
            for layer, (keys, values) in self._held.items()
        }
        return begun


def _mask(attended: torch.Tensor, before: int) -> torch.Tensor | None:
    """What each new token attends to, (B, 1, Q, S): no pads, nothing after it. None: everything.

    Every one attends to itself: a pad that attends to nothing would have no number as its state.
    """
    size = attended.shape[1]
    if size - before == 1 and bool(attended.all()):
        return None
    slots = torch.arange(size, device=attended.device)
    new = slots[before:, None]
    return ((slots <= new) & attended[:, None, None, :]) | (slots == new)


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    repeats = query.shape[1] // keys.shape[1]
    if repeats > 1 and query.shape[2] <= _FOLDED_QUERIES:
        folded = _fold(query, keys.shape[1])
        mask = None if mask is None else mask.repeat(1, 1, repeats, 1)
        out = functional.scaled_dot_product_attention(folded, keys, values, mask, scale=scale)
        return out.reshape(query.shape)
    if repeats > 1:
        keys = keys.repeat_interleave(repeats, dim=1)
        values = values.repeat_interleave(repeats, dim=1)
    return functional.scaled_dot_product_attention(query, keys, values, mask, scale=scale)


def _fold(query: torch.Tensor, num_key_heads: int) -> torch.Tensor:
    """Heads that share keys as queries of one: (B, K, H / K * Q, D)."""
    rows, _, _, size = query.shape
    return query.reshape(rows, num_key_heads, -1, size)


def _attend_with_shared(
    query: torch.Tensor,
    own: tuple[torch.Tensor, torch.Tensor],
    shared: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """Attention to the shared beginning and to each row's own tokens, under one softmax.

    Scores are products in the model's precision and a softmax in fp32, as transformers' `eager`
    attention has them. Rows are worked a few at a time, so that scores never fill the memory.
    """
    num_key_heads = own[0].shape[1]
    folded = _fold(query, num_key_heads)
    if mask is not None:
        mask = mask.repeat(1, 1, folded.shape[2] // query.shape[2], 1)
    a_row = num_key_heads * folded.shape[2] * (own[0].shape[2] + shared[1].shape[1])
    most = _SCORES_AT_ONCE.get(query.device.type, _SCORES_AT_ONCE_ELSEWHERE)
    step = max(1, most // a_row)
    parts = [
        _attend_rows(
            folded[at : at + step],
            (own[0][at : at + step], own[1][at : at + step]),
            shared,
            None if mask is None else mask[at : at + step],
            scale,
        )
        for at in range(0, len(folded), step)
    ]
    return torch.cat(parts).reshape(query.shape)


def _attend_rows(
    folded: torch.Tensor,
    own: tuple[torch.Tensor, torch.Tensor],
    shared: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    rows, num_key_heads, num_queries, size = folded.shape
    # All rows are queries of one matrix product with the beginning: (K, B * queries, D).
    together = folded.transpose(0, 1).reshape(num_key_heads, rows * num_queries, size)
    to_shared = torch.matmul(together, shared[0]).float()
    to_own = torch.matmul(folded, own[0].mT).float()
    if mask is not None:
        to_own.masked_fill_(~mask, float("-inf"))
    split = (num_key_heads, rows, num_queries)
    highest = torch.maximum(
        to_shared.amax(dim=-1).reshape(split).transpose(0, 1), to_own.amax(dim=-1)
    )  # (B, K, queries)
    at_shared = highest.transpose(0, 1).reshape(num_key_heads, -1, 1)
    to_shared.sub_(at_shared).mul_(scale).exp_()
    to_own.sub_(highest[..., None]).mul_(scale).exp_()
    total = to_shared.sum(dim=-1).reshape(split).transpose(0, 1) + to_own.sum(dim=-1)
    out = torch.matmul(to_shared.to(folded.dtype), shared[1]).float()
    out = out.reshape(*split, size).transpose(0, 1)
    out = out + torch.matmul(to_own.to(folded.dtype), own[1]).float()
    return (out / total[..., None]).to(folded.dtype)
