"""What gathers the labelled groups of a split and becomes its objects and its record."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moos.alignment import PairBounds
from moos.labelled_rows import UNFILTERED_SCHEMA, LabelSums, build_rows, filter_rows
from moos.labelling import WordLabels
from moos.labels import is_held_out
from moos.records import BadRecord, RecordGroup
from moos.splits import InputSplit
from moos.storage import Storage
from pipelines.commit import put_object
from pipelines.document_ids import IdHashes
from pipelines.groups import Group
from pipelines.label_config import LabelConfig
from pipelines.quarantine import Quarantine
from pipelines.run_state import IDS, SCORES, describe_source


@dataclass(slots=True)
class LabelCounts:
    """Sums over a split, or over what is done of it."""

    documents: int = 0
    quarantined: int = 0
    damaged_files: int = 0
    words: int = 0
    kept_words: int = 0
    null_ids: int = 0
    input_bytes: int = 0


class LabelSink:
    """Labelled documents on their way to a data file, or to the second pass."""

    def __init__(
        self,
        split: InputSplit,
        config: LabelConfig,
        *,
        teacher: str,
        bounds: PairBounds | None,
        numerics: Mapping[str, Any],
    ) -> None:
        """Begin a split.

        Args:
            split: The split.
            config: The job.
            teacher: Name of the teacher.
            bounds: What the filters come to; None leaves rows for the second pass.
            numerics: What the labels depend on besides the plan.
        """
        self.counts = LabelCounts()
        self._split = split
        self._config = config
        self._teacher = teacher
        self._bounds = bounds
        self._numerics = dict(numerics)
        self._tables: list[pa.Table] = []
        self._quarantine = Quarantine(split)

    def add(self, group: Group[WordLabels]) -> None:
        """Take a group."""
        rows, table = self._take(group)
        sums = LabelSums.of(table)
        self._tables.append(table)
        self._quarantine.add(group.bad)
        self.counts.documents += table.num_rows
        self.counts.quarantined += len(group.bad)
        self.counts.words += sums.counts.get("words", 0)
        self.counts.kept_words += sums.counts.get("kept_words", 0)
        self.counts.input_bytes += group.records.num_bytes
        if (column := self._config.input.id_column) is not None:
            ids = group.records.values(column)
            self.counts.null_ids += sum(ids[row] is None for row in rows)

    def _take(self, group: Group[WordLabels]) -> tuple[list[int], pa.Table]:
        """Rows of the group that are labelled, and their rows of `UNFILTERED_SCHEMA`."""
        names = name_rows(group.records, group.rows, self._split, self._config, self._teacher)
        return group.rows, build_rows(names, group.items)

    def add_damage(self, reason: str) -> None:
        """One record for the whole split: its file is damaged."""
        bad = BadRecord(0, reason, b"", "file")
        self.counts = LabelCounts(quarantined=1, damaged_files=1, input_bytes=self._split.size)
        self._quarantine = Quarantine(self._split)
        self._quarantine.add([bad])
        self._tables = []

    def commit(self, output: Storage) -> dict[str, Any]:
        """Write the objects; the record, not written yet."""
        table = pa.concat_tables([UNFILTERED_SCHEMA.empty_table(), *self._tables])
        return commit_rows(
            output,
            {"split": self._split.id, "source": describe_source(self._split)},
            table,
            self._bounds,
            counts=asdict(self.counts),
            by_reason=self._quarantine.by_reason,
            numerics=self._numerics,
            quarantine=self._quarantine.to_bytes(),
            has_ids=self._config.input.id_column is not None,
        )


def commit_rows(
    output: Storage,
    record: Mapping[str, Any],
    table: pa.Table,
    bounds: PairBounds | None,
    *,
    counts: Mapping[str, int],
    by_reason: Mapping[str, int],
    numerics: Mapping[str, Any],
    quarantine: bytes,
    has_ids: bool,
) -> dict[str, Any]:
    """Write a split's objects; the record that names them, not written yet.

    Args:
        output: The output.
        record: What names the split.
        table: Its rows, unfiltered.
        bounds: What the filters come to; None leaves the rows for the second pass.
        counts: `LabelCounts` by name.
        by_reason: Quarantined records by the kind of their reason.
        numerics: What the labels depend on besides the plan.
        quarantine: Its quarantine file, or nothing.
        has_ids: Documents have ids of their own, to be counted over the run.
    """
    data_place, bad_place = ("data", "quarantine") if bounds is not None else (SCORES, SCORES)
    table = table if bounds is None else filter_rows(table, bounds)
    split_id = str(record["split"])
    written: dict[str, Any] = {
        **record,
        "counts": dict(counts),
        "quarantined_by_reason": dict(by_reason),
        "sums": LabelSums.of(table).to_json(),
        "numerics": dict(numerics),
        "data": None,
        "quarantine": None,
        "ids": None,
    }
    if bounds is not None and has_ids and table.num_rows:
        hashes = IdHashes()
        # As they are written: training tells 1 and "1" no more apart than the rows do.
        hashes.add([name.encode() for name in table.column("id").to_pylist()])
        written["ids"] = put_object(output, IDS, split_id, "hashes", hashes.pack())
    if table.num_rows:
        written["data"] = put_object(output, data_place, split_id, "parquet", _write_table(table))
    if quarantine:
        written["quarantine"] = put_object(output, bad_place, split_id, "jsonl", quarantine)
    return written


def _write_table(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def name_rows(
    records: RecordGroup,
    rows: list[int],
    split: InputSplit,
    config: LabelConfig,
    teacher: str,
) -> list[dict[str, str]]:
    """The columns that are plain strings, of some rows of a group.

    A record without an id is named for its file and its place in it.
    """
    settings = config.input
    places = [f"{split.relative}:{position}" for position in records.positions]
    ids = _read_names(records, settings.id_column, places)
    documents = _read_names(records, settings.document_column, ids)
    size = len(records.texts)
    domains = _read_names(records, settings.domain_column, [settings.domain] * size)
    sources = _read_names(records, settings.source_column, [settings.source] * size)
    licences = _read_names(records, settings.licence_column, [settings.licence] * size)
    share, seed = config.split.validation_share, config.split.seed
    return [
        {
            "id": ids[row],
            "document": documents[row],
            "domain": domains[row],
            "source": sources[row],
            "licence": licences[row],
            "teacher": teacher,
            "text": records.texts[row],
            "split": "validation" if is_held_out(documents[row], share, seed) else "train",
        }
        for row in rows
    ]


def _read_names(records: RecordGroup, column: str | None, otherwise: list[str]) -> list[str]:
    if column is None:
        return otherwise
    values = records.values(column)
    # What is no Unicode (half a surrogate pair, from JSON) cannot be written.
    return [
        default if value is None else str(value).encode("utf-8", "replace").decode()
        for value, default in zip(values, otherwise, strict=True)
    ]
