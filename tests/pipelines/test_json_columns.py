"""JSON values in typed columns: what fits exactly is a column's, the rest stays raw JSON."""

import json
import math
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos.json_columns import (
    MAX_COLUMNS,
    MAX_NESTING,
    build_columns,
    infer_schema,
    parse_record,
)
from moos.schema import EXTRA_JSON

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 66), 1 << 66),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["\ud800", "\u2028", "\x00", "é"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
# Few keys, so that the same key comes with values of different types.
OBJECTS = st.dictionaries(st.sampled_from(["text", "a", "b", "c", "", 'k\n"', "é"]), VALUES)


def same(left: object, right: object) -> bool:
    return repr(left) == repr(right)  # NaN equals itself, 1 is not 1.0, True is not 1


@given(OBJECTS, st.sampled_from([None, 1]), st.booleans(), st.sampled_from(["", " ", "\t\r "]))
def test_a_record_parses_as_the_json_module_does_and_keeps_its_characters(
    record, indent, ascii_only, space
):
    line = json.dumps(record, indent=indent, ensure_ascii=ascii_only).replace("\n", " ")
    line = f"{space}{line}{space}"
    fields = parse_record(line)
    loaded = json.loads(line)
    assert same({key: field.value for key, field in fields.items()}, loaded)
    for field in fields.values():
        assert field.raw in line
        assert same(json.loads(field.raw), field.value)


@given(st.text(alphabet='{}[]":,.-0123456789eE \t\\utrfalsn\u00a0\ufeff', max_size=24))
def test_what_the_json_module_refuses_is_refused(line):
    try:
        loaded = json.loads(line)
    except (ValueError, RecursionError):
        loaded = None
    if isinstance(loaded, dict):
        assert same({k: f.value for k, f in parse_record(line).items()}, loaded)
    else:
        with pytest.raises(ValueError, match=r"."):
            parse_record(line)


@pytest.mark.parametrize("text", ["1.10", "-0", "1e5", "1E+05", "123456789012345678901234567890"])
def test_a_number_keeps_the_form_it_was_written_in(text):
    assert parse_record(f'{{"n": {text}}}')["n"].raw == text


def test_of_equal_keys_the_last_counts():
    assert parse_record('{"a": 1, "b": 2, "a": 3}')["a"].value == 3


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([1.0], pa.float64()),
        ([True, False], pa.bool_()),
        (["a", "b"], pa.string()),
        ([None, "b"], pa.string()),
        (["a", 1, 2], pa.int64()),  # what most values are
        ([None], None),
        ([[1]], None),
        ([{"x": 1}, {"x": 2}, "a"], None),
    ],
)
def test_a_column_takes_the_type_that_most_values_have(values, kind):
    schema = infer_schema([{"text": "t", "v": value} for value in values], "text")
    assert schema.names[-1] == EXTRA_JSON
    assert (schema.field("v").type if "v" in schema.names else None) == kind


def test_the_text_is_a_string_column_whatever_was_sampled():
    schema = infer_schema([{"text": 1}, {"text": None}], "text")
    assert schema.field("text").type == pa.string()


def test_columns_come_in_order_of_appearance():
    schema = infer_schema([{"b": 1, "text": "t"}, {"a": 1}], "text")
    assert schema.names == ["b", "text", "a", EXTRA_JSON]


@pytest.mark.parametrize(
    ("kind", "raw", "fits"),
    [
        (pa.int64(), "9223372036854775807", True),
        (pa.int64(), "9223372036854775808", False),
        (pa.int64(), "-9223372036854775808", True),
        (pa.int64(), "1.0", False),
        (pa.int64(), "true", False),
        (pa.int64(), '"1"', False),
        (pa.float64(), "1", True),
        (pa.float64(), "9007199254740993", False),  # no float is that
        (pa.float64(), "0.1", True),
        (pa.float64(), "0.1000000000000000055511151231257827", False),  # more than the float prints
        (pa.float64(), "1e400", False),
        (pa.float64(), "Infinity", True),
        (pa.float64(), "NaN", True),
        (pa.float64(), "1e-400", False),
        (pa.float64(), "true", False),
        (pa.bool_(), "true", True),
        (pa.bool_(), "1", False),
        (pa.string(), '"a"', True),
        (pa.string(), '"\\ud800"', False),  # no column of strings can hold a lone surrogate
        (pa.string(), "1", False),
        (pa.string(), '["a"]', False),
        (pa.float64(), "1e-99999999999999999999", False),  # beyond even decimal arithmetic
        (pa.float64(), "0e99999999999999999999", False),
    ],
)
def test_a_value_that_does_not_fit_stays_raw(kind, raw, fits):
    schema = pa.schema([pa.field("v", kind), pa.field(EXTRA_JSON, pa.string())])
    value, extra = (
        column[0].as_py() for column in build_columns([parse_record(f'{{"v": {raw}}}')], schema)
    )
    if fits:
        assert extra is None
        assert same(value, type(value)(json.loads(raw)))
    else:
        assert value is None
        assert extra == f'{{"v": {raw}}}'


@given(st.lists(OBJECTS, min_size=1, max_size=5), st.integers(1, 5))
def test_nothing_is_lost(records, num_sampled):
    schema = infer_schema(records[:num_sampled], "text")
    parsed = [parse_record(json.dumps(record)) for record in records]
    columns = build_columns(parsed, schema)
    assert [column.type for column in columns] == schema.types
    for row, record in enumerate(records):
        found = {
            name: column[row].as_py() for name, column in zip(schema.names, columns, strict=True)
        }
        extra = json.loads(found.pop(EXTRA_JSON) or "{}")
        recovered = {k: v for k, v in found.items() if v is not None} | extra
        # A null is no value: a column cannot tell it from an absent key.
        expected = {k: v for k, v in record.items() if v is not None}
        assert recovered.keys() == expected.keys()
        for key, value in expected.items():
            assert same(recovered[key], value) or (
                recovered[key] == value and type(value) is int and type(recovered[key]) is float
            )


def test_extra_values_keep_their_raw_form():
    schema = infer_schema([{"text": "t"}], "text")
    record = parse_record('{"text": "t", "n": 1.10, "o": {"b":[1, 2 ]}, "\\u00e9": "\\u00e9"}')
    extra = build_columns([record], schema)[-1][0].as_py()
    assert extra == '{"n": 1.10, "o": {"b":[1, 2 ]}, "\\u00e9": "\\u00e9"}'


def test_keys_of_each_records_own_get_no_column_each():
    records = [{"text": "a", f"k{i}": i, "n": i} for i in range(MAX_COLUMNS + 500)]
    schema = infer_schema(records, "text")
    assert len(schema) == MAX_COLUMNS + 1  # extra_json beside them
    assert schema.names[:3] == ["text", "k0", "n"]
    (extra,) = build_columns([parse_record(json.dumps(records[-1]))], schema)[-1].to_pylist()
    assert json.loads(extra) == {f"k{MAX_COLUMNS + 499}": MAX_COLUMNS + 499}


def test_no_records_give_columns_of_the_right_type():
    schema = infer_schema([{"text": "t", "n": 1}], "text")
    assert [column.type for column in build_columns([], schema)] == schema.types


def test_an_integer_too_long_to_print_is_refused_like_the_json_module_does():
    line = '{"n": ' + "9" * (sys.get_int_max_str_digits() + 1) + "}"
    with pytest.raises(ValueError, match="digits"):
        parse_record(line)
    assert math.isinf(parse_record('{"n": 1e999}')["n"].value)


@pytest.mark.parametrize("key", ["\ud800", "a\x00b", "", "a.b", "é", "x" * 5000])
def test_any_key_gives_a_schema_that_parquet_can_hold(key):
    schema = infer_schema([{"text": "t", key: 1}], "text")
    row = build_columns([parse_record(json.dumps({"text": "t", key: 1}))], schema)
    table = pa.Table.from_arrays(row, schema=schema).to_pylist()[0]
    assert table.get(key) == 1 or json.loads(table[EXTRA_JSON]) == {key: 1}


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_how_deep_a_record_may_be_does_not_depend_on_who_reads_it(opening):
    def nested(levels: int) -> str:
        closing = "]" if opening == "[" else "}"
        return f'{{"text": "a [ b {{", "x": {opening * levels}1{closing * levels}}}'

    def below(frames: int, line: str):
        return below(frames - 1, line) if frames else parse_record(line)

    for frames in (0, 400):
        assert set(below(frames, nested(MAX_NESTING - 1))) == {"text", "x"}
        with pytest.raises(ValueError, match="nested more than 400 deep"):
            below(frames, nested(MAX_NESTING))
