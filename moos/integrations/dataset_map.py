"""A function for `datasets`' `map`: rows in, the columns of a compress run out."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import PrivateAttr, model_validator

from moos import __version__
from moos.checkpoint import read_checkpoint
from moos.document import CompressedDocument
from moos.errors import ConfigError, DataError
from moos.integrations.passages import CompressionSettings, missing_package
from moos.schema import Annotations, annotation_columns, annotation_schema, check_columns

ERROR_COLUMN = "compression_error"


class MoosBatchCompressor(CompressionSettings):
    """Compresses the rows of a batch: `dataset.map(MoosBatchCompressor(rate=0.5), batched=True)`.

    Works with `num_proc`, each process loading the model once, with streaming datasets, and on
    Arrow batches (`dataset.with_format("arrow")`), which is the fastest. Every row stays, and gets
    the columns that `moos compress` adds, and `compression_error`: empty, or why this row could not
    be compressed; its other added columns are then null. Plain batches leave the columns' types to
    `datasets`, which takes them from the first rows; `features` fixes them.

    What `datasets` hashes for its cache holds the settings, the checkpoint's contents and moos's
    version: a changed one is computed anew.
    """

    text_column: str = "text"
    """Column that holds the text."""

    annotations: Annotations = "none"
    """Words listed in `kept_words`: `kept`, `all`, or `none` for no such column."""

    _computed_by: tuple[str, str] = PrivateAttr(default=("", ""))

    @model_validator(mode="after")
    def _has_rows_only(self) -> "MoosBatchCompressor":
        if self.corpus_rate is not None:
            raise ValueError(
                "corpus_rate is one threshold for all rows, and a map function sees a batch of "
                "them; set rate, target_tokens or threshold, or run `moos compress`"
            )
        return self

    def model_post_init(self, context: Any) -> None:
        """Note what decides the result beside the settings; pickling keeps it."""
        super().model_post_init(context)
        self._computed_by = (__version__, read_checkpoint(self.checkpoint).sha256)

    def __call__(self, batch: Any) -> Any:
        """The added columns of a batch, or an Arrow batch with them.

        Args:
            batch: Columns by name, or a `pyarrow.Table`.

        Raises:
            ConfigError: There is no such text column, a column is named like an added one, or a
                threshold is set on scores that are not comparable across windows.
            ModelError: The checkpoint cannot serve as a compressor.
        """
        is_table = isinstance(batch, pa.Table)
        names = list(batch.column_names if is_table else batch)
        if self.text_column not in names:
            raise ConfigError(
                f"no column {self.text_column!r}, only {', '.join(names)}; set text_column"
            )
        check_columns(names, [*annotation_schema(self.annotations).names, ERROR_COLUMN])
        column = batch[self.text_column]
        added = self._compress(column.to_pylist() if is_table else column)
        if not is_table:
            return dict(added.to_pydict())
        for name in added.column_names:
            batch = batch.append_column(name, added[name])
        return batch

    def features(self, known: Mapping[str, Any]) -> Any:
        """The `datasets.Features` of the mapped dataset, for `map(..., features=...)`.

        Args:
            known: Those of the dataset: `dataset.features`.
        """
        try:
            from datasets import Features
        except ModuleNotFoundError as error:
            raise missing_package("datasets", "datasets", error) from error
        return Features({**known, **Features.from_arrow_schema(self._schema())})

    def _schema(self) -> pa.Schema:
        return annotation_schema(self.annotations).append(pa.field(ERROR_COLUMN, pa.string()))

    def _compress(self, texts: Sequence[Any]) -> pa.Table:
        """The added columns of these texts."""
        found = iter(self.compress_each([text for text in texts if isinstance(text, str)]))
        results = [
            next(found)
            if isinstance(text, str)
            else DataError(
                f"{self.text_column!r} is {'null' if text is None else type(text).__name__}"
            )
            for text in texts
        ]
        documents = [result for result in results if isinstance(result, CompressedDocument)]
        table = pa.Table.from_arrays(
            annotation_columns(documents, self.annotations),
            schema=annotation_schema(self.annotations),
        )
        if len(documents) < len(results):
            ranks = iter(range(len(documents)))
            rows = [None if isinstance(r, DataError) else next(ranks) for r in results]
            table = table.take(pa.array(rows, pa.int64()))
        errors = [str(result) if isinstance(result, DataError) else "" for result in results]
        return table.append_column(ERROR_COLUMN, pa.array(errors, pa.string()))
