"""A local causal language model as reader, which reads what prompts share once.

The beginnings of a batch run through the model together, and the rest of each prompt follows. Then
every prompt gets its likeliest token, until it ends; those that have ended leave the batch, and
others come where there is room again. Nothing is sampled, and what a model's `generation_config`
says of penalties is left aside.
"""

import hashlib
import json
import posixpath
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from moos.errors import DataError, ModelError, MoosError
from moos.evaluation.example import ReaderAnswer, ReaderPrompt
from moos.evaluation.readers.batches import Stay, TokenizedPrompt, WaitingPrompts
from moos.evaluation.readers.decoder import GroupDecoder, PlainDecoder, attention_of_groups
from moos.evaluation.readers.stopping import cut_at_stop, find_stop
from moos.labelling import choose_dtype
from moos.pretrained import load_causal_model, load_tokenizer
from moos.tokens import check_text

ENCODED_TOGETHER = 64
"""Prompts in one call of the tokenizer: lists of ids take 8 times as much memory as arrays."""
_SAMPLED = 64  # values of each weight that tell models apart


@dataclass(slots=True)
class _Row:
    """A prompt on its way to its answer."""

    index: int
    prompt: ReaderPrompt
    num_prompt_tokens: int
    stay: Stay
    ids: list[int] = field(default_factory=list)
    text: str = ""
    seconds: float = 0.0
    ended: bool = False


class LocalReader:
    """A causal language model that answers greedily, many prompts at a time.

    Up to rounding, an answer does not depend on the prompts beside it. Its seconds are its shares
    of the steps that it took part in, of prompts read together one share each: over all answers,
    they add up to the time that the model took. An answer's end token does not count as its own.
    Models with windowed or linear attention read every prompt whole.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, batch_tokens: int = 16384) -> None:
        """Take a model that is loaded; see `load`.

        Args:
            model: A causal language model of transformers, in its place and ready to infer.
            tokenizer: Its tokenizer.
            name: What reports call it; type and content of the weights are added.
            batch_tokens: Most tokens in the cache of a batch.

        Raises:
            ModelError: Neither the model nor the tokenizer names an end token.
        """
        self._model = model
        self._tokenizer = tokenizer
        self._batch_tokens = batch_tokens
        self._ends = _end_tokens(model, tokenizer)
        self._shares = _may_share(model)
        dtype = str(model.dtype).removeprefix("torch.")
        self.name = f"{name} ({dtype}, {_fingerprint(model, tokenizer, self._ends)})"

    @classmethod
    def load(
        cls,
        path: str,
        *,
        name: str | None = None,
        gguf_file: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        batch_tokens: int = 16384,
    ) -> "LocalReader":
        """Load a causal language model and its tokenizer.

        Args:
            path: Directory or hub id.
            name: What reports call it; None: the last part of the path.
            gguf_file: Name of a GGUF file in the directory, where the weights are one.
            device: Device of the model; None: CUDA where there is one, else the CPU.
            dtype: Name of the torch type to compute in; `auto` as `choose_dtype` takes it.
            batch_tokens: Most tokens in the cache of a batch.

        Raises:
            ModelError: The model cannot be loaded, or no end token is named.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        torch_dtype = getattr(torch, choose_dtype(dtype, device))
        try:
            tokenizer = load_tokenizer(path, gguf_file=gguf_file)
            model = load_causal_model(path, gguf_file=gguf_file, dtype=torch_dtype)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise ModelError(f"reader {path} cannot be loaded: {error}") from error
        name = name or posixpath.basename(path.rstrip("/")) or path
        return cls(model.to(device).eval(), tokenizer, name=name, batch_tokens=batch_tokens)

    def count(self, text: str) -> int:
        """Tokens of a text, special tokens left out."""
        check_text(text)
        return len(self._tokenizer(text, add_special_tokens=False).input_ids)

    def answer(
        self,
        prompts: Sequence[ReaderPrompt],
        on_answer: Callable[[int, ReaderAnswer], None] | None = None,
    ) -> list[ReaderAnswer]:
        """Answer prompts; the answers in their order. Nothing is read before all are checked.

        Args:
            prompts: The prompts.
            on_answer: Told each answer with its position, when its row ends.

        Raises:
            DataError: A prompt has no tokens, or leaves no room for its answer.
            ModelError: A prompt is a chat, and the model has no template for one.
            MoosError: The device has no memory for a batch.
        """
        answers: dict[int, ReaderAnswer] = {}
        with attention_of_groups(self._model) if self._shares else nullcontext():
            for row in self._read(prompts):
                answer = ReaderAnswer(row.text, row.num_prompt_tokens, len(row.ids), row.seconds)
                answers[row.index] = answer
                if on_answer is not None:
                    on_answer(row.index, answer)
        return [answers[index] for index in range(len(prompts))]

    def _tokenize(self, prompts: Sequence[ReaderPrompt]) -> list[TokenizedPrompt]:
        tokenized = []
        for chat in (False, True):
            indices = [index for index, prompt in enumerate(prompts) if prompt.chat == chat]
            for start in range(0, len(indices), ENCODED_TOGETHER):
                some = indices[start : start + ENCODED_TOGETHER]
                texts = [self._render(prompts[index]) for index in some]
                # A chat template has brought its own special tokens.
                encoded = self._tokenizer(texts, add_special_tokens=not chat).input_ids
                for index, ids in zip(some, encoded, strict=True):
                    most_new = prompts[index].max_new_tokens
                    self._check_length(index, len(ids), most_new)
                    group = (chat, prompts[index].shared) if self._shares else index
                    array = np.array(ids, dtype=np.int32)
                    tokenized.append(TokenizedPrompt(index, group, array, most_new))
        return tokenized

    def _check_length(self, index: int, num_tokens: int, max_new_tokens: int) -> None:
        if not num_tokens:
            raise DataError(f"prompt {index} has no tokens")
        room = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if room is not None and num_tokens + max_new_tokens > room:
            raise DataError(
                f"prompt {index} has {num_tokens} tokens and its answer up to {max_new_tokens}, "
                f"but {self.name} has room for {room} (max_position_embeddings); lower "
                "max_context_tokens of its task, or the budget"
            )

    def _render(self, prompt: ReaderPrompt) -> str:
        text = prompt.shared + prompt.own
        check_text(text)
        if not prompt.chat:
            return text
        if not self._tokenizer.chat_template:
            raise ModelError(
                f"{self.name} has no chat template; take an instruction-tuned model, or tasks that "
                "are no chat"
            )
        turns = [{"role": "user", "content": text}]
        rendered: str = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        return rendered

    def _read(self, prompts: Sequence[ReaderPrompt]) -> Iterator[_Row]:
        """The rows of all prompts, as they end."""
        decoder_class = GroupDecoder if self._shares else PlainDecoder
        may_join = decoder_class.may_join
        waiting = WaitingPrompts(self._tokenize(prompts), self._batch_tokens, may_join=may_join)
        decoder: Any = None
        active: list[_Row] = []
        try:
            while True:
                started = time.perf_counter()
                stay = waiting.admit()
                if stay is not None:
                    fresh = decoder_class(self._model)
                    stepped = _rows_of(stay, prompts)
                    active = [*active, *stepped]
                    next_ids = fresh.prefill(stay.parts)
                    if decoder is None:
                        decoder = fresh
                    else:
                        decoder.join(fresh)
                elif active:
                    stepped = active
                    next_ids = decoder.feed([np.array(row.ids[-1:]) for row in active])
                else:
                    return
                for row, next_id in zip(stepped, next_ids, strict=True):
                    self._advance(row, next_id)
                share = (time.perf_counter() - started) / len(stepped)
                for row in stepped:
                    row.seconds += share
                # The receiver's time is not the reader's.
                yield from (row for row in stepped if row.ended)
                going = [at for at, row in enumerate(active) if not row.ended]
                if not going:
                    decoder = None  # frees its memory before others come
                elif len(going) < len(active):
                    decoder.take_rows(going)
                active = [active[at] for at in going]
        except torch.cuda.OutOfMemoryError as error:
            raise MoosError(
                f"{self.name} has no memory for {len(active)} prompts at once; lower the reader's "
                f"batch_tokens ({self._batch_tokens}): {error}"
            ) from error

    def _advance(self, row: _Row, next_id: int) -> None:
        """Give a row its next token, which may end it."""
        row.ended = next_id in self._ends
        if not row.ended:
            row.ids.append(next_id)
            row.ended = len(row.ids) >= row.prompt.max_new_tokens
        if row.ended or row.prompt.stop:
            # The whole answer each time: what a token adds depends on those before it.
            text = self._tokenizer.decode(
                row.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            row.ended = row.ended or find_stop(text, row.prompt.stop) is not None
            row.text = cut_at_stop(text, row.prompt.stop)
        if row.ended:
            row.stay.num_going -= 1


def _rows_of(stay: Stay, prompts: Sequence[ReaderPrompt]) -> list[_Row]:
    """A row for each prompt that came into the model, in order."""
    return [
        _Row(prompt.index, prompts[prompt.index], len(prompt.ids), stay)
        for part in stay.parts
        for prompt in part.prompts
    ]


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """All tokens that end an answer: those named so, and those that begin or fill a text.

    No answer holds the latter. Where a text is completed, not a chat, a model may end with one of
    them, as Qwen2.5 does with `<|endoftext|>`, which GGUF files do not name as an end.

    Raises:
        ModelError: No end is named.
    """
    generation = model.generation_config
    named = getattr(generation, "eos_token_id", None)
    candidates = [*(named if isinstance(named, list | tuple) else [named]), tokenizer.eos_token_id]
    ends = {int(token) for token in candidates if token is not None}
    if not ends:
        raise ModelError("the reader names no end token (eos_token_id of generation_config.json)")
    others = [getattr(generation, f"{kind}_token_id", None) for kind in ("bos", "pad")]
    others += [tokenizer.bos_token_id, tokenizer.pad_token_id]
    return frozenset(ends.union(int(token) for token in others if token is not None))


def _may_share(model: Any) -> bool:
    """Its attention may be another's: one softmax over all tokens before, whatever lies between.

    A window is measured in slots of the cache, and would count pads.
    """
    config = model.config.get_text_config()
    if not model.is_backend_compatible():
        return False
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        return False
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return False
    window = getattr(config, "sliding_window", None)
    return window is None or not getattr(config, "use_sliding_window", True)


def _fingerprint(model: Any, tokenizer: Any, ends: frozenset[int]) -> str:
    """What tells models apart that share a name: of some of every weight, and of the tokenizer."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        values = weight.flatten()
        sample = values[:: max(1, len(values) // _SAMPLED)].float().cpu().numpy()
        digest.update(f"{name} {tuple(weight.shape)}".encode() + sample.tobytes())
    vocabulary = sorted(tokenizer.get_vocab().items())
    digest.update(json.dumps([vocabulary, tokenizer.chat_template, sorted(ends)]).encode())
    return digest.hexdigest()[:8]
