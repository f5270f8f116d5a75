"""A finished split whose quarantined records are tried again: the new rows go among the old."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np

from moos.document import CompressedDocument
from moos.splits import InputSplit
from moos.storage import Storage
from pipelines.counts import SplitCounts, count_documents
from pipelines.document_digest import DocumentDigest
from pipelines.groups import Group
from pipelines.retried_rows import OldRows, present_rows, read_positions
from pipelines.sinks import RATE_BINS, RowSink


class RetrySink(RowSink):
    """Puts documents that were quarantined, and no longer are, where they belong among the rows.

    The rows that were there before are copied as they are: they are neither read nor scored again.
    """

    def __init__(
        self,
        split: InputSplit,
        rows: Any,
        *,
        done: Mapping[str, Any],
        output: Storage,
        id_column: str | None,
    ) -> None:
        super().__init__(split, rows, numerics=done["numerics"], id_column=id_column)
        self.positions = read_positions(output, done)
        self.counts = SplitCounts(**{**done["counts"], "quarantined": 0, "null_ids": 0})
        self._rates = np.array(done["rate_histogram"], dtype=np.int64)
        before = DocumentDigest.from_json(done["digest"])
        self._old_places = before.most, before.least
        self._digest = DocumentDigest(before.kept, before.dropped)
        self._old: Any = []
        if done["data"] is not None:
            self._old = rows.decode(output.get(done["data"]["name"]))
        self._places = OldRows(split, len(self._old))
        self._written = 0

    def add(self, group: Group[CompressedDocument]) -> None:
        """Take a group whose rows are the records tried again."""
        records = group.records
        encoded, unfit = self._encode(group)
        # Where a new row stands: in which of the encoded parts, and where in it.
        new = {
            row: (number, place)
            for number, part in enumerate(encoded)
            for place, row in enumerate(part.rows)
        }
        documents = [document for part in encoded for document in part.documents]
        bad = [*group.bad, *unfit]
        present = present_rows(records, new, self.positions)
        num_chars = sum(len(records.texts[row]) for row in present)
        self._digest.add(
            documents, [self._written + at for at, row in enumerate(present) if row in new]
        )
        for number, run in groupby(present, key=lambda row: new[row][0] if row in new else None):
            rows = list(run)
            old_or_new = (
                self._take_old(len(rows))
                if number is None
                else self._rows.cut(encoded[number].content, new[rows[0]][1], len(rows))
            )
            # Row groups end where they would in a first run: behind a group, not within it.
            self._rows.append(old_or_new, num_chars if rows[-1] == present[-1] else 0)
            self._written += len(rows)
        self._quarantine.add(bad)
        self._rates += np.histogram([d.rate for d in documents], RATE_BINS, (0.0, 1.0))[0]
        counts = count_documents(records, list(new), documents, len(bad))
        counts.input_bytes = 0
        self.counts.add(counts)
        self._note_ids(records, present)

    def commit(self, output: Storage) -> dict[str, Any]:
        """Write the objects; the done record, not written yet."""
        self._places.check_all_taken()
        return super().commit(output)

    def _take_old(self, count: int) -> Any:
        start = self._places.take(count)
        shift = self._written - start
        moved = [
            [
                place._replace(row=place.row + shift)
                for place in places
                if start <= place.row < start + count
            ]
            for places in self._old_places
        ]
        self._digest.add_places(*moved)
        return self._rows.cut(self._old, start, count)
