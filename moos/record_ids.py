"""What names a record: its id, as it is shown, and as bytes that tell whether two are the same."""

from contextlib import suppress

import pyarrow as pa

from moos.json_columns import JsonValue
from moos.text_columns import is_text_type, text_bytes


def field_id(fields: dict[str, JsonValue], id_column: str | None) -> str | None:
    """The id of a JSON record as text; None where there is none."""
    found = None if id_column is None else fields.get(id_column)
    if found is None or found.value is None:
        return None
    return found.value if isinstance(found.value, str) else found.raw


def row_id(row: pa.RecordBatch, id_column: str | None) -> str | None:
    """The id of a batch of one row as text; None where there is none that can be read."""
    if id_column is None or id_column not in row.schema.names:
        return None
    try:
        value = row.column(id_column)[0].as_py()
    except (OverflowError, ValueError):  # no UTF-8, or a date that Python lacks
        return None
    return None if value is None else str(value)


def field_key(found: JsonValue | None) -> bytes | None:
    """Bytes that are equal for equal ids of JSON records; None for no id.

    A string differs from a number: it begins with a quote.
    """
    if found is None or found.value is None:
        return None
    if isinstance(found.value, str):
        return b'"' + found.value.encode("utf-8", "surrogatepass")
    return found.raw.encode("utf-8")


def value_key(value: str | None) -> bytes | None:
    """The same for an id that stands in a file's path."""
    return None if value is None else f'"{value}'.encode()


def column_keys(column: pa.Array) -> list[bytes | None]:
    """The same for a column of ids; a number has the key that it has in JSON.

    A key depends on its value and the column's type alone, never on the other rows.
    """
    if is_text_type(column.type):
        return [None if value is None else b'"' + value for value in text_bytes(column)]
    if not _may_hold_bytes(column.type):
        with suppress(pa.ArrowNotImplementedError, pa.ArrowInvalid):  # nested; unknown time zones
            return text_bytes(column.cast(pa.string()))
    return [_repr_key(column, row) if column[row].is_valid else None for row in range(len(column))]


def _repr_key(column: pa.Array, row: int) -> bytes:
    try:
        return repr(column[row]).encode("utf-8")
    except (OverflowError, ValueError):  # it holds what Python lacks, such as a date after 9999
        one = pa.record_batch([column.slice(row, 1)], ["id"])
        return bytes(one.serialize().to_pybytes())


def _may_hold_bytes(kind: pa.DataType) -> bool:
    """True for types that Arrow casts to text only where every value is UTF-8."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
        or isinstance(kind, pa.BaseExtensionType)
    )
