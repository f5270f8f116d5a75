"""Labelled documents in files, their labels on words and tokens, and the split that holds some out.

Labelled Parquet has the columns of `SCHEMA`. JSONL is for labels made by hand or elsewhere: one
record per document or stretch of one: `id`, `domain`, `text`, and
`soft`, which holds for each white-space-separated word of the text the teacher's probability of
keeping it, or null where the teacher never reached it. `document` names the source document that
several records are cut from (default: the record's own id); `source` says where the text is from.
"""

import gzip
import hashlib
import json
import logging
import posixpath
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moos.errors import ConfigError, DataError
from moos.listing import list_sources
from moos.storage import Storage, Watch
from moos.tokens import check_text

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("document", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("teacher", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field(
            "words",
            pa.list_(
                pa.struct(
                    [
                        pa.field("start", pa.int32(), nullable=False),
                        pa.field("end", pa.int32(), nullable=False),
                        pa.field("label", pa.float32()),
                    ]
                )
            ),
            nullable=False,
        ),
    ]
)
"""Labelled Parquet. `words`: half-open ranges of code points, sorted and disjoint, each with the
probability that it is to be kept, or null without a label. `document` names the source document
that several rows are cut from: they never part in a split."""

logger = logging.getLogger(__name__)

# The standard library's \s agrees with str.split, by which teachers count words; regex's does not.
_SPACED_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class LabelledDocument:
    """A text with a label on each of its white-space-separated words.

    Attributes:
        id: Unique name of the record.
        document: The source document; records of one document never part in a split.
        domain: Kind of text, for figures per domain.
        source: Where the text is from.
        licence: The text's.
        teacher: What made the labels.
        text: The text.
        starts: First character of each word, in code points, shape (W,).
        ends: One past the last character of each word, shape (W,).
        labels: Probability that the word is to be kept, NaN where there is no label, shape (W,).
        split: `train` or `validation`, where the labels say so.
    """

    id: str
    document: str
    domain: str
    source: str
    licence: str
    teacher: str
    text: str
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    labels: NDArray[np.float32]
    split: str | None = None


def read_labelled(
    paths: str | Sequence[str],
    options: dict[str, Any] | None = None,
    *,
    watch: Watch = nullcontext,
) -> list[LabelledDocument]:
    """Read labelled documents, `.parquet`, `.jsonl` or `.jsonl.gz`, from any fsspec filesystem.

    Of an output of `moos label`, the files that its manifest names are read. Rows that failed a
    filter are passed over.

    Args:
        paths: A file, directory or glob, or several.
        options: Options of the filesystem.
        watch: As in `Storage`.

    Raises:
        ConfigError: A path names no file, or one that holds no labels at all.
        DataError: A file cannot be read, there is no record, or a record breaks the contract: a
            field is missing, a label lies outside [0, 1], labels and words differ in number,
            offsets lie outside the text, or an id was there before. The message names the place.
    """
    documents: dict[str, LabelledDocument] = {}
    paths = [paths] if isinstance(paths, str) else list(paths)
    num_failed = 0
    for path in paths:
        for storage, name, shown in _list_files(path, options or {}, watch):
            for where, document, failed in _read_file(storage, name, shown):
                if document.id in documents:
                    raise DataError(f"{where}: id {document.id!r} was there before")
                num_failed += failed
                if not failed:
                    documents[document.id] = document
    if num_failed:
        logger.info("%d labelled documents are passed over: they failed a filter", num_failed)
    if not documents:
        passed = f" that passes its filters ({num_failed} fail)" if num_failed else ""
        raise DataError(f"labels {', '.join(paths)} hold no record{passed}")
    return list(documents.values())


def _list_files(
    path: str, options: dict[str, Any], watch: Watch
) -> Iterator[tuple[Storage, str, str]]:
    """Where each file of a path is, its name there, and how messages call it."""
    place = Storage(path, options, watch=watch)
    try:
        manifest = json.loads(place.get("manifest.json"))
        entries = [entry["data"]["name"] for entry in manifest["splits"] if entry["data"]]
    except (FileNotFoundError, NotADirectoryError):
        for file in list_sources([path], options, key="data.path", watch=watch):
            directory, name = posixpath.split(file.path)
            url = place.filesystem.unstrip_protocol(directory)
            yield Storage(url, options, watch=watch), name, file.path
        return
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(f"labels {path}: manifest.json is of no moos run: {error}") from error
    for name in entries:
        yield place, name, f"{path.rstrip('/')}/{name}"


def _read_file(
    storage: Storage, name: str, path: str
) -> Iterator[tuple[str, LabelledDocument, bool]]:
    """Each document with the place that names it, and whether it failed a filter."""
    try:
        data = storage.get(name)
        if path.endswith(".parquet"):
            yield from _read_parquet(data, path)
            return
        text = (gzip.decompress(data) if path.endswith(".gz") else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"labels {path} cannot be read: {error}") from error
    lines = [(f"{path}, line {n}", line) for n, line in enumerate(text.split("\n"), start=1)]
    records = [(where, _load_record(line, where)) for where, line in lines if line.strip()]
    if records and not any("soft" in record for _, record in records):
        raise _no_labels(path, "soft")
    for where, record in records:
        yield where, _parse_record(record, where), False


def labelled_table(documents: Sequence[LabelledDocument]) -> pa.Table:
    """Labelled documents as rows of `SCHEMA`."""
    rows = []
    for document in documents:
        labels = [None if np.isnan(label) else float(label) for label in document.labels]
        spans = zip(document.starts.tolist(), document.ends.tolist(), labels, strict=True)
        words = [{"start": start, "end": end, "label": label} for start, end, label in spans]
        names = {name: getattr(document, name) for name in SCHEMA.names if name != "words"}
        rows.append({**names, "words": words})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _read_parquet(data: bytes, path: str) -> Iterator[tuple[str, LabelledDocument, bool]]:
    try:
        table = pq.read_table(pa.BufferReader(data))
        if "words" not in table.column_names:
            raise _no_labels(path, "words")
        missing = [name for name in ("id", "text") if name not in table.column_names]
        if missing:
            raise DataError(f"labels {path} lack column {missing[0]}")
        rows = table.to_pylist()
    except pa.ArrowException as error:
        raise DataError(f"labels {path} cannot be read: {error}") from error
    for number, row in enumerate(rows):
        where = f"{path}, row {number}, id {row['id']!r}"
        yield where, _parse_row(row, where), bool(row.get("failed_filters"))


def _no_labels(path: str, column: str) -> ConfigError:
    return ConfigError(
        f"data.path: no labels in {path} (no {column!r}); give what moos label wrote"
    )


def _parse_row(row: dict[str, Any], where: str) -> LabelledDocument:
    text, words = row["text"], row["words"]
    if not isinstance(text, str) or not isinstance(words, list) or not isinstance(row["id"], str):
        raise DataError(f"{where}: id, text or words is null")
    bounds = np.array([(word["start"], word["end"]) for word in words], dtype=np.int64)
    bounds = bounds.reshape(-1, 2)
    flat = bounds.ravel()
    if len(flat) and (
        flat[0] < 0
        or flat[-1] > len(text)
        or (bounds[:, 0] >= bounds[:, 1]).any()
        or (bounds[1:, 0] < bounds[:-1, 1]).any()
    ):
        raise DataError(
            f"{where}: word offsets must be sorted and disjoint, not empty, and within the text of "
            f"{len(text)} characters"
        )
    return LabelledDocument(
        id=row["id"],
        document=str(row.get("document") or row["id"]),
        domain=str(row.get("domain") or "text"),
        source=str(row.get("source") or "not stated"),
        licence=str(row.get("licence") or "not stated"),
        teacher=str(row.get("teacher") or "not stated"),
        text=text,
        starts=bounds[:, 0].astype(np.int32),
        ends=bounds[:, 1].astype(np.int32),
        labels=_parse_labels([word["label"] for word in words], len(words), where),
        split=row.get("split"),
    )


def _load_record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{where}: not a JSON object")
    return record


def _parse_record(record: dict[str, Any], where: str) -> LabelledDocument:
    for name in ("id", "domain", "text"):
        if not isinstance(record.get(name), str):
            raise DataError(f"{where}: {name} must be a string, not {record.get(name)!r}")
    text = record["text"]
    check_text(text)
    spans = [match.span() for match in _SPACED_WORD.finditer(text)]
    bounds = np.array(spans, dtype=np.int32).reshape(-1, 2)
    return LabelledDocument(
        id=record["id"],
        document=str(record.get("document", record["id"])),
        domain=record["domain"],
        source=str(record.get("source", "not stated")),
        licence=str(record.get("licence", "not stated")),
        teacher=str(record.get("teacher", "not stated")),
        text=text,
        starts=bounds[:, 0].copy(),
        ends=bounds[:, 1].copy(),
        labels=_parse_labels(record.get("soft"), len(spans), f"{where}, id {record['id']!r}"),
    )


def _parse_labels(soft: Any, num_words: int, where: str) -> NDArray[np.float32]:
    if not isinstance(soft, list):
        raise DataError(f"{where}: soft must be a list with one label per word")
    if len(soft) != num_words:
        raise DataError(f"{where}: {len(soft)} labels for {num_words} words")
    for position, label in enumerate(soft):
        is_number = isinstance(label, int | float) and not isinstance(label, bool)
        if label is not None and not (is_number and 0.0 <= label <= 1.0):
            raise DataError(f"{where}: label {position} is {label!r}, not in [0, 1] and not null")
    return np.array([np.nan if label is None else label for label in soft], dtype=np.float32)


def split_documents(
    documents: Sequence[LabelledDocument], *, validation_share: float | None, seed: int
) -> tuple[list[LabelledDocument], list[LabelledDocument]]:
    """Training and validation documents, each in the order given.

    Which side a document falls on depends on its name and the seed alone: not on the order, nor on
    the other documents. So the share is met on average, and a grown file keeps its split.

    Args:
        documents: What to split.
        validation_share: Share to hold out; None: as the labels themselves say, or 0.2 where none
            of them does.
        seed: Another seed holds out others; of no effect where the labels say.

    Raises:
        DataError: Only some of the labels say.
    """
    if validation_share is None and (said := {document.split for document in documents}) != {None}:
        if not said <= {"train", "validation"}:
            raise DataError(
                f"the labels' column split holds {sorted(map(str, said))}, where only train and "
                "validation may stand; set training.validation_share to split anew"
            )
        return (
            [document for document in documents if document.split == "train"],
            [document for document in documents if document.split == "validation"],
        )
    validation_share = 0.2 if validation_share is None else validation_share
    training: list[LabelledDocument] = []
    validation: list[LabelledDocument] = []
    for document in documents:
        held_out = is_held_out(document.document, validation_share, seed)
        (validation if held_out else training).append(document)
    return training, validation


def draw_records(documents: Sequence[LabelledDocument], most: int) -> list[LabelledDocument]:
    """At most so many records, those of a source document together, in the order given.

    Which ones depends on the documents' names alone.
    """
    by_name: dict[str, int] = {}
    for document in documents:
        by_name[document.document] = by_name.get(document.document, 0) + 1
    drawn: set[str] = set()
    for name in sorted(by_name, key=lambda name: hashlib.sha256(f"draw\0{name}".encode()).digest()):
        if by_name[name] <= most:
            drawn.add(name)
            most -= by_name[name]
    return [document for document in documents if document.document in drawn]


def is_held_out(document: str, validation_share: float, seed: int) -> bool:
    """True for the source documents that are held out, by their names alone."""
    digest = hashlib.sha256(f"{seed}\0{document}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < validation_share * 2**64
