"""What methods are given: the contexts of each task, their lengths, and who counts them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from moos.errors import ModelError
from moos.evaluation.example import Task
from moos.evaluation.reader_config import EndpointReaderConfig, LocalReaderConfig
from moos.tokens import TextTokenizer, Tokens
from pipelines.evaluate_config import EvaluateConfig

TOKENIZER_JSON = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class BudgetTokenizer:
    """What budgets are counted by, for every method alike.

    Attributes:
        path: Where it is from.
        tokenizer: The tokenizer.
        sha256: Hash of its `tokenizer.json`.
    """

    path: str
    tokenizer: TextTokenizer
    sha256: str


@dataclass(frozen=True, slots=True)
class ContextSet:
    """The different contexts of a task, or the documents that retention is measured on.

    Attributes:
        name: The task.
        texts: The contexts, each once, in their order.
        num_tokens: Tokens of each.
        num_cut: Contexts that lost their middle.
    """

    name: str
    texts: tuple[str, ...]
    num_tokens: tuple[int, ...]
    num_cut: int = 0


def load_budget_tokenizer(config: EvaluateConfig) -> BudgetTokenizer:
    """The tokenizer that the config names, else the reader's own.

    Raises:
        ModelError: It cannot be read, or the reader has no fast one.
    """
    reader = config.reader
    if config.budget_tokenizer is not None:
        return _read_tokenizer(config.budget_tokenizer)
    if isinstance(reader, EndpointReaderConfig):
        return _read_tokenizer(reader.tokenizer)
    assert reader is not None, "the config is checked: without a reader it names a tokenizer"
    own = Path(reader.path) / TOKENIZER_JSON
    if reader.gguf_file is None and own.is_file():
        return _read_tokenizer(str(own))
    return _convert_tokenizer(reader)


def _read_tokenizer(path: str) -> BudgetTokenizer:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"tokenizer {path} cannot be read: {error}") from error
    return _build_tokenizer(path, text)


def _convert_tokenizer(reader: LocalReaderConfig) -> BudgetTokenizer:
    """The tokenizer of a hub id, or of a GGUF file, which holds it in another form."""
    from moos.pretrained import load_tokenizer  # takes seconds to import

    try:
        tokenizer = load_tokenizer(reader.path, gguf_file=reader.gguf_file)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"reader {reader.path} has no tokenizer: {error}") from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"reader {reader.path} has no fast tokenizer; set budget_tokenizer to a tokenizer.json"
        )
    return _build_tokenizer(reader.path, tokenizer.backend_tokenizer.to_str())


def _build_tokenizer(path: str, text: str) -> BudgetTokenizer:
    return BudgetTokenizer(path, TextTokenizer(text), hash_text(text))


def hash_text(text: str) -> str:
    """SHA-256 of a text, also of one with lone surrogates."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def name_context(text: str) -> str:
    """What rows call a context: the first 8 hex digits of its hash."""
    return hash_text(text)[:8]


def cut_contexts(task: Task, tokenizer: TextTokenizer) -> tuple[Task, ContextSet]:
    """A task with its longest contexts cut, and its different contexts.

    Raises:
        DataError: A context is not valid Unicode.
    """
    texts = list(dict.fromkeys(example.context for example in task.examples))
    tokenized = tokenizer.tokenize(texts)
    most = task.max_context_tokens
    cut = {
        text: text if most is None else cut_middle(text, tokens, most)
        for text, tokens in zip(texts, tokenized, strict=True)
    }
    examples = tuple(replace(each, context=cut[each.context]) for each in task.examples)
    # Two contexts may differ in their middles alone.
    left = list(dict.fromkeys(cut.values()))
    counts = [len(tokens) for tokens in tokenizer.tokenize(left)]
    num_cut = sum(text != short for text, short in cut.items())
    return replace(task, examples=examples), ContextSet(
        task.name, tuple(left), tuple(counts), num_cut
    )


def cut_middle(text: str, tokens: Tokens, max_tokens: int) -> str:
    """The text's first and last half of so many tokens, as slices of it.

    As LongBench, `pred.py:get_pred`, which decodes the tokens of both halves instead; a text of at
    most `max_tokens` tokens stays whole. Encoded again, the cut may have a token more or less.

    Args:
        text: The text.
        tokens: Its tokens.
        max_tokens: Most tokens, at least 2.
    """
    if len(tokens) <= max_tokens:
        return text
    half = max_tokens // 2
    end, start = int(tokens.ends[half - 1]), int(tokens.starts[-half])
    return text[:end] + text[max(start, end) :]


def gather_texts(name: str, texts: Sequence[str], tokenizer: TextTokenizer) -> ContextSet:
    """Texts that belong to no task, each once.

    Raises:
        DataError: A text is not valid Unicode.
    """
    different = tuple(dict.fromkeys(texts))
    counts = tuple(len(tokens) for tokens in tokenizer.tokenize(different))
    return ContextSet(name, different, counts)
