"""Arrow columns of text, whichever of its string types holds them; and rows of any type."""

from typing import cast

import pyarrow as pa


def is_text_type(kind: pa.DataType) -> bool:
    """True for the Arrow types that can be a text column."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def text_bytes(column: pa.Array) -> list[bytes | None]:
    """The UTF-8 bytes of a text column, undecoded: Parquet does not promise that they are valid."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.binary_view())
        return cast("list[bytes | None]", column.to_pylist())
    return cast("list[bytes | None]", column.cast(pa.large_binary()).to_pylist())


def take_rows(batch: pa.RecordBatch, rows: list[int]) -> pa.RecordBatch:
    """Some rows of a batch, in ascending order; of any type, where Arrow's `take` lacks some."""
    if len(rows) == batch.num_rows:
        return batch
    try:
        return batch.take(pa.array(rows, pa.int64()))
    except pa.ArrowNotImplementedError:  # string_view, at any depth
        table = pa.Table.from_batches([batch.slice(row, 1) for row in rows], batch.schema)
        return next(iter(table.combine_chunks().to_batches()), batch.slice(0, 0))
