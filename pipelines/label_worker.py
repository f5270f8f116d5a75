"""The labelling job's worker: documents with their pairs to the teacher, its labels to rows."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moos.errors import DataError
from moos.labelled_rows import UNFILTERED_SCHEMA
from moos.labelling import Labelled, TeacherInput, WordLabels
from moos.pieces import RawPiece
from moos.splits import InputSplit
from pipelines.child import ChildProcess
from pipelines.counts import ProgressCallback
from pipelines.groups import Group, advance, begin_group, keep_only
from pipelines.label_retry_sink import LabelRetrySink
from pipelines.label_sink import LabelCounts, LabelSink, commit_rows
from pipelines.label_spec import LabelSpec
from pipelines.sinks import Sink
from pipelines.work import SplitWorker, load_parts


class LabelChild(ChildProcess):
    """The teacher in a child process."""

    def label(self, inputs: Sequence[TeacherInput]) -> list[WordLabels | DataError]:
        """Label documents."""
        self.num_scored += len(inputs)
        return self.call("label", inputs)


@dataclass(slots=True, kw_only=True)
class LabelWorker(SplitWorker):
    """What a process has loaded to label splits, or to filter labelled ones."""

    spec: LabelSpec
    _retried: set[int] | None = None

    @classmethod
    def load(cls, spec: LabelSpec, *, in_driver: bool = False) -> "LabelWorker":
        """Load what the spec's task needs.

        Args:
            spec: The settings.
            in_driver: This process is the driver's own.

        Raises:
            ConfigError: The teacher's key is missing here.
            ModelError: The teacher cannot be loaded.
        """
        return cls(spec=spec, in_driver=in_driver, **load_parts(spec, frozenset()))

    def work(
        self,
        split: InputSplit,
        report: ProgressCallback,
        pieces: Iterable[RawPiece] | None = None,
    ) -> dict[str, Any]:
        """Label and commit a split, or filter what is labelled of it; its record."""
        if self.spec.task != "filter":
            self.stages.report = _Relay(split.id, report)
            # The base's name is given: `super()` needs a cell that slotted dataclasses lose.
            return SplitWorker.work(self, split, report, pieces)
        began = time.monotonic()
        with self._begun(split, "work"):
            return self._told(self._filter(split), began)

    def _filter(self, split: InputSplit) -> dict[str, Any]:
        labelled = self.state.read_scored_record(split)
        table = UNFILTERED_SCHEMA.empty_table()
        data, bad = labelled["data"], labelled["quarantine"]
        if data is not None:
            table = pq.read_table(pa.BufferReader(self.output.get(data["name"])))
        record = commit_rows(
            self.output,
            {"split": labelled["split"], "source": labelled["source"]},
            table,
            self.spec.bounds,
            counts=labelled["counts"],
            by_reason=labelled.get("quarantined_by_reason", {}),
            numerics=labelled["numerics"],
            quarantine=b"" if bad is None else self.output.get(bad["name"]),
            has_ids=self.parser.id_column is not None,
        )
        self._commit(record)
        return {**record, "documents_scored": 0}

    def _open_sink(self, split: InputSplit) -> tuple[Sink, str | None]:
        assert self.stages.labeller is not None, "a task that labels has a teacher"
        config, bounds, teacher = self.spec.config, self.spec.bounds, self.stages.labeller.name
        if self.spec.task == "label":
            sink = LabelSink(split, config, teacher=teacher, bounds=bounds, numerics=self.numerics)
            return sink, None
        done = self.state.read_done_record(split)
        retry = LabelRetrySink(
            split, config, teacher=teacher, bounds=bounds, done=done, output=self.output
        )
        self._retried = retry.positions
        return retry, None

    def _prepare(self, piece: RawPiece, stages: Any) -> Group[TeacherInput]:
        group = begin_group(self.parser.parse(piece))
        if self._retried is not None:
            group = keep_only(group, self._retried)
        column = getattr(self.spec.config.teacher, "compressed_column", None)
        if column is None:
            inputs = [TeacherInput(text) for text in group.items]
            return Group(group.records, group.rows, inputs, group.bad)
        rows, items, bad = [], [], list(group.bad)
        compressed = group.records.values(column)
        for row, text in zip(group.rows, group.items, strict=True):
            try:
                items.append(TeacherInput(text, _check_compressed(compressed[row], column)))
                rows.append(row)
            except DataError as error:
                bad.append(group.records.reject(row, str(error), self.parser.id_column))
        return Group(group.records, rows, items, bad)

    def _score(self, group: Group[Any], stages: Any) -> Group[WordLabels]:
        return advance(group, stages.label, stages.probe, self.parser.id_column)

    def _finish(self, group: Group[Any], stages: Any) -> Group[WordLabels]:
        return group

    def _make_child(self) -> LabelChild:
        return LabelChild(self.spec)

    def _commit(self, record: dict[str, Any]) -> None:
        if self.spec.bounds is None:
            self.state.write_scored(record)
        else:
            self.state.write_done(record)


class _Relay:
    """Tells how far a split is while its teacher is at a group: a group may take many minutes."""

    def __init__(self, split_id: str, report: ProgressCallback) -> None:
        self._split_id = split_id
        self._report = report
        self._done = Labelled()
        self._last = Labelled()

    def __call__(self, so_far: Labelled) -> None:
        now = replace(so_far)
        if now.chars < self._last.chars:  # the next group
            self._done = _sum(self._done, self._last)
        self._last = now
        total = _sum(self._done, now)
        counts = {**asdict(LabelCounts()), **asdict(total), "input_bytes": total.chars}
        self._report(self._split_id, counts)


def _sum(a: Labelled, b: Labelled) -> Labelled:
    return Labelled(
        a.documents + b.documents, a.chars + b.chars, a.words + b.words, a.kept_words + b.kept_words
    )


def _check_compressed(compressed: Any, column: str) -> str:
    if not isinstance(compressed, str):
        found = "null or missing" if compressed is None else type(compressed).__name__
        raise DataError(f"{column!r} is {found}, not a string (teacher.compressed_column)")
    return compressed
