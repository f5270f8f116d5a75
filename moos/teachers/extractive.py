"""A local causal language model as teacher, by extractive constrained decoding with soft labels.

The model is asked to compress a text by deleting words. At every word boundary it may only go on
with one of the next `skip + 1` words of the source, or stop when at most `skip` are left; inside a
word, only with the word's next token. So what it writes is a subsequence of the source by
construction, and every word of the source has been decided on. With p_j the probability of the
first token of candidate word j and p_end that of stopping, the label of a word is its hazard

    p_j / (p_j + sum of p_k over later candidates k + p_end)

the teacher's probability of keeping the word, given that it was reached (our construction). Of
candidates that begin with the same token, the earliest takes it.

Shapes: B rows, T tokens, C candidates, D hidden size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moos.errors import ModelError
from moos.pretrained import load_causal_model, load_tokenizer
from moos.teachers.prompts import Prompt
from moos.teachers.rules import Rules
from moos.teachers.shared_prefix import ATTENTION, SharedPrefixCache

_MARK = "\u241fTEXT\u241f"
_TINY = 1e-300
PREFILL_TOKENS = 2048
"""Prompt tokens, padding included, that run through the model together."""


@dataclass(frozen=True, slots=True)
class ExtractiveLabels:
    """What the teacher made of a text of W words.

    Attributes:
        keep: The words of its compression, shape (W,).
        labels: Probability that each word is kept given that it was reached, shape (W,).
    """

    keep: NDArray[np.bool_]
    labels: NDArray[np.float32]


@dataclass(slots=True)
class _Row:
    """A text on its way through the decoder; W words."""

    index: int
    prompt: list[int]
    opening: list[list[int]]  # tokens of each word where it begins the answer
    inner: list[list[int]]  # tokens of each word after another
    keep: NDArray[np.bool_]
    labels: NDArray[np.float32]
    next_word: int = 0
    pending: tuple[int, ...] = ()
    position: int = 0
    started: bool = False
    bar: float = 0.0  # log odds that a word must have to be kept

    def candidates(self, skip: int) -> list[int]:
        """First tokens of words that come next; -1 where an earlier one takes it.

        Also of some beyond reach, by which the odds of the last within reach are told.
        """
        words = self.inner if self.started else self.opening
        seen: set[int] = set()
        firsts = []
        for tokens in words[self.next_word : self.next_word + 2 * skip + 1]:
            firsts.append(-1 if tokens[0] in seen else tokens[0])
            seen.add(tokens[0])
        return firsts

    def decide(self, probabilities: NDArray[np.float64], may_end: bool, rules: Rules) -> bool:
        """Take the next word worth keeping and label the words passed; False to stop.

        Args:
            probabilities: Of each candidate, then of stopping (0 where it is no choice), (C + 1,).
            may_end: Stopping is a choice.
            rules: How far may be skipped, and how the bar moves.
        """
        log_p = np.log(np.maximum(probabilities, _TINY))
        log_later = np.log(np.maximum(np.cumsum(probabilities[::-1])[::-1][1:], _TINY))
        log_odds = log_p[:-1] - log_later
        reach = len(log_odds) if may_end else rules.skip + 1
        for offset in range(reach):
            margin = float(np.clip(log_odds[offset] - self.bar, -30.0, 30.0))
            self.labels[self.next_word + offset] = 1.0 / (1.0 + np.exp(-margin))
            self.bar = rules.move_bar(self.bar, margin >= 0.0)
            if margin >= 0.0:
                self._take(self.next_word + offset)
                return True
        if not may_end:  # the likeliest goes on; its label says that it was not worth it
            self._take(self.next_word + int(np.argmax(probabilities[:reach])))
        return not may_end

    def _take(self, word: int) -> None:
        self.keep[word] = True
        self.pending = tuple((self.inner if self.started else self.opening)[word])
        self.started = True
        self.next_word = word + 1


class ExtractiveTeacher:
    """A causal language model that labels words by how it would compress their text."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompt: Prompt,
        *,
        rules: Rules | None = None,
        batch_size: int = 32,
        on_progress: Callable[[], None] | None = None,
    ) -> None:
        """Compute the prompt's cache; see `load` for the arguments."""
        self._model = model
        self._tokenizer = tokenizer
        self._rules = rules or Rules()
        self._batch_size = batch_size
        self._on_progress = on_progress or (lambda: None)
        self._device = next(model.parameters()).device
        opening, self._tail = _split_template(tokenizer, prompt)
        self._end = int(tokenizer.eos_token_id)
        self._prefix = SharedPrefixCache(None, 1, len(opening))
        ids = torch.tensor([opening], device=self._device)
        positions = torch.arange(len(opening), device=self._device)[None]
        self._prefix.forward(model.model, ids, positions, torch.ones_like(ids, dtype=torch.bool))

    @classmethod
    def load(
        cls,
        path: str,
        prompt: Prompt,
        *,
        gguf_file: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        rules: Rules | None = None,
        batch_size: int = 32,
        on_progress: Callable[[], None] | None = None,
    ) -> "ExtractiveTeacher":
        """Load a causal language model and its tokenizer.

        Args:
            path: Directory or hub id.
            prompt: What the model is told.
            gguf_file: Name of a GGUF file in the directory, where the weights are one.
            device: Device of the model.
            dtype: Name of the torch type to compute in.
            rules: What it is held to; default `Rules()`.
            batch_size: Texts decoded together.
            on_progress: Called at every step.

        Raises:
            ModelError: The model cannot be loaded, or lacks what constrained decoding needs.
        """
        try:
            tokenizer = load_tokenizer(path, gguf_file=gguf_file)
            model = load_causal_model(
                path,
                gguf_file=gguf_file,
                dtype=getattr(torch, dtype),
                attn_implementation=ATTENTION,
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise ModelError(f"teacher {path} cannot be loaded: {error}") from error
        return cls(
            model.to(device).eval(),
            tokenizer,
            prompt,
            rules=rules,
            batch_size=batch_size,
            on_progress=on_progress,
        )

    def label(self, texts: Sequence[Sequence[str]]) -> Iterator[tuple[int, ExtractiveLabels]]:
        """Label texts given as their words; index and labels of each, as they are finished.

        A text without words has no labels.
        """
        rows = [self._make_row(index, words) for index, words in enumerate(texts)]
        rows.sort(key=lambda row: (len(row.inner), row.index))
        for start in range(0, len(rows), self._batch_size):
            yield from self._decode(rows[start : start + self._batch_size])

    def _make_row(self, index: int, words: Sequence[str]) -> _Row:
        def encode(parts: list[str]) -> list[list[int]]:
            return self._tokenizer(parts, add_special_tokens=False).input_ids if parts else []

        prompt = self._tokenizer(" ".join(words), add_special_tokens=False).input_ids
        return _Row(
            index=index,
            prompt=[*prompt, *self._tail],
            opening=encode(list(words[: 2 * self._rules.skip + 1])),
            inner=encode([f" {word}" for word in words]),
            keep=np.zeros(len(words), dtype=np.bool_),
            labels=np.full(len(words), np.nan, dtype=np.float32),
        )

    def _decode(self, rows: list[_Row]) -> Iterator[tuple[int, ExtractiveLabels]]:
        empty = [row for row in rows if not row.inner]
        active = [row for row in rows if row.inner]
        yield from ((row.index, ExtractiveLabels(row.keep, row.labels)) for row in empty)
        if not active:
            return
        longest = max(len(row.prompt) for row in active)
        most = max(sum(map(len, row.inner)) for row in active)
        cache = SharedPrefixCache(self._prefix, len(active), longest + most + 1)
        hidden_BD = self._prefill(cache, active)
        while True:
            going = self._advance(active, hidden_BD)
            yield from (
                (row.index, ExtractiveLabels(row.keep, row.labels))
                for row, goes in zip(active, going, strict=True)
                if not goes
            )
            left = [position for position, goes in enumerate(going) if goes]
            if not left:
                return
            if len(left) < len(active):
                cache.keep_rows(torch.tensor(left, device=self._device))
                active = [active[position] for position in left]
            hidden_BD = self._step(cache, active)

    def _prefill(self, cache: SharedPrefixCache, rows: list[_Row]) -> torch.Tensor:
        """Run the rows' own prompts; the hidden state of each one's last token, (B, D)."""
        parts, hidden = [], []
        lengths = [len(row.prompt) for row in rows]
        for some in _slices(lengths, PREFILL_TOKENS):
            self._on_progress()
            longest = max(lengths[some])
            parts.append(SharedPrefixCache(self._prefix, len(rows[some]), longest))
            ids_BT = torch.zeros(len(rows[some]), longest, dtype=torch.int64)
            for at, row in enumerate(rows[some]):
                ids_BT[at, : len(row.prompt)] = torch.tensor(row.prompt)
                row.position = len(row.prompt)
            lengths_B = torch.tensor(lengths[some], device=self._device)
            positions_BT = torch.arange(longest, device=self._device).expand(len(ids_BT), -1)
            hidden_BTD = parts[-1].forward(
                self._model.model,
                ids_BT.to(self._device),
                positions_BT,
                positions_BT < lengths_B[:, None],
            )
            hidden.append(hidden_BTD[torch.arange(len(ids_BT)), lengths_B - 1])
        cache.adopt(parts)
        return torch.cat(hidden)

    def _step(self, cache: SharedPrefixCache, rows: list[_Row]) -> torch.Tensor:
        """Feed each row its next token; hidden states (B, D)."""
        self._on_progress()
        ids, positions = [], []
        for row in rows:
            ids.append(row.pending[0])
            row.pending = row.pending[1:]
            positions.append(row.position)
            row.position += 1
        ids_BT = torch.tensor(ids, device=self._device)[:, None]
        positions_BT = torch.tensor(positions, device=self._device)[:, None]
        is_token_BT = torch.ones_like(ids_BT, dtype=torch.bool)
        return cache.forward(self._model.model, ids_BT, positions_BT, is_token_BT)[:, 0]

    @torch.inference_mode()
    def _advance(self, rows: list[_Row], hidden_BD: torch.Tensor) -> list[bool]:
        """Let rows at a word boundary decide; which rows go on."""
        deciding = [at for at, row in enumerate(rows) if not row.pending]
        if not deciding:
            return [True] * len(rows)
        firsts = [rows[at].candidates(self._rules.skip) for at in deciding]
        width = max(map(len, firsts))
        candidates_BC = torch.tensor(
            [[*row, *[-1] * (width - len(row)), self._end] for row in firsts], device=self._device
        )
        weights_BCD = self._model.lm_head.weight[candidates_BC.clamp(min=0)]
        logits_BC = torch.einsum("bcd,bd->bc", weights_BCD, hidden_BD[deciding]).float()
        logits_BC = logits_BC.masked_fill(candidates_BC < 0, -torch.inf)
        may_end = [len(rows[at].inner) - rows[at].next_word <= self._rules.skip for at in deciding]
        logits_BC[~torch.tensor(may_end, device=self._device), -1] = -torch.inf
        probabilities_BC = logits_BC.double().softmax(dim=-1).cpu().numpy()
        going = [True] * len(rows)
        decisions = zip(deciding, firsts, may_end, probabilities_BC, strict=True)
        for at, row_firsts, ends, p_C in decisions:
            p = np.append(p_C[: len(row_firsts)], p_C[-1])
            going[at] = rows[at].decide(p, ends, self._rules)
        return going


def _slices(lengths: Sequence[int], most: int) -> Iterator[slice]:
    """Runs of rows whose tokens, padded to the longest of the run, are at most `most`."""
    start, longest = 0, 0
    for at, length in enumerate(lengths):
        longest = max(longest, length)
        if at > start and (at + 1 - start) * longest > most:
            yield slice(start, at)
            start, longest = at, length
    if start < len(lengths):
        yield slice(start, len(lengths))


def _split_template(tokenizer: Any, prompt: Prompt) -> tuple[list[int], list[int]]:
    """Token ids before the text and between it and the answer, by the model's chat template.

    Raises:
        ModelError: The tokenizer has no chat template, or one that changes the text, or no end.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError("the teacher's tokenizer names no end token (eos_token)")
    if not tokenizer.chat_template:
        raise ModelError("the teacher has no chat template; take an instruction-tuned model")
    chat = tokenizer.apply_chat_template(
        prompt.messages(_MARK), tokenize=False, add_generation_prompt=True
    )
    parts = chat.split(_MARK)
    if len(parts) != 2:
        raise ModelError("the teacher's chat template does not hold the text once, unchanged")
    before, after = (tokenizer(part, add_special_tokens=False).input_ids for part in parts)
    return before, after
