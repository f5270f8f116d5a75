"""What gathers the groups of a split and becomes the objects and the record of its commit."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from moos.corpus import ScoreHistogram
from moos.document import CompressedDocument
from moos.records import BadRecord, RecordGroup
from moos.score_table import build_reason_rows, build_score_rows, write_scores
from moos.scored_text import ProtectedText, ScoredText, count_scores
from moos.splits import InputSplit
from moos.storage import Storage
from pipelines.commit import JsonlRows, ParquetRows, put_object
from pipelines.counts import SplitCounts, count_documents, count_scored
from pipelines.document_digest import DocumentDigest
from pipelines.document_ids import IdHashes
from pipelines.groups import Group
from pipelines.quarantine import Quarantine
from pipelines.run_state import IDS, SCORES, describe_source

logger = logging.getLogger(__name__)

RATE_BINS = 20
"""Equal bins over [0, 1] for the histogram of documents' rates."""


class Sink(Protocol):
    """Gathers a split's groups in order, then writes what they come to."""

    counts: Any

    def add(self, group: Group[Any]) -> None:
        """Take a group; nothing of it where this raises."""
        ...

    def add_damage(self, reason: str) -> None:
        """The split's file is damaged: that is all that is said of it."""
        ...

    def commit(self, output: Storage) -> dict[str, Any]:
        """Write the objects; the record that names them, not written yet."""
        ...


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows of a group, encoded together.

    Attributes:
        rows: Which of the group's records they are.
        documents: The document of each.
        content: What `append` and `cut` take.
    """

    rows: Sequence[int]
    documents: Sequence[CompressedDocument]
    content: Any


class RowSink:
    """Compressed documents on their way to a data file and a quarantine file."""

    def __init__(
        self,
        split: InputSplit,
        rows: ParquetRows | JsonlRows,
        *,
        numerics: dict[str, Any],
        id_column: str | None,
    ) -> None:
        self.counts = SplitCounts()
        self._id_column = id_column
        self._split = split
        self._rows: Any = rows
        self._numerics = numerics
        self._rates = np.zeros(RATE_BINS, dtype=np.int64)
        self._quarantine = Quarantine(split)
        self._ids = IdHashes()
        self._digest = DocumentDigest()

    def add(self, group: Group[CompressedDocument]) -> None:
        """Take a group; rows that cannot be encoded are set apart with the reason."""
        records = group.records
        encoded, unfit = self._encode(group)
        for part in encoded:
            self._rows.append(part.content, sum(len(records.texts[row]) for row in part.rows))
        rows = [row for part in encoded for row in part.rows]
        documents = [document for part in encoded for document in part.documents]
        bad = [*group.bad, *unfit]
        self._quarantine.add(bad)
        self._rates += np.histogram([d.rate for d in documents], RATE_BINS, (0.0, 1.0))[0]
        first = self.counts.documents
        self._digest.add(documents, range(first, first + len(documents)))
        self.counts.add(count_documents(records, rows, documents, len(bad)))
        self._note_ids(records, rows)

    def _note_ids(self, records: RecordGroup, rows: list[int]) -> None:
        """Take the ids of the next rows of the data file."""
        if self._id_column is not None:
            self._ids.add(records.id_keys(rows, self._id_column))
            self.counts.null_ids = self._ids.num_null

    def _encode(
        self, group: Group[CompressedDocument]
    ) -> tuple[list[EncodedRows], list[BadRecord]]:
        """Encode the rows together, or where that fails one by one; the misfits apart."""
        records = group.records
        if not group.rows:
            return [], []
        try:
            content = self._rows.encode(records, group.rows, group.items)
        except Exception as error:  # noqa: BLE001  whatever a value makes happen
            logger.warning("%s: rows are written one by one: %s", self._split.id, error)
        else:
            return [EncodedRows(group.rows, group.items, content)], []
        encoded, unfit = [], []
        for row, document in zip(group.rows, group.items, strict=True):
            try:
                content = self._rows.encode(records, [row], [document])
            except Exception as error:  # noqa: BLE001  whatever a value makes happen
                reason = f"writing raised {type(error).__name__}: {error}"
                unfit.append(records.reject(row, reason, self._id_column))
            else:
                encoded.append(EncodedRows([row], [document], content))
        return encoded, unfit

    def add_damage(self, reason: str) -> None:
        """One record for the whole split: its file is damaged."""
        bad = BadRecord(0, reason, b"", "file")
        self.counts = SplitCounts(quarantined=1, damaged_files=1, input_bytes=self._split.size)
        self._quarantine, self._ids = Quarantine(self._split), IdHashes()
        self._quarantine.add([bad])
        self._rates[:] = 0
        self._digest = DocumentDigest()

    def commit(self, output: Storage) -> dict[str, Any]:
        """Write the objects; the done record, not written yet."""
        data = self._rows.finish()
        record: dict[str, Any] = {
            "split": self._split.id,
            "source": describe_source(self._split),
            "counts": asdict(self.counts),
            "quarantined_by_reason": self._quarantine.by_reason,
            "rate_histogram": self._rates.tolist(),
            "digest": self._digest.to_json(),
            "numerics": self._numerics,
            "data": None,
            "quarantine": None,
            "ids": None,
        }
        if hashes := self._ids.pack():
            record["ids"] = put_object(output, IDS, self._split.id, "hashes", hashes)
        if self.counts.documents:
            record["data"] = put_object(output, "data", self._split.id, self._rows.extension, data)
        if lines := self._quarantine.to_bytes():
            record["quarantine"] = put_object(output, "quarantine", self._split.id, "jsonl", lines)
        return record


class ScoreSink:
    """Scored documents on their way to a score table and a histogram."""

    def __init__(self, split: InputSplit, numerics: dict[str, Any]) -> None:
        self.counts = SplitCounts()
        self._split = split
        self._numerics = numerics
        self._histogram = ScoreHistogram()
        self._batches: list[pa.RecordBatch] = []
        self._damage: str | None = None

    def add(self, group: Group[ProtectedText]) -> None:
        """Take a group."""
        texts: list[ScoredText] = [item.scored for item in group.items]
        protected = [item.protected for item in group.items]
        positions = [group.records.positions[row] for row in group.rows]
        self._batches.append(build_score_rows(positions, texts, protected))
        # Records that cannot be read are found again when the rows are written; only what a stage
        # said of a readable one would be lost.
        readable = set(group.records.positions) - set(positions)
        reasons = {bad.position: bad.reason for bad in group.bad if bad.position in readable}
        if reasons:
            self._batches.append(build_reason_rows(reasons))
        self._histogram.add(count_scores(group.items))
        self.counts.add(count_scored(group.records, texts, len(group.bad)))

    def add_damage(self, reason: str) -> None:
        """The split's file is damaged: no document of it counts."""
        self.counts = SplitCounts(quarantined=1, damaged_files=1, input_bytes=self._split.size)
        self._histogram, self._batches = ScoreHistogram(), []
        self._damage = reason

    def commit(self, output: Storage) -> dict[str, Any]:
        """Write the table; the scored record, not written yet."""
        return {
            "split": self._split.id,
            "source": describe_source(self._split),
            "counts": asdict(self.counts),
            "numerics": self._numerics,
            "damage": self._damage,
            "histogram": self._histogram.to_json(),
            "scores": put_object(
                output, SCORES, self._split.id, "parquet", write_scores(self._batches)
            ),
        }
