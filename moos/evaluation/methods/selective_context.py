"""How much each word surprises a causal language model: Selective-Context (arXiv 2310.06201).

As in the authors' package (github.com/liyucheng09/Selective_Context), a unit's self-information is
the mean of its tokens' `-ln p(token | tokens before it)`. Units are words here, as for every other
method, not noun phrases; and tokens follow what stands before them in the context, not in their own
sentence alone.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from moos.errors import ModelError
from moos.labelling import choose_dtype
from moos.pretrained import load_causal_model, load_tokenizer
from moos.scores import reduce_to_words
from moos.tokens import TextTokenizer
from moos.words import Words, map_tokens


class SurprisalScorer:
    """Scores words by a causal language model, each text once however often it is asked for."""

    def __init__(
        self, model: Any, tokenizer: TextTokenizer, *, first_id: int, window_tokens: int = 512
    ) -> None:
        """Take a model that is loaded; see `load`.

        Args:
            model: A causal language model of transformers, in its place and ready to infer.
            tokenizer: Its tokenizer.
            first_id: Token that every window begins with, so that the first of the text follows
                one, too.
            window_tokens: Tokens of a window, the first included; at most what the model is built
                for.
        """
        self._model = model
        self._tokenizer = tokenizer
        self._first_id = first_id
        most = getattr(model.config.get_text_config(), "max_position_embeddings", window_tokens)
        self._window_tokens = min(window_tokens, int(most))
        self._scored: dict[str, NDArray[np.float32]] = {}

    @classmethod
    def load(
        cls,
        path: str,
        *,
        gguf_file: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        window_tokens: int = 512,
    ) -> "SurprisalScorer":
        """Load a causal language model and its tokenizer.

        Args:
            path: Directory or hub id.
            gguf_file: Name of a GGUF file in the directory, where the weights are one.
            device: Device of the model; None: CUDA where there is one, else the CPU.
            dtype: Name of the torch type to compute in; `auto` as `choose_dtype` takes it.
            window_tokens: As in `__init__`.

        Raises:
            ModelError: The model cannot be loaded, its tokenizer is not a fast one, or names
                neither a first nor an end token.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        torch_dtype = getattr(torch, choose_dtype(dtype, device))
        try:
            tokenizer = load_tokenizer(path, gguf_file=gguf_file)
            model = load_causal_model(path, gguf_file=gguf_file, dtype=torch_dtype)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise ModelError(f"model {path} of selective-context cannot be loaded: {error}") from (
                error
            )
        if not tokenizer.is_fast:
            raise ModelError(f"model {path} of selective-context has no fast tokenizer")
        named = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        first_id = next((token_id for token_id in named if token_id is not None), None)
        if first_id is None:
            raise ModelError(
                f"model {path} of selective-context names neither a first nor an end token "
                "(bos_token or eos_token of tokenizer_config.json)"
            )
        return cls(
            model.to(device).eval(),
            TextTokenizer(tokenizer.backend_tokenizer.to_str()),
            first_id=int(first_id),
            window_tokens=window_tokens,
        )

    def __call__(self, text: str, words: Words) -> NDArray[np.float32]:
        """Self-information of each word in nats, rounded to 1/4096, shape (W,)."""
        if text not in self._scored:
            (tokens,) = self._tokenizer.tokenize([text])
            surprisal = self._surprisal(tokens.ids)
            owners = map_tokens(tokens, words)
            self._scored[text] = reduce_to_words(surprisal, owners, len(words))
        return self._scored[text]

    @torch.inference_mode()
    def _surprisal(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """`-ln p` of each token, shape (T,)."""
        values = np.zeros(len(ids), dtype=np.float32)
        for start, own_start, end in plan_halves(len(ids), self._window_tokens - 1):
            window = torch.tensor([[self._first_id, *ids[start:end].tolist()]])
            window = window.to(self._model.device)
            logits = self._model(input_ids=window, use_cache=False).logits[0]
            predicted = logits[own_start - start : -1].float()
            own = window[0, 1 + own_start - start :]
            values[own_start:end] = functional.cross_entropy(predicted, own, reduction="none").cpu()
        return values


def plan_halves(num_tokens: int, window_tokens: int) -> Iterator[tuple[int, int, int]]:
    """Windows as (start, first token of its own, end); every token is one window's own.

    A window but the first owns its second half, so that its tokens have at least the other half
    before them.
    """
    end = min(num_tokens, window_tokens)
    if end:
        yield 0, 0, end
    while end < num_tokens:
        own_start, end = end, min(num_tokens, end + max(1, window_tokens // 2))
        yield max(0, end - window_tokens), own_start, end
