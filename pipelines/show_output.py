"""Documents of a run's output, as they stand there."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moos.config import SelectionConfig
from moos.corpus import CorpusThreshold
from moos.errors import ConfigError
from moos.rendering import words_in_spans
from moos.schema import annotation_schema
from moos.selector import Selector
from moos.show.document_view import (
    DocumentView,
    WordFigures,
    describe_budget,
    find_protections,
    unit_of,
)
from moos.storage import Storage
from moos.tokens import TextTokenizer
from moos.words import Words, count_tokens, cut_words, map_tokens
from pipelines.outputs import iterate_rows, read_manifest
from pipelines.run_state import BUDGET_TOKENIZER, SIGNATURE, TOKENIZER
from pipelines.show_choice import MAX_IDS, Choice, Found, no_such_id, no_such_position, title_of


def is_output(place: str) -> bool:
    """Whether a run keeps its state there."""
    return Storage(place).exists(SIGNATURE)


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
    def open(cls, place: str) -> "ShownOutput":
        """Open a run's output.

        Raises:
            ConfigError: There is no complete run.
        """
        storage = Storage(place)
        return cls(storage, read_manifest(storage))

    @property
    def is_labelled(self) -> bool:
        """The run labelled its documents; otherwise it compressed them."""
        return bool(self.manifest["signature"].get("job") == "label")

    @cached_property
    def selector(self) -> Selector:
        """What decided, with the threshold of the corpus if there is one."""
        prefix = "selection."
        signature = self.manifest["signature"]
        settings = {k[len(prefix) :]: v for k, v in signature.items() if k.startswith(prefix)}
        corpus = self.manifest.get("corpus_threshold")
        return self.make_selector(
            SelectionConfig.model_validate(settings | {"budget_tokenizer": None}),
            has_reader=settings["budget_tokenizer"] is not None,
            corpus=None if corpus is None else CorpusThreshold.from_json(corpus),
        )

    def make_selector(
        self, config: SelectionConfig, *, has_reader: bool, corpus: CorpusThreshold | None = None
    ) -> Selector:
        """A selector that counts in the tokens that the run counted in.

        Args:
            config: The selection, whose `budget_tokenizer` does not count.
            has_reader: The run's budget is in a reader's tokens.
            corpus: The corpus's threshold.
        """
        if not has_reader:
            return Selector(config.model_copy(update={"budget_tokenizer": None}), corpus=corpus)
        reader = TextTokenizer(self.storage.get(BUDGET_TOKENIZER).decode("utf-8"))
        config = config.model_copy(update={"budget_tokenizer": BUDGET_TOKENIZER})
        return Selector(config, reader, corpus=corpus)

    def find(self, choice: Choice) -> list[Found]:
        """The documents chosen.

        Raises:
            ConfigError: There is no such document; the message names near ids, or how many there
                are, or why it is in quarantine.
        """
        if choice.id is not None:
            return [self._find_id(choice.id)]
        if choice.position is None:
            return [found for found, _ in zip(self._rows(0), range(choice.first), strict=False)]
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
        rows = self._read(name, self.storage.get(name))
        found = next(one for place, one in enumerate(rows) if place == row)
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
                rows = self._read(name, self.storage.get(name))
                for place, row in enumerate(rows):
                    if place >= skipped:
                        yield self._found(entry, position + place, row)
            position += count

    def _read(self, name: str, data: bytes) -> Iterator[dict[str, Any]]:
        """The rows of a data file, as far as they are shown.

        Other columns may hold what Python does not: a date before the year 1.
        """
        if self.is_labelled or not name.endswith(".parquet"):
            return iterate_rows(name, data)
        signature = self.manifest["signature"]
        ours = annotation_schema(signature["output.annotations"]).names
        shown = {signature["input.text_column"], self._id_column or "id", *ours}
        present = pq.read_schema(pa.BufferReader(data)).names
        return iterate_rows(name, data, [column for column in present if column in shown])

    def _found(self, entry: Mapping[str, Any], position: int, row: Mapping[str, Any]) -> Found:
        text = row["text" if self.is_labelled else self.manifest["signature"]["input.text_column"]]
        id_ = row.get(self._id_column or "id")
        return Found(title_of(entry["source"]["path"], position, id_), text, row)

    @property
    def _id_column(self) -> str | None:
        if self.is_labelled:
            return "id"
        column: str | None = self.manifest["signature"]["input.id_column"]
        return column

    def _find_id(self, wanted: str) -> Found:
        column = self._id_column or "id"
        ids: list[str] = []
        position = 0
        for entry in self.manifest["splits"]:
            if entry["data"] is not None:
                name = entry["data"]["name"]
                data = self.storage.get(name)
                own = [str(id_) for id_ in self._read_ids(name, data, column)]
                if wanted in own:
                    place = own.index(wanted)
                    row = next(r for i, r in enumerate(self._read(name, data)) if i == place)
                    return self._found(entry, position + place, row)
                ids.extend(own[: MAX_IDS - len(ids)])
            position += entry["documents"]
        for reason in self._quarantined(wanted):
            raise ConfigError(f"the document with id {wanted!r} is in quarantine: {reason}")
        raise no_such_id(self.storage.url, wanted, ids)

    def _read_ids(self, name: str, data: bytes, column: str) -> Iterator[Any]:
        if name.endswith(".parquet"):
            if column not in pq.read_schema(pa.BufferReader(data)).names:
                raise self._no_ids()
            yield from (row[column] for row in iterate_rows(name, data, [column]))
            return
        for row in iterate_rows(name, data):
            if column not in row and self._id_column is None:
                raise self._no_ids()
            yield row.get(column)

    def _no_ids(self) -> ConfigError:
        return ConfigError(
            "--id needs a run made with input.id_column, or a column named id; this one has "
            "neither: choose by --position"
        )

    def _quarantined(self, wanted: str) -> Iterator[str]:
        for entry in self.manifest["splits"]:
            if entry["quarantine"] is not None:
                for line in self.storage.get(entry["quarantine"]["name"]).split(b"\n"):
                    if line and (record := json.loads(line))["id"] == wanted:
                        yield record["reason"]

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
        return TextTokenizer(self.storage.get(TOKENIZER).decode("utf-8"))


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
