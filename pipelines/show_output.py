"""Documents of a run's output, as they stand there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moos.errors import ConfigError
from moos.rendering import words_in_spans
from moos.schema import EXTRA_JSON, annotation_schema
from moos.selector import Selector
from moos.show.document_view import (
    DocumentView,
    WordFigures,
    describe_budget,
    find_protections,
    unit_of,
)
from moos.storage import Storage
from moos.text_columns import python_rows
from moos.tokens import TextTokenizer
from moos.words import Words, count_tokens, cut_words, map_tokens
from pipelines.outputs import BATCH_ROWS, id_of, iterate_rows, read_manifest
from pipelines.quarantine import read_quarantine
from pipelines.run_selector import read_selector, read_tokenizer
from pipelines.run_state import TOKENIZER
from pipelines.show_choice import MAX_IDS, Choice, Found, no_such_id, no_such_position, title_of


@dataclass(frozen=True)
class ShownOutput:
    """A complete run that documents are shown of.

    Attributes:
        storage: Its output.
        manifest: What that holds.
    """

    storage: Storage
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, storage: Storage) -> "ShownOutput":
        """Open a run's output.

        Raises:
            ConfigError: There is no complete run.
        """
        return cls(storage, read_manifest(storage))

    @property
    def is_labelled(self) -> bool:
        """The run labelled its documents; otherwise it compressed them."""
        return bool(self.manifest["signature"].get("job") == "label")

    @cached_property
    def selector(self) -> Selector:
        """What decided."""
        return read_selector(self.storage, self.manifest)

    def find(self, choice: Choice) -> list[Found]:
        """The documents chosen.

        Raises:
            ConfigError: There is no such document; the message names near ids, or how many there
                are, or why it is in quarantine.
        """
        if choice.id is not None:
            return [self._find_id(choice.id)]
        if choice.position is None:
            return list(islice(self._rows(0), choice.first))
        found = next(self._rows(choice.position), None)
        if found is None:
            raise no_such_position(self.storage.url, choice.position, self._num_documents)
        return [found]

    def find_row(self, split: int, row: int) -> Found:
        """A document by its split's place in the manifest and its row in that split's file.

        Raises:
            StopIteration: There is no such row.
        """
        entries = self.manifest["splits"]
        before = sum(entry["documents"] for entry in entries[:split])
        name = entries[split]["data"]["name"]
        rows = self._read(name, self.storage.get(name), first=row)
        found = next(rows)
        return self._found(entries[split], before + row, found)

    @property
    def _num_documents(self) -> int:
        return sum(entry["documents"] for entry in self.manifest["splits"])

    def _rows(self, first: int) -> Iterator[Found]:
        """The documents from a place on; files before it are not read."""
        position = 0
        for entry in self.manifest["splits"]:
            count = entry["documents"]
            if position + count > first and entry["data"] is not None:
                skipped = max(0, first - position)
                name = entry["data"]["name"]
                rows = self._read(name, self.storage.get(name), skipped)
                for place, row in enumerate(rows, position + skipped):
                    yield self._found(entry, place, row)
            position += count

    def _read(self, name: str, data: bytes, first: int = 0) -> Iterator[dict[str, Any]]:
        """The rows of a data file from a place on, as far as they are shown.

        Other columns may hold what Python does not: a date before the year 1.
        """
        if self.is_labelled or not name.endswith(".parquet"):
            return islice(iterate_rows(name, data), first, None)
        signature = self.manifest["signature"]
        ours = annotation_schema(signature["output.annotations"]).names
        shown = {signature["input.text_column"], self._id_column or "id", EXTRA_JSON, *ours}
        file = pq.ParquetFile(pa.BufferReader(data))
        columns = [column for column in file.schema_arrow.names if column in shown]
        return _rows_from(file, columns, first)

    def _found(self, entry: Mapping[str, Any], position: int, row: Mapping[str, Any]) -> Found:
        text = row["text" if self.is_labelled else self.manifest["signature"]["input.text_column"]]
        id_ = id_of(row, self._id_column or "id")
        return Found(title_of(entry["source"]["path"], position, id_), text, row)

    @property
    def _id_column(self) -> str | None:
        if self.is_labelled:
            return "id"
        column: str | None = self.manifest["signature"]["input.id_column"]
        return column

    def _find_id(self, wanted: str) -> Found:
        ids: list[str] = []
        position = 0
        for entry in self.manifest["splits"]:
            if entry["data"] is not None:
                name = entry["data"]["name"]
                data = self.storage.get(name)
                own = [None if id_ is None else str(id_) for id_ in self._read_ids(name, data)]
                if wanted in own:
                    place = own.index(wanted)
                    row = next(self._read(name, data, place))
                    return self._found(entry, position + place, row)
                ids.extend(islice((id_ for id_ in own if id_ is not None), MAX_IDS - len(ids)))
            position += entry["documents"]
        for reason in self._quarantined(wanted):
            raise ConfigError(f"the document with id {wanted!r} is in quarantine: {reason}")
        if position and not ids:
            raise _no_ids()
        raise no_such_id(self.storage.url, wanted, ids)

    def _read_ids(self, name: str, data: bytes) -> Iterator[Any]:
        column = self._id_column or "id"
        is_parquet = name.endswith(".parquet")
        if is_parquet and column not in pq.read_schema(pa.BufferReader(data)).names:
            raise _no_ids()
        for row in iterate_rows(name, data, [column, EXTRA_JSON]):
            yield id_of(row, column)

    def _quarantined(self, wanted: str) -> Iterator[str]:
        for entry in self.manifest["splits"]:
            if entry["quarantine"] is not None:
                records = read_quarantine(self.storage.get(entry["quarantine"]["name"]))
                yield from (record["reason"] for record in records if record["id"] == wanted)

    def view(self, found: Found) -> DocumentView:
        """A document as the run left it."""
        row = found.row
        assert row is not None, "documents of an output come with their row"
        if self.is_labelled:
            return _view_labels(found.title, row)
        words = cut_words(found.text)
        keep = words_in_spans(words, [(span["start"], span["end"]) for span in row["kept_spans"]])
        config = self.selector.config
        return DocumentView(
            title=found.title,
            text=found.text,
            words=words,
            keep=keep,
            num_tokens=row["num_tokens"],
            num_kept_tokens=row["num_kept_tokens"],
            budget=describe_budget(config),
            unit=unit_of(config),
            over_budget=row["over_budget"],
            protections=find_protections(found.text, words, config),
            figures=self._figures(found.text, words, keep, row.get("kept_words")),
            selector=self.selector,
        )

    def _figures(
        self,
        text: str,
        words: Words,
        keep: NDArray[np.bool_],
        listed: Sequence[Mapping[str, Any]] | None,
    ) -> WordFigures | None:
        if listed is None:
            return None
        is_listed = np.ones_like(keep) if len(listed) == len(words) else keep
        tokens = self._tokenizer.tokenize([text])[0]

        def column(name: str) -> NDArray[np.float32]:
            values = np.full(len(words), np.nan, dtype=np.float32)
            values[is_listed] = [word[name] for word in listed]
            return values

        return WordFigures(
            preserve_probability=column("preserve_probability"),
            outlier_score=column("outlier_score"),
            score=column("score"),
            token_counts=count_tokens(map_tokens(tokens, words), len(words)),
            num_tokens=len(tokens),
        )

    @cached_property
    def _tokenizer(self) -> TextTokenizer:
        return read_tokenizer(self.storage, TOKENIZER)


def _no_ids() -> ConfigError:
    return ConfigError(
        "--id needs a run made with input.id_column, or a column named id; no document of this one "
        "has an id: choose by --position"
    )


def _rows_from(file: pq.ParquetFile, columns: list[str], first: int) -> Iterator[dict[str, Any]]:
    """Rows from a place on, each made into Python values when it is asked for.

    A row holds thousands of words, and of a batch often one alone is shown.
    """
    for batch in file.iter_batches(BATCH_ROWS, columns=columns):
        for row in range(first, batch.num_rows):
            yield from python_rows(batch.slice(row, 1))
        first = max(0, first - batch.num_rows)


def _view_labels(title: str, row: Mapping[str, Any]) -> DocumentView:
    """A labelled document: what the teacher would keep."""
    listed = row["words"]
    words = Words(
        np.array([word["start"] for word in listed], dtype=np.int32),
        np.array([word["end"] for word in listed], dtype=np.int32),
    )
    labels = np.array(
        [np.nan if word["label"] is None else word["label"] for word in listed], dtype=np.float32
    )
    keep = labels >= 0.5
    return DocumentView(
        title=title,
        text=row["text"],
        words=words,
        keep=keep,
        num_tokens=len(words),
        num_kept_tokens=int(keep.sum()),
        budget="labels of 0.5 or more",
        unit="words",
        figures=WordFigures(
            preserve_probability=labels,
            outlier_score=np.full(len(words), np.nan, dtype=np.float32),
            score=labels,
        ),
    )
