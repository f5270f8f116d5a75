"""From text to tokens with character offsets: the only place that tokenises.

Everything after this step is an index into the original text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import regex
from numpy.typing import NDArray
from tokenizers import Tokenizer

from moos.errors import DataError, ModelError

# A longer text is encoded in pieces, so that memory stays bounded and pieces run in parallel.
PIECE_CHARS = 1 << 16
_SPACE_RUN = regex.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one text, without special tokens; the columns may be views of a group's.

    Attributes:
        ids: Vocabulary ids, shape (T,).
        starts: First character of each token, in code points of the text, shape (T,).
        ends: One past the last character of each token, shape (T,).
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)


class TextTokenizer:
    """A fast tokenizer that sees special tokens in a text as plain characters.

    A literal `[SEP]` or `<s>` in a document is text: it is encoded like any other characters.
    """

    def __init__(self, tokenizer_json: str) -> None:
        """Build from the text of a `tokenizer.json`.

        Raises:
            ModelError: The text is not a fast tokenizer.
        """
        try:
            self._tokenizer = Tokenizer.from_str(tokenizer_json)
        except Exception as error:
            raise ModelError(f"not a fast tokenizer (tokenizer.json): {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        probe = self._tokenizer.encode("a")
        special = np.array(probe.special_tokens_mask, dtype=bool)
        plain = np.flatnonzero(~special)
        first, last = (int(plain[0]), int(plain[-1])) if len(plain) else (len(special), -1)
        self.prefix_ids: list[int] = probe.ids[:first]
        """Special tokens that open every encoder input."""
        self.suffix_ids: list[int] = probe.ids[last + 1 :] if len(plain) else []
        """Special tokens that close every encoder input."""
        self._tokenizer.encode_special_tokens = True
        added = self._tokenizer.get_added_tokens_decoder()
        special_ids = [id_ for id_, token in added.items() if token.special]
        self._special_ids = np.array(special_ids, dtype=np.int32)

    @classmethod
    def from_file(cls, path: str | Path) -> "TextTokenizer":
        """Read a `tokenizer.json`.

        Raises:
            ModelError: The file cannot be read or is not a fast tokenizer.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"tokenizer {path} cannot be read: {error}") from error
        return cls(text)

    @cached_property
    def unknown_id(self) -> int | None:
        """Id of the unknown token, None for a tokenizer that has none."""
        token = getattr(self._tokenizer.model, "unk_token", None)
        if isinstance(token, str):
            return self._tokenizer.token_to_id(token)
        candidates = (self._tokenizer.token_to_id(name) for name in ("<unk>", "[UNK]"))
        return next((id_ for id_ in candidates if id_ is not None), None)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokens of each text; an empty text has none.

        Raises:
            DataError: A text holds a lone surrogate, which no UTF-8 tokenizer can read.
        """
        tokens, bounds = self.tokenize_group(texts)
        return [
            Tokens(tokens.ids[start:stop], tokens.starts[start:stop], tokens.ends[start:stop])
            for start, stop in pairwise(bounds.tolist())
        ]

    def tokenize_group(self, texts: Sequence[str]) -> tuple[Tokens, NDArray[np.int64]]:
        """Tokens of all texts end to end, each as characters of its own text.

        Returns:
            The tokens, and where those of each text begin and the last one's end, shape (N + 1,).

        Raises:
            DataError: A text holds a lone surrogate, which no UTF-8 tokenizer can read.
        """
        parts = [_cut(text) for text in texts]
        pieces = [piece for part in parts for _, piece in part]
        try:
            encodings = self._tokenizer.encode_batch(pieces, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:  # the latter from a batch
            raise DataError(f"text holds a lone surrogate: {error}") from error
        counts = [len(encoding) for encoding in encodings]
        ids = self._as_text(_flatten((encoding.ids for encoding in encodings), sum(counts)))
        # Two numbers a token, in one run: an array of a list of pairs takes twice as long.
        pairs = chain.from_iterable(encoding.offsets for encoding in encodings)
        offsets = _flatten(pairs, 2 * sum(counts)).reshape(-1, 2)
        cuts = np.array([cut for part in parts for cut, _ in part], dtype=np.int32)
        offsets += np.repeat(cuts, counts)[:, None]
        starts, ends = np.ascontiguousarray(offsets.T)
        piece_bounds = np.cumsum([0, *counts], dtype=np.int64)
        bounds = piece_bounds[np.cumsum([0, *map(len, parts)])]
        return Tokens(ids, starts, ends), bounds

    def _as_text(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Specials as unknown: a SentencePiece vocabulary holds `</s>` as a piece too."""
        if self.unknown_id is None or not len(self._special_ids):
            return ids
        return np.where(np.isin(ids, self._special_ids), np.int32(self.unknown_id), ids)

    def count(self, text: str) -> int:
        """Number of tokens of one text, without special tokens."""
        return len(self.tokenize([text])[0])


def check_text(text: str) -> None:
    """Refuse a text that UTF-8 cannot hold.

    Raises:
        DataError: The text holds a lone surrogate (half of a UTF-16 pair); the position is named.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise DataError(
            f"text holds the lone surrogate U+{code:04X} at character {error.start}, "
            "which is not valid Unicode text"
        ) from error


def _flatten(parts: Iterable[Iterable[int]], count: int) -> NDArray[np.int32]:
    return np.fromiter(chain.from_iterable(parts), dtype=np.int32, count=count)


def _cut(text: str) -> list[tuple[int, str]]:
    """The pieces to encode, each with its start: cut before white space where a piece holds any."""
    start, pieces = 0, []
    while len(text) - start > PIECE_CHARS:
        limit = start + PIECE_CHARS
        spaces = _SPACE_RUN.search(text, limit - PIECE_CHARS // 8, limit)
        stop = spaces.start() if spaces is not None else limit
        pieces.append((start, text[start:stop]))
        start = stop
    pieces.append((start, text[start:]))
    return pieces
