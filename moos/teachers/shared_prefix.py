"""One prompt's key/value cache, shared by every row of a batch, in a causal language model.

Few-shot prompts are several times as long as the text they are asked about. Expanding their cache
to a batch costs memory and time in proportion to the batch; here every row attends to the one copy.

Shapes: B rows, T new tokens, P tokens of the shared prompt, S slots of a row's own tokens, H
attention heads, K key/value heads, G = H / K, D head size, L layers.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface

ATTENTION = "moos_shared_prefix"
"""Name of the attention implementation that a model must be loaded with."""


class SharedPrefixCache:
    """Keys and values of a shared prompt, and of each row's own tokens after it.

    Takes the place of a `transformers` cache: a layer hands its new keys and values to `update`.
    All rows write to the same slots; `attended` says which of them hold a token of the row.
    """

    def __init__(self, prefix: "SharedPrefixCache | None", num_rows: int, num_slots: int) -> None:
        self.num_rows = num_rows
        self.num_slots = num_slots
        self.filled = 0
        self.prefix = prefix
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._attended_BS: torch.Tensor | None = None

    @property
    def num_prefix_tokens(self) -> int:
        """P."""
        return 0 if self.prefix is None else self.prefix.filled

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of one layer's own tokens, each (B, K, filled, D)."""
        return self._keys[index][:, :, : self.filled], self._values[index][:, :, : self.filled]

    def update(
        self,
        keys_BKTD: torch.Tensor,
        values_BKTD: torch.Tensor,
        layer: int,
        *unused: Any,
        **more: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store a layer's new keys and values; all its own ones so far."""
        if layer == len(self._keys):
            B, K, _, D = keys_BKTD.shape
            self._keys.append(keys_BKTD.new_empty(B, K, self.num_slots, D))
            self._values.append(keys_BKTD.new_empty(B, K, self.num_slots, D))
        end = self.filled + keys_BKTD.shape[2]
        self._keys[layer][:, :, self.filled : end] = keys_BKTD
        self._values[layer][:, :, self.filled : end] = values_BKTD
        return self._keys[layer][:, :, :end], self._values[layer][:, :, :end]

    def get_seq_length(self, *_: Any) -> int:
        """Tokens before the new ones, as `transformers` asks for it."""
        return self.num_prefix_tokens + self.filled

    def adopt(self, parts: Sequence["SharedPrefixCache"]) -> None:
        """Begin with the rows of other caches of this shared prompt, one after the other.

        This cache must be empty and made for as many rows; the longest part says how many of its
        slots are in use then.
        """
        self.filled = max(part.filled for part in parts)
        attended_BS = torch.zeros(self.num_rows, self.filled, dtype=torch.bool)
        self._attended_BS = attended_BS.to(parts[0].attended.device)
        for index in range(len(parts[0]._keys)):
            _, K, _, D = parts[0]._keys[index].shape
            shape = (self.num_rows, K, self.num_slots, D)
            # Slots that no part fills are never attended to, but 0 times NaN would be NaN.
            self._keys.append(parts[0]._keys[index].new_zeros(shape))
            self._values.append(parts[0]._values[index].new_zeros(shape))
        start = 0
        for part in parts:
            rows = slice(start, start := start + part.num_rows)
            self._attended_BS[rows, : part.filled] = part.attended
            for index in range(len(self._keys)):
                keys, values = part.layer(index)
                self._keys[index][rows, :, : part.filled] = keys
                self._values[index][rows, :, : part.filled] = values

    @property
    def attended(self) -> torch.Tensor:
        """Which slots in use hold a token of their row, (B, filled)."""
        assert self._attended_BS is not None, "no token was fed yet"
        return self._attended_BS

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Go on with some of the rows alone, in the order given."""
        # In place: fresh tensors, smaller each time, would leave the heap in pieces that nothing
        # fits into again, gigabytes of them in an hour.
        for parts in (self._keys, self._values):
            for layer, part in enumerate(parts):
                part[: len(rows), :, : self.filled] = part[rows, :, : self.filled]
                parts[layer] = part[: len(rows)]
        self.num_rows = len(rows)
        if self._attended_BS is not None:
            self._attended_BS = self._attended_BS[rows]

    @torch.inference_mode()
    def forward(
        self,
        model: Any,
        ids_BT: torch.Tensor,
        positions_BT: torch.Tensor,
        is_token_BT: torch.Tensor,
    ) -> torch.Tensor:
        """Run the model on new tokens of every row; last hidden states (B, T, hidden size).

        Args:
            model: A causal model's inner model, loaded with the attention named `ATTENTION`.
            ids_BT: Token ids; any id where there is no token.
            positions_BT: Positions in the row, counted after the shared prompt.
            is_token_BT: False where a row has no token: nothing will attend to that slot.
        """
        B, T = ids_BT.shape
        before_BS = self._attended_BS
        attended_BS = is_token_BT if before_BS is None else torch.cat([before_BS, is_token_BT], 1)
        causal_TT = torch.ones(T, T, dtype=torch.bool, device=ids_BT.device).tril()
        mask_BTS = attended_BS[:, None, :].expand(B, T, -1).clone()
        mask_BTS[:, :, self.filled :] &= causal_TT
        # A slot without a token attends to itself, so that its softmax is of something.
        mask_BTS[:, torch.arange(T), self.filled + torch.arange(T)] = True
        output = model(
            input_ids=ids_BT,
            position_ids=positions_BT + self.num_prefix_tokens,
            attention_mask=mask_BTS[:, None],
            use_cache=True,
            shared_prefix=self.prefix,
            **{_cache_argument(model): self},
        )
        self.filled += T
        self._attended_BS = attended_BS
        hidden: torch.Tensor = output.last_hidden_state
        return hidden


def _cache_argument(model: Any) -> str:
    """The name under which a model takes its cache: transformers 5.24 changed it."""
    names = inspect.signature(model.forward).parameters
    return "cache" if "cache" in names else "past_key_values"


def attend(
    module: Any,
    query_BHTD: torch.Tensor,
    key_BKSD: torch.Tensor,
    value_BKSD: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    shared_prefix: SharedPrefixCache | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention to a row's own tokens and to the shared prompt's, in one softmax.

    The softmax of a 16-bit type adds up in 32 bits. Grouped-query heads are a dimension of the
    queries: keys and values are never repeated.

    Returns:
        The outputs, (B, T, H, D), and no weights.
    """
    B, H, T, D = query_BHTD.shape
    K = key_BKSD.shape[1]
    G = H // K
    query_BKMD = query_BHTD.reshape(B, K, G * T, D) * (D**-0.5 if scaling is None else scaling)
    own = (query_BKMD @ key_BKSD.transpose(2, 3)).view(B, K, G, T, -1)
    own = own.masked_fill(~attention_mask[:, :, None], -torch.inf).view(B, K, G * T, -1)
    if shared_prefix is None:
        weights = own.softmax(dim=-1)
        output = weights @ value_BKSD
    else:
        prefix_key_KPD, prefix_value_KPD = (
            part[0] for part in shared_prefix.layer(module.layer_idx)
        )
        # All rows' queries against one copy of the keys: one large matrix product per head.
        query_KND = query_BKMD.transpose(0, 1).reshape(K, B * G * T, D)
        shared = query_KND @ prefix_key_KPD.transpose(1, 2)
        P = shared.shape[-1]
        shared = shared.view(K, B, G * T, P).transpose(0, 1)
        scores = torch.cat([shared, own], dim=-1)
        weights = scores.softmax(dim=-1)
        of_shared = weights[..., :P].transpose(0, 1).reshape(K, B * G * T, P) @ prefix_value_KPD
        output = weights[..., P:] @ value_BKSD
        output = output + of_shared.view(K, B, G * T, D).transpose(0, 1)
    return output.view(B, K, G, T, D).view(B, H, T, D).transpose(1, 2), None


AttentionInterface.register(ATTENTION, attend)
