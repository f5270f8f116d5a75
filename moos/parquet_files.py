"""Opening a Parquet file so that what is wrong with it becomes an error, and no wrong text."""

import os
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_TAIL_BYTES = 8
"""The footer's length in four bytes, and `PAR1`."""

PARQUET_BUFFER_BYTES = 1 << 20
"""Read at once of a column: its chunk may be as large as the file."""


def open_parquet(stream: Any) -> pq.ParquetFile:
    """Open a Parquet file; pages that carry a checksum are held against it as they are read.

    Args:
        stream: A seekable file of bytes.

    Raises:
        ArrowException, OSError: The file is damaged or encrypted, or could not be read.
    """
    file = pq.ParquetFile(
        pa.PythonFile(stream, mode="r"),
        buffer_size=PARQUET_BUFFER_BYTES,
        pre_buffer=False,
        page_checksum_verification=True,
    )
    stream.seek(-_TAIL_BYTES, os.SEEK_END)
    footer_bytes = int.from_bytes(stream.read(4), "little")
    # A plain footer of encrypted columns is signed behind its end. Arrow ends the process where it
    # is asked about such a column.
    if footer_bytes != file.metadata.serialized_size:
        raise pa.ArrowInvalid("columns of it are encrypted, and moos has no key for them")
    return file
