"""The row contract: the columns of ours, and Arrow columns from compressed documents."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from moos.chunks import Chunk
from moos.document import CompressedDocument, WordTable
from moos.errors import ConfigError

Annotations = Literal["kept", "all", "none"]

EXTRA_JSON = "extra_json"
SPANS_TYPE = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))
CHUNKS = "chunks"
CHUNKS_TYPE = pa.list_(
    pa.struct(
        [
            ("index", pa.int32()),
            ("text", pa.string()),
            ("start", pa.int32()),
            ("end", pa.int32()),
            ("num_tokens", pa.int32()),
            ("kept_spans", SPANS_TYPE),
        ]
    )
)
_WORD_FIELDS = [
    ("start", pa.int32()),
    ("end", pa.int32()),
    ("preserve_probability", pa.float32()),
    ("outlier_score", pa.float32()),
    ("score", pa.float32()),
    ("protected", pa.bool_()),
]


def annotation_schema(annotations: Annotations, *, chunks: bool = False) -> pa.Schema:
    """The columns that moos adds to every row, in order."""
    fields = [
        ("compressed_text", pa.string()),
        ("kept_spans", SPANS_TYPE),
        ("num_tokens", pa.int32()),
        ("num_kept_tokens", pa.int32()),
        ("rate", pa.float32()),
        ("over_budget", pa.bool_()),
    ]
    if annotations != "none":
        fields.append(("kept_words", pa.list_(pa.struct(word_fields(annotations)))))
    if chunks:
        fields.append((CHUNKS, CHUNKS_TYPE))
    return pa.schema(fields)


def word_fields(annotations: Annotations) -> list[tuple[str, pa.DataType]]:
    """The fields of one entry of `kept_words`."""
    return [*_WORD_FIELDS, ("kept", pa.bool_())] if annotations == "all" else _WORD_FIELDS


RESERVED_COLUMNS = (*annotation_schema("kept").names, EXTRA_JSON)
"""Names that no input column may have, whatever of ours a run leaves out."""


def reserved_columns(*, chunks: bool) -> frozenset[str]:
    """The same of a run that writes chunks or none."""
    return frozenset([*RESERVED_COLUMNS, *([CHUNKS] if chunks else [])])


def output_schema(
    input_schema: pa.Schema, annotations: Annotations, *, chunks: bool = False
) -> pa.Schema:
    """The schema of every row of a run: the input's columns, then ours.

    Raises:
        ConfigError: An input column is named like one of ours, or twice.
    """
    check_columns(input_schema.names, reserved_columns(chunks=chunks))
    return pa.schema([*input_schema, *annotation_schema(annotations, chunks=chunks)])


def check_columns(names: Sequence[str], reserved: Collection[str] = RESERVED_COLUMNS) -> None:
    """Refuse input columns that collide with ours or with each other.

    Args:
        names: The input's columns.
        reserved: Those of ours.

    Raises:
        ConfigError: As said.
    """
    taken = [name for name in names if name in reserved]
    if taken:
        raise ConfigError(
            f"input column {taken[0]!r} is named like one that moos adds; rename it in the input"
        )
    doubled = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubled:
        raise ConfigError(f"input column {doubled[0]!r} occurs twice; rename one of the two")


def annotation_columns(
    documents: Sequence[CompressedDocument], annotations: Annotations, *, chunks: bool = False
) -> list[pa.Array]:
    """The added columns of a batch of documents, in the order of `annotation_schema`.

    Args:
        documents: The documents; where `chunks` is set, they were cut.
        annotations: Words that are listed.
        chunks: The chunks are among the columns.
    """
    spans = [np.array(d.spans, dtype=np.int32).reshape(-1, 2) for d in documents]
    flat = np.concatenate(spans) if spans else np.zeros((0, 2), dtype=np.int32)
    columns = [
        pa.array([d.text for d in documents], pa.string()),
        _list_array(
            [len(part) for part in spans],
            pa.StructArray.from_arrays(
                [pa.array(flat[:, 0]), pa.array(flat[:, 1])], ["start", "end"]
            ),
        ),
        pa.array([d.num_tokens for d in documents], pa.int32()),
        pa.array([d.num_kept_tokens for d in documents], pa.int32()),
        pa.array([d.rate for d in documents], pa.float32()),
        pa.array([d.over_budget for d in documents], pa.bool_()),
    ]
    if annotations != "none":
        columns.append(_word_column([d.word_table for d in documents], annotations))
    if chunks:
        columns.append(pa.array([chunk_rows(d.chunks) for d in documents], CHUNKS_TYPE))
    return columns


def chunk_rows(chunks: Sequence[Chunk]) -> list[dict[str, Any]]:
    """The entries of the column `chunks` of one document."""
    return [
        {
            "index": chunk.index,
            "text": chunk.text,
            "start": chunk.start,
            "end": chunk.end,
            "num_tokens": chunk.num_tokens,
            "kept_spans": [{"start": start, "end": end} for start, end in chunk.spans],
        }
        for chunk in chunks
    ]


def _word_column(tables: Sequence[WordTable], annotations: Annotations) -> pa.Array:
    masks = [t.kept if annotations == "kept" else np.ones_like(t.kept) for t in tables]

    def gather(pick: Any, dtype: Any) -> pa.Array:
        parts = [pick(table)[mask] for table, mask in zip(tables, masks, strict=True)]
        return pa.array(np.concatenate(parts) if parts else np.zeros(0, dtype=dtype))

    fields = [
        gather(lambda t: t.words.starts, np.int32),
        gather(lambda t: t.words.ends, np.int32),
        gather(lambda t: t.preserve_probability, np.float32),
        gather(lambda t: t.outlier_score, np.float32),
        gather(lambda t: t.score, np.float32),
        gather(lambda t: t.protected, np.bool_),
    ]
    if annotations == "all":
        fields.append(gather(lambda t: t.kept, np.bool_))
    names = [name for name, _ in word_fields(annotations)]
    return _list_array(
        [int(mask.sum()) for mask in masks], pa.StructArray.from_arrays(fields, names)
    )


def _list_array(lengths: Sequence[int], values: pa.Array) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def annotation_rows(
    documents: Sequence[CompressedDocument], annotations: Annotations, *, chunks: bool = False
) -> list[dict[str, Any]]:
    """The added columns as one plain mapping per document, for JSONL."""
    table = pa.Table.from_arrays(
        annotation_columns(documents, annotations, chunks=chunks),
        schema=annotation_schema(annotations, chunks=chunks),
    )
    rows: list[dict[str, Any]] = table.to_pylist()
    for row, document in zip(rows, documents, strict=True):
        row["rate"] = round(document.rate, 6)
    return rows
