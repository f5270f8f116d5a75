"""A batch in a causal language model: its rows are fed tokens, and tell the likeliest next one.

Shapes: B rows, S tokens in the cache.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moos.evaluation.readers.batches import SharingPrompts


class Decoder:
    """The rows of a batch in a model, with their cache; pads are on the left of what is fed."""

    def __init__(self, model: Any) -> None:
        """Begin without rows: what is fed first says how many there are."""
        self._model = model
        accepted = inspect.signature(model.forward).parameters
        # transformers 5.24 changed the name, of the argument and of the result.
        self._cache_name = "cache" if "cache" in accepted else "past_key_values"
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self._cache: Any = None
        self._attended: torch.Tensor | None = None  # (B, S)

    def prefill(self, batch: Sequence[SharingPrompts]) -> list[int]:
        """Read what prompts share, then the rest of each; the likeliest next token of each."""
        if any(part.num_shared for part in batch):
            self.feed([part.shared for part in batch])
            self.take_rows([at for at, part in enumerate(batch) for _ in part.prompts])
        return self.feed([ids for part in batch for ids in part.own])

    @torch.inference_mode()
    def feed(self, tokens: Sequence[NDArray[Any]]) -> list[int]:
        """Read tokens of every row; the likeliest next one of each."""
        width = max(map(len, tokens))
        ids = np.zeros((len(tokens), width), dtype=np.int64)
        is_token = np.zeros((len(tokens), width), dtype=np.int64)
        for row, row_tokens in enumerate(tokens):
            ids[row, width - len(row_tokens) :] = row_tokens
            is_token[row, width - len(row_tokens) :] = 1
        device = self._model.device
        attended = torch.from_numpy(is_token).to(device)
        if self._attended is not None:
            attended = torch.cat([self._attended, attended], dim=1)
        positions = (attended.cumsum(dim=1) - 1).clamp(min=0)[:, -width:]
        output = self._model(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=attended,
            position_ids=positions,
            use_cache=True,
            **({} if self._cache is None else {self._cache_name: self._cache}),
            **self._options,
        )
        self._cache = getattr(output, self._cache_name)
        self._attended = attended
        next_ids: list[int] = output.logits[:, -1].float().argmax(dim=-1).tolist()
        return next_ids

    @torch.inference_mode()
    def take_rows(self, rows: Sequence[int]) -> None:
        """Go on with these rows in their order; one may be taken several times."""
        assert self._attended is not None, "nothing was fed yet"
        indices = torch.tensor(rows, device=self._attended.device)
        self._cache.batch_select_indices(indices)
        self._attended = self._attended[indices]
