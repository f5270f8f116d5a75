"""A labelled split whose quarantined records are tried again: the new rows go among the old."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moos.alignment import PairBounds
from moos.labelled_rows import UNFILTERED_SCHEMA
from moos.labelling import WordLabels
from moos.splits import InputSplit
from moos.storage import Storage
from pipelines.groups import Group
from pipelines.label_config import LabelConfig
from pipelines.label_sink import LabelSink
from pipelines.retried_rows import OldRows, present_rows, read_positions


class LabelRetrySink(LabelSink):
    """Puts documents that were quarantined, and no longer are, where they belong among the rows.

    The rows that were there before are copied: their documents are not given to the teacher again.

    Attributes:
        positions: Of the records that were quarantined.
    """

    def __init__(
        self,
        split: InputSplit,
        config: LabelConfig,
        *,
        teacher: str,
        bounds: PairBounds | None,
        done: Mapping[str, Any],
        output: Storage,
    ) -> None:
        super().__init__(split, config, teacher=teacher, bounds=bounds, numerics=done["numerics"])
        self.positions = read_positions(output, done)
        self._old = UNFILTERED_SCHEMA.empty_table()
        if done["data"] is not None:
            data = pa.BufferReader(output.get(done["data"]["name"]))
            self._old = pq.read_table(data, schema=UNFILTERED_SCHEMA)
        self._places = OldRows(split, self._old.num_rows)

    def _take(self, group: Group[WordLabels]) -> tuple[list[int], pa.Table]:
        rows, labelled = super()._take(group)
        new = {row: place for place, row in enumerate(rows)}
        present = present_rows(group.records, new, self.positions)
        parts = [UNFILTERED_SCHEMA.empty_table()]
        for is_new, run in groupby(present, key=new.__contains__):
            together = list(run)
            start = new[together[0]] if is_new else self._places.take(len(together))
            parts.append((labelled if is_new else self._old).slice(start, len(together)))
        return present, pa.concat_tables(parts)

    def commit(self, output: Storage) -> dict[str, Any]:
        """Write the objects; the record, not written yet."""
        self._places.check_all_taken()
        return super().commit(output)
