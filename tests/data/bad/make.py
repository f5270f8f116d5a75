"""Bad files that are too large, or too binary, to stand in `cases.yaml`: one function for each."""

import gzip
import io
import json
import struct
import zlib
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.parquet import encryption

TWO_ROWS = {"id": ["a", "b"], "text": ["One.", "Two."]}


def parquet(columns: dict[str, Any] | pa.Table, **options: Any) -> bytes:
    """A Parquet file of these columns."""
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def json_line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def two_rows() -> bytes:
    return parquet(TWO_ROWS)


def two_rows_brotli() -> bytes:
    return parquet(TWO_ROWS, compression="brotli")


def two_rows_version_1() -> bytes:
    return parquet(TWO_ROWS, version="1.0", data_page_version="1.0", compression="none")


def two_rows_delta() -> bytes:
    return parquet(
        TWO_ROWS, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY", version="2.6"
    )


def no_rows() -> bytes:
    return parquet(pa.table(TWO_ROWS).slice(0, 0))


def no_row_groups() -> bytes:
    sink = io.BytesIO()
    pq.ParquetWriter(sink, pa.table(TWO_ROWS).schema).close()
    return sink.getvalue()


def no_columns() -> bytes:
    return parquet(pa.table({}))


def empty_row_groups() -> bytes:
    """Rows in the second and fourth of five row groups."""
    table, sink = pa.table(TWO_ROWS), io.BytesIO()
    with pq.ParquetWriter(sink, table.schema) as writer:
        for part in (table[:0], table[:1], table[:0], table[1:], table[:0]):
            writer.write_table(part)
    return sink.getvalue()


def many_row_groups() -> bytes:
    return parquet({"text": [f"Text {i}." for i in range(40)]}, row_group_size=1)


def null_texts() -> bytes:
    return parquet({"id": ["a", "b", "c"], "text": [None, "One.", None]})


def only_null_texts() -> bytes:
    return parquet({"text": pa.nulls(3, pa.string())})


def _reinterpreted(values: list[bytes]) -> pa.Array:
    binary = pa.array(values, pa.binary())
    return pa.StringArray.from_buffers(len(values), *binary.buffers()[1:])


def text_not_utf8() -> bytes:
    return parquet({"text": _reinterpreted([b"One.", b"caf\xe9", b"Two."])})


def other_column_not_utf8() -> bytes:
    return parquet({"text": ["One.", "Two."], "title": _reinterpreted([b"\xff", b"fine"])})


def id_not_utf8() -> bytes:
    return parquet({"id": _reinterpreted([b"\xff", b"b"]), "text": ["One.", "Two."]})


def nested_columns() -> bytes:
    return parquet(
        {
            "text": ["One.", "Two."],
            "tags": pa.array([["x", None], None], pa.list_(pa.string())),
            "meta": pa.array([{"a": [{"b": 1}]}, None]),
            "pairs": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int8())),
        }
    )


def deeply_nested() -> bytes:
    kind, value = pa.int8(), 1
    for _ in range(60):
        kind, value = pa.list_(kind), [value]
    return parquet({"text": ["One."], "deep": pa.array([value], kind)})


def odd_types() -> bytes:
    return parquet(
        {
            "text": ["One."],
            "decimal": pa.array([Decimal("1e38")], pa.decimal256(60, 10)),
            "long_ago": pa.array([-(2**31)], pa.date32()),
            "far_off": pa.array([2**62], pa.timestamp("us", tz="UTC")),
            "nanoseconds": pa.array([1], pa.timestamp("ns")),
            "span": pa.array([timedelta(days=-1)], pa.duration("ms")),
            "unknown_zone": pa.array([0], pa.timestamp("ms", tz="Mars/Olympus")),
            "not_a_number": pa.array([float("nan")]),
            "nothing": pa.nulls(1),
        }
    )


def dotted_column() -> bytes:
    return parquet({"a.b": ["x"], "": ["y"], "text": ["One."]})


def duplicate_columns() -> bytes:
    arrays = [pa.array(["One."]), pa.array(["Two."])]
    return parquet(pa.Table.from_arrays(arrays, names=["text", "text"]))


def reserved_column() -> bytes:
    return parquet({"text": ["One."], "compressed_text": ["mine"]})


def capital_column() -> bytes:
    return parquet({"Text": ["One."]})


def text_inside_struct() -> bytes:
    return parquet({"doc": pa.array([{"text": "One."}])})


def text_of(kind: pa.DataType, value: Any) -> bytes:
    return parquet({"text": pa.array([value], kind)})


def text_is_list() -> bytes:
    return text_of(pa.list_(pa.string()), ["One."])


def text_is_struct() -> bytes:
    return text_of(pa.struct([("a", pa.string())]), {"a": "One."})


def text_is_binary() -> bytes:
    return text_of(pa.binary(), b"One.")


def text_is_integer() -> bytes:
    return text_of(pa.int64(), 1)


def text_is_nothing() -> bytes:
    return text_of(pa.null(), None)


def text_is_dictionary_of_integers() -> bytes:
    return parquet({"text": pa.array([7]).dictionary_encode()})


def text_as_dictionary() -> bytes:
    texts = pa.array(["One.", "Two.", "One.", None])
    return parquet({"text": texts.dictionary_encode()})


def text_as_large_string() -> bytes:
    return parquet({"text": pa.array(["One.", "Two."], pa.large_string())})


def text_as_string_view() -> bytes:
    return parquet({"text": pa.array(["One.", "Two."], pa.string_view())})


def another_column() -> bytes:
    return parquet({"id": ["c"], "text": ["Three."], "year": [2026]})


def integer_ids() -> bytes:
    return parquet({"id": [3], "text": ["Three."]})


def _encrypted(**settings: Any) -> bytes:
    class KeyHolder(encryption.KmsClient):
        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
            return key_bytes

        def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
            return wrapped_key

    factory = encryption.CryptoFactory(lambda _: KeyHolder())
    properties = factory.file_encryption_properties(
        encryption.KmsConnectionConfig(),
        encryption.EncryptionConfiguration(
            footer_key="footer", column_keys={"text": ["text"]}, **settings
        ),
    )
    return parquet(TWO_ROWS, encryption_properties=properties)


def encrypted_footer() -> bytes:
    return _encrypted()


def encrypted_column() -> bytes:
    return _encrypted(plaintext_footer=True)


def _plain_pages(**options: Any) -> tuple[bytearray, int]:
    """A file of uncompressed pages, and where the text column's first page lies in it."""
    texts = [f"Text number {i}." for i in range(20)]
    options = {"compression": "none", "use_dictionary": False, **options}
    data = parquet({"text": texts}, **options)
    return bytearray(data), data.index(b"Text number 7.")


def checksum_mismatch() -> bytes:
    """One character of a text is another one, and the page's checksum tells."""
    data, at = _plain_pages(write_page_checksum=True)
    data[at] = ord("N")
    return bytes(data)


def broken_page() -> bytes:
    data, at = _plain_pages()
    data[at - 4 : at] = b"\xff" * 4  # the length of a text
    return bytes(data)


def broken_page_header() -> bytes:
    data, _ = _plain_pages()
    data[4:12] = b"\xff" * 8
    return bytes(data)


def broken_compressed_page() -> bytes:
    data, at = bytearray(parquet({"text": ["One."] * 9}, compression="zstd")), 60
    data[at : at + 8] = b"\0" * 8
    return bytes(data)


def false_statistics() -> bytes:
    """The smallest and the largest text in the footer are none of the file's."""
    data = parquet({"text": ["One.", "Two."]}, compression="none", use_dictionary=False)
    head, tail = data[:100], data[100:]
    assert tail.count(b"Two.") >= 1, "statistics stand behind the page"
    return head + tail.replace(b"Two.", b"Aaa.")


def false_arrow_schema() -> bytes:
    table = pa.table({"text": ["One."]}).replace_schema_metadata({"ARROW:schema": "garbage"})
    return parquet(table, store_schema=False)


def huge_footer_length() -> bytes:
    return two_rows()[:-8] + struct.pack("<I", 0x7FFFFFFF) + b"PAR1"


def broken_footer() -> bytes:
    data = bytearray(two_rows())
    (length,) = struct.unpack("<I", data[-8:-4])
    data[-8 - length : -8] = b"\xee" * length
    return bytes(data)


def repeated_value() -> bytes:
    """Some kilobytes that stand for 20 GB: a text of four megabytes, 5,000 times."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 5000), ["word " * 800_000])
    options = {"compression": "zstd", "write_statistics": False, "store_schema": False}
    data = parquet({"text": texts}, **options)
    assert len(data) < 10_000
    return data


def gzip_with_header_fields() -> bytes:
    """A member with an extra field, a name, a comment and a checksum of its header."""
    fields = b"\x05\0extra" + b"name\0" + b"comment\0"
    header = b"\x1f\x8b\x08\x1e" + b"\0" * 6 + fields
    header += struct.pack("<H", zlib.crc32(header) & 0xFFFF)
    content = json_line(text="One.")
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(content) + packer.flush()
    return header + body + struct.pack("<II", zlib.crc32(content), len(content))


def gzip_members() -> bytes:
    """A line that begins in one member, goes on in an empty one, and ends in a third."""
    return b"".join(gzip.compress(part) for part in (b'{"text": "On', b"", b'e."}\n'))


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


def zstd_frames() -> bytes:
    """Frames end to end, with skippable ones before, between and behind them."""
    skippable = struct.pack("<II", 0x184D2A53, 5) + b"aside"
    first, second = zstd(b'{"text": "One."}\n{"te'), zstd(b'xt": "Two."}\n')
    return skippable + first + skippable + second + skippable


def zstd_without_content() -> bytes:
    return struct.pack("<II", 0x184D2A50, 0)


def long_integers() -> bytes:
    lines = (b'{"text": "One.", "n": %s}\n' % (b"9" * digits) for digits in (4300, 5000))
    return b"".join(lines)


def deep_values() -> bytes:
    lines = (b'{"text": "One.", "n": %s%s}\n' % (b"[" * d, b"]" * d) for d in (200, 50_000))
    return b"".join(lines)


def line_of_100_mb() -> bytes:
    return b'{"text": "%s"}\n' % (b"word " * 20_000_000) + json_line(text="One.")


def blank_lines_packed() -> bytes:
    """20 MB of line ends in some kilobytes, and one record behind them."""
    return gzip.compress(b"\n" * 20_000_000 + json_line(text="One."))


def long_line_packed() -> bytes:
    """A line of 300 MB in 300 kB, and one record behind it."""
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=6) as stream:
        for _ in range(300):
            stream.write(b"0" * 1_000_000)
        stream.write(b"\n" + json_line(text="One."))
    return sink.getvalue()


def many_keys() -> bytes:
    """Keys of each record's own, as of a mapping that was written as an object."""
    return b"".join(json_line(text=f"Text {i}.", **{f"key{i}": i}) for i in range(1100))


def double_packed() -> bytes:
    return gzip.compress(gzip.compress(json_line(text="One.") * 100))


def packed_under_a_plain_name() -> bytes:
    return gzip.compress(json_line(text="One.") * 100)


def zstd_under_a_plain_name() -> bytes:
    return zstd(json_line(text="One.") * 100)


def gzip_line() -> bytes:
    return gzip.compress(json_line(text="One."))


def zstd_line() -> bytes:
    return zstd(json_line(text="One."))


def parquet_packed() -> bytes:
    return gzip.compress(two_rows())
