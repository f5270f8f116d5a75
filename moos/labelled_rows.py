"""The rows that labelling writes: labelled Parquet with all figures, and what they add up to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moos.alignment import PairBounds, PairFigures, failed_filters
from moos.labelling import WordLabels
from moos.labels import SCHEMA

BINS = 20
"""Equal bins over [0, 1] of every histogram."""

HISTOGRAMS = ("label", "keep_rate", "variation_rate", "alignment_gap")

FIGURES = (
    ("num_words", pa.int32()),
    ("num_compressed_words", pa.int32()),
    ("keep_rate", pa.float64()),
    ("variation_rate", pa.float64()),
    ("matching_rate", pa.float64()),
    ("hitting_rate", pa.float64()),
    ("alignment_gap", pa.float64()),
)

UNFILTERED_SCHEMA = pa.schema(
    [
        *SCHEMA,
        pa.field("split", pa.string(), nullable=False),
        pa.field("compressed_text", pa.string(), nullable=False),
        *(pa.field(name, kind, nullable=False) for name, kind in FIGURES),
    ]
)
"""Labelled rows before it is settled which filters they pass."""

LABELLED_SCHEMA = UNFILTERED_SCHEMA.append(
    pa.field("failed_filters", pa.list_(pa.string()), nullable=False)
)
"""What labelling writes. Beside the columns of `moos.labels.SCHEMA`: `split` is `train` or
`validation`; `compressed_text` is the teacher's compression; the figures are those of
`moos.alignment.PairFigures`; `failed_filters` is empty for a row to learn from."""


def build_rows(names: Sequence[Mapping[str, str]], labelled: Sequence[WordLabels]) -> pa.Table:
    """Rows of `UNFILTERED_SCHEMA`.

    Args:
        names: The columns that are plain strings, of each document.
        labelled: What the teacher made of each.
    """
    counts = [len(item.starts) for item in labelled]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    labels = _concatenate([item.labels for item in labelled], np.float32)
    words = pa.StructArray.from_arrays(
        [
            pa.array(_concatenate([item.starts for item in labelled], np.int32)),
            pa.array(_concatenate([item.ends for item in labelled], np.int32)),
            pa.array(labels, mask=np.isnan(labels)),
        ],
        fields=list(SCHEMA.field("words").type.value_type),
    )
    columns: dict[str, Any] = {
        "words": pa.ListArray.from_arrays(
            pa.array(offsets), words, type=SCHEMA.field("words").type
        ),
        "compressed_text": [item.compressed for item in labelled],
    }
    for name, _ in FIGURES:
        columns[name] = [getattr(item.figures, name) for item in labelled]
    arrays = [
        columns[column.name]
        if isinstance(columns.get(column.name), pa.Array)
        else pa.array(columns.get(column.name) or [row[column.name] for row in names], column.type)
        for column in UNFILTERED_SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=UNFILTERED_SCHEMA)


def _concatenate(parts: Sequence[Any], dtype: Any) -> Any:
    return np.concatenate([np.zeros(0, dtype=dtype), *parts])


def read_figures(table: pa.Table) -> list[PairFigures]:
    """The figures of labelled rows."""
    rows = table.select([name for name, _ in FIGURES]).to_pylist()
    return [PairFigures(**row) for row in rows]


def filter_rows(table: pa.Table, bounds: PairBounds) -> pa.Table:
    """Rows of `UNFILTERED_SCHEMA` with the filters that each fails: rows of `LABELLED_SCHEMA`."""
    failed = [list(failed_filters(figures, bounds)) for figures in read_figures(table)]
    kind = LABELLED_SCHEMA.field("failed_filters").type
    columns = [*table.columns, pa.array(failed, kind)]
    return pa.Table.from_arrays(columns, schema=LABELLED_SCHEMA)


@dataclass(slots=True)
class LabelSums:
    """What labelled rows add up to.

    Attributes:
        counts: By name: `chars`, `words` of the originals, `labelled_words`, `kept_words` (label
            0.5 or more), and `passed`, the rows that fail no filter.
        domains: The same by domain, and `documents`.
        histograms: By name, counts in equal bins over [0, 1]: words by label; rows by keep rate,
            variation rate and alignment gap, those beyond 1 in the last bin.
    """

    counts: dict[str, int] = field(default_factory=dict)
    domains: dict[str, dict[str, int]] = field(default_factory=dict)
    histograms: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, table: pa.Table) -> "LabelSums":
        """The sums of some rows, filtered or not."""
        sums = cls(histograms={name: [0] * BINS for name in HISTOGRAMS})
        passed = (
            pc.equal(pc.list_value_length(table.column("failed_filters")), 0)
            if "failed_filters" in table.column_names
            else pa.chunked_array([pa.array([False] * table.num_rows, pa.bool_())])
        )
        labels = [_labels_of(words) for words in table.column("words")]
        rows = zip(
            table.column("domain").to_pylist(),
            table.column("text").to_pylist(),
            labels,
            passed.to_pylist(),
            strict=True,
        )
        for domain, text, label, passes in rows:
            sums._add_row(domain, len(text), label, passes)
        known = _concatenate(labels, np.float32)
        sums._add_histogram("label", known[~np.isnan(known)])
        for name in HISTOGRAMS[1:]:
            sums._add_histogram(name, np.clip(table.column(name).to_numpy(), 0.0, 1.0))
        return sums

    def _add_row(self, domain: str, chars: int, labels: Any, passes: bool) -> None:
        counts = {
            "chars": chars,
            "words": len(labels),
            "labelled_words": int((~np.isnan(labels)).sum()),
            "kept_words": int((labels >= 0.5).sum()),
            "passed": int(passes),
        }
        _add(self.counts, counts)
        _add(self.domains.setdefault(domain, {}), {"documents": 1, **counts})

    def _add_histogram(self, name: str, values: Any) -> None:
        self.histograms[name] = np.histogram(values, BINS, (0.0, 1.0))[0].tolist()

    def add(self, other: "LabelSums") -> None:
        """Add another's sums to these."""
        _add(self.counts, other.counts)
        for domain, counts in other.domains.items():
            _add(self.domains.setdefault(domain, {}), counts)
        for name, bins in other.histograms.items():
            mine = self.histograms.get(name, [0] * BINS)
            self.histograms[name] = [a + b for a, b in zip(mine, bins, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"counts": self.counts, "domains": self.domains, "histograms": self.histograms}


def _labels_of(words: Any) -> Any:
    labels = words.values.field("label")
    return labels.to_numpy(zero_copy_only=False).astype(np.float32)


def _add(sums: dict[str, int], counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        sums[name] = sums.get(name, 0) + count
