"""Word scores as a table: what a corpus rate keeps between its two passes.

Four small numbers and a flag per word; the words themselves are cut again from the text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moos.corpus import score_levels
from moos.joined_texts import join_texts
from moos.scored_text import ProtectedText, ScoredText
from moos.scores import GRID

_WORD = pa.struct(
    [
        ("token_count", pa.int32()),
        ("preserve_probability", pa.uint16()),
        ("outlier_score", pa.uint16()),
        ("score", pa.uint16()),
        ("protected", pa.bool_()),
    ]
)
SCORE_SCHEMA = pa.schema(
    [
        ("position", pa.int64()),
        ("reason", pa.string()),
        ("num_tokens", pa.int32()),
        ("num_unknown_tokens", pa.int32()),
        ("num_letters", pa.int32()),
        ("num_non_latin_letters", pa.int32()),
        ("words", pa.list_(_WORD)),
    ]
)
"""One row per document, in order; scores in 1/4096; `reason` where it could not be scored."""


@dataclass(frozen=True, slots=True)
class StoredText:
    """A text with the row of the score table that belongs to it.

    Attributes:
        text: The text.
        row: The row.
    """

    text: str
    row: "StoredScores"


@dataclass(frozen=True, slots=True)
class StoredScores:
    """One row of a score table; columns have the shape (W,), scores are in 1/4096."""

    reason: str | None
    num_tokens: int
    num_unknown_tokens: int
    num_letters: int
    num_non_latin_letters: int
    token_counts: NDArray[np.int32]
    preserve_probability: NDArray[np.uint16]
    outlier_score: NDArray[np.uint16]
    score: NDArray[np.uint16]
    protected: NDArray[np.bool_]


def build_score_rows(
    positions: Sequence[int],
    texts: Sequence[ScoredText],
    protected: Sequence[NDArray[np.bool_]],
) -> pa.RecordBatch:
    """The rows of some scored texts.

    Args:
        positions: Position of each record in its file.
        texts: The texts, scored.
        protected: The protected words of each, shape (W,).
    """
    words = pa.StructArray.from_arrays(
        [
            _flat([t.token_counts for t in texts], np.int32),
            _flat([score_levels(t.preserve_probability) for t in texts], np.uint16),
            _flat([score_levels(t.outlier_score) for t in texts], np.uint16),
            _flat([score_levels(t.score) for t in texts], np.uint16),
            _flat(list(protected), np.bool_),
        ],
        fields=list(_WORD),
    )
    offsets = np.concatenate([[0], np.cumsum([len(t.words) for t in texts])]).astype(np.int32)
    return pa.record_batch(
        [
            pa.array(positions, pa.int64()),
            pa.nulls(len(texts), pa.string()),
            pa.array([t.num_tokens for t in texts], pa.int32()),
            pa.array([t.num_unknown_tokens for t in texts], pa.int32()),
            pa.array([t.num_letters for t in texts], pa.int32()),
            pa.array([t.num_non_latin_letters for t in texts], pa.int32()),
            pa.ListArray.from_arrays(pa.array(offsets), words),
        ],
        schema=SCORE_SCHEMA,
    )


def build_reason_rows(reasons: dict[int, str]) -> pa.RecordBatch:
    """Rows of documents that could not be scored: why, by their position."""
    nothing = pa.nulls(len(reasons), pa.int32())
    return pa.record_batch(
        [
            pa.array(list(reasons), pa.int64()),
            pa.array(list(reasons.values()), pa.string()),
            *(nothing for _ in SCORE_SCHEMA.names[2:-1]),
            pa.nulls(len(reasons), pa.list_(_WORD)),
        ],
        schema=SCORE_SCHEMA,
    )


def write_scores(batches: Sequence[pa.RecordBatch]) -> bytes:
    """A score table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_batches(batches, SCORE_SCHEMA), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def read_scores(data: bytes) -> dict[int, StoredScores]:
    """The rows of a score table by position."""
    table = pq.read_table(pa.BufferReader(data), schema=SCORE_SCHEMA)
    return {position: row for batch in table.to_batches() for position, row in _iterate_rows(batch)}


def _iterate_rows(batch: pa.RecordBatch) -> Iterator[tuple[int, StoredScores]]:
    words = batch.column("words")
    offsets = words.offsets.to_numpy()
    columns = [words.values.field(i).to_numpy(zero_copy_only=False) for i in range(len(_WORD))]
    plain = [batch.column(name).to_pylist() for name in SCORE_SCHEMA.names[:-1]]
    for index, (position, reason, tokens, unknown, letters, non_latin) in enumerate(
        zip(*plain, strict=True)
    ):
        part = slice(offsets[index], offsets[index + 1])
        counts, probability, outlier, score, protected = (column[part] for column in columns)
        yield (
            position,
            StoredScores(
                reason=reason,
                num_tokens=tokens or 0,
                num_unknown_tokens=unknown or 0,
                num_letters=letters or 0,
                num_non_latin_letters=non_latin or 0,
                token_counts=counts,
                preserve_probability=probability,
                outlier_score=outlier,
                score=score,
                protected=protected,
            ),
        )


def restore_scores(stored: Sequence[StoredText]) -> list[ProtectedText] | None:
    """The scored texts and their protected words; None where the words are not those scored."""
    all_words = join_texts([text.text for text in stored]).split_words()
    texts = []
    for text, words in zip(stored, all_words, strict=True):
        row = text.row
        if len(words) != len(row.score):
            return None
        scored = ScoredText(
            text=text.text,
            words=words,
            token_counts=row.token_counts.astype(np.int32),
            preserve_probability=_unit(row.preserve_probability),
            outlier_score=_unit(row.outlier_score),
            score=_unit(row.score),
            num_tokens=row.num_tokens,
            num_unknown_tokens=row.num_unknown_tokens,
            num_letters=row.num_letters,
            num_non_latin_letters=row.num_non_latin_letters,
        )
        texts.append(ProtectedText(scored, row.protected.astype(np.bool_)))
    return texts


def _flat(parts: Sequence[NDArray[np.generic]], dtype: type[np.generic]) -> pa.Array:
    joined = np.concatenate(parts) if parts else np.zeros(0)
    return pa.array(joined.astype(dtype))


def _unit(levels: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (levels / np.float64(GRID)).astype(np.float32)
