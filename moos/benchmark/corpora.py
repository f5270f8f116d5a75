"""The texts that are compressed for a measurement: from this repository, or a file of the user's.

Every corpus is a function of its name, size and seed alone, and no network is needed. Beyond the
repository's some 0.5 million tokens texts come again; those of several parts are turned round then,
so that windows differ.
"""

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Literal, cast

import numpy as np
import pyarrow.parquet as pq

from moos.errors import ConfigError
from moos.tokens import TextTokenizer

CorpusName = Literal["meetings", "passages", "mixed", "huge"]
CORPORA: tuple[CorpusName, ...] = ("meetings", "passages", "mixed", "huge")

ROOT = Path(__file__).resolve().parents[2]
MEETINGS = ROOT / "configs" / "demo" / "meetings.parquet"
PASSAGES = ROOT / "configs" / "train" / "teacher-facts.parquet"

MIXED_MEDIAN_TOKENS = 150
MIXED_SIGMA = 1.5
"""Of the logarithm of a document's tokens: one document in a hundred has 33 times the median."""

MIXED_MAX_SHARE = 0.25
"""Most of the corpus that one document of it may be."""


def build_corpus(
    name: CorpusName, tokens: int, tokenizer: TextTokenizer, *, seed: int = 0
) -> list[str]:
    """The documents of a generated corpus, whose tokens sum to `tokens` within a few.

    Args:
        name: `meetings`: whole transcripts of some 8,000 tokens. `passages`: some 150 tokens each.
            `mixed`: log-normal lengths, as corpora have them. `huge`: one document.
        tokens: Size by the compressor's tokenizer, at least 1; the last document is cut to fit.
        tokenizer: The compressor's.
        seed: Of the order of passages, and of the lengths of `mixed`.

    Raises:
        ConfigError: The files are not there: moos is installed without its repository.
    """
    generator = np.random.default_rng(seed)
    if name == "meetings":
        return fill(repeat_texts(_read_texts(MEETINGS)), tokens, tokenizer)
    passages = _read_texts(PASSAGES)
    order = [passages[index] for index in generator.permutation(len(passages))]
    if name == "passages":
        return fill(repeat_texts(order), tokens, tokenizer)
    whole = "\n\n".join(fill(repeat_texts([*_read_texts(MEETINGS), *order]), tokens, tokenizer))
    if name == "huge":
        return [whole]
    return _cut_mixed(whole, tokenizer, generator)


def fill(texts: Iterator[str], tokens: int, tokenizer: TextTokenizer) -> list[str]:
    """Texts in order until they hold so many tokens; the last is cut at a token's end."""
    taken: list[str] = []
    left = tokens
    for text in texts:
        (found,) = tokenizer.tokenize([text])
        if len(found) >= left:
            return [*taken, text[: int(found.ends[left - 1])]]
        taken.append(text)
        left -= len(found)
    return taken


def repeat_texts(texts: Sequence[str]) -> Iterator[str]:
    """The texts without end; in each further pass their lines begin elsewhere."""
    turn = 0
    while True:
        for text in texts:
            lines = text.split("\n")
            start = (turn * (len(lines) // 7 + 1)) % len(lines)
            yield "\n".join([*lines[start:], *lines[:start]])
        turn += 1


def _cut_mixed(whole: str, tokenizer: TextTokenizer, generator: np.random.Generator) -> list[str]:
    """A text cut into documents of log-normal lengths in tokens."""
    (found,) = tokenizer.tokenize([whole])
    longest = max(1, int(MIXED_MAX_SHARE * len(found)))
    cuts = [0]
    while cuts[-1] < len(found):
        length = int(generator.lognormal(np.log(MIXED_MEDIAN_TOKENS), MIXED_SIGMA))
        cuts.append(min(len(found), cuts[-1] + min(max(length, 1), longest)))
    starts = [int(found.starts[cut]) for cut in cuts[:-1]] + [len(whole)]
    return [whole[a:b] for a, b in pairwise(starts)]


def _read_texts(path: Path) -> list[str]:
    try:
        return cast(list[str], pq.read_table(path, columns=["text"])["text"].to_pylist())
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error}): generated corpora come from the repository of moos; "
            "give input=FILE.jsonl, or work from a checkout (pip install -e .)"
        ) from error


def read_corpus(path: str, text_column: str, tokens: int, tokenizer: TextTokenizer) -> list[str]:
    """The texts of a JSONL file, up to so many tokens; the last is cut to fit.

    Args:
        path: `.jsonl`, or `.jsonl.gz`.
        text_column: Key of the text.
        tokens: Size by the compressor's tokenizer, at least 1.
        tokenizer: The compressor's.

    Raises:
        ConfigError: The file cannot be read, a line holds no text there, or there is no line.
    """
    opener = cast(Callable[..., IO[bytes]], gzip.open if path.endswith(".gz") else open)
    try:
        with opener(path, "rb") as lines:
            texts = fill(_parse_lines(lines, path, text_column), tokens, tokenizer)
    except (OSError, EOFError) as error:
        raise ConfigError(f"input={path} cannot be read: {error}") from error
    if not texts:
        raise ConfigError(f"input={path} holds no document")
    return texts


def _parse_lines(lines: Iterable[bytes], path: str, text_column: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)[text_column]
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"line {number} of input={path} has no text_column={text_column!r}: {error!r}"
            ) from error
        if not isinstance(text, str):
            raise ConfigError(f"line {number} of input={path}: {text_column!r} is no string")
        yield text
