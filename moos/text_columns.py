"""Arrow columns of text, whichever of its string types holds them; and rows of any type."""

from contextlib import suppress
from typing import Any, cast

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


def python_values(column: pa.Array) -> list[Any]:
    """The values of a column.

    What Python cannot hold, such as a date after 9999, is Arrow's text; None where there is none:
    in nested types, and in a time zone that is not known.
    """
    try:
        return cast("list[Any]", column.to_pylist())
    except (OverflowError, ValueError):
        return [_python_value(value) for value in column]


def python_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch, their values as `python_values` has them."""
    rows: list[dict[str, Any]] = [{} for _ in range(batch.num_rows)]
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for row, value in zip(rows, python_values(column), strict=True):
            row[name] = value
    return rows


def _python_value(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        with suppress(pa.ArrowNotImplementedError, pa.ArrowInvalid):
            return value.cast(pa.string()).as_py()
        return None
