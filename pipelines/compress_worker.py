"""The compress job's worker: prepare, score, select, commit, in one process or in three."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from moos.document import CompressedDocument
from moos.errors import DataError, MoosError
from moos.pieces import RawPiece
from moos.preparation import PreparedText
from moos.schema import reserved_columns
from moos.score_table import StoredScores, StoredText, read_scores
from moos.scored_text import ProtectedText, ScoredText
from moos.source_files import DamagedFileError
from moos.splits import InputSplit
from pipelines.child import ChildProcess
from pipelines.commit import JsonlRows, ParquetRows
from pipelines.counts import ProgressCallback, SplitCounts, count_scored
from pipelines.groups import Group, advance, begin_group, keep_only
from pipelines.retry_sink import RetrySink
from pipelines.run_state import named_objects
from pipelines.sinks import RowSink, ScoreSink, Sink
from pipelines.staged_split import StagedSplit
from pipelines.stages import Stages, TextStages
from pipelines.work import SplitWorker, load_parts
from pipelines.work_spec import WorkSpec


class ChildStages(ChildProcess):
    """The stages of `WorkSpec` in a child process."""

    def prepare(self, texts: Sequence[str]) -> Sequence[PreparedText | DataError]:
        """Tokenise, cut words and windows."""
        return self.call("prepare", texts)

    def score(self, parts: Sequence[PreparedText]) -> Sequence[ScoredText | DataError]:
        """Run the model."""
        self.num_scored += len(parts)
        return self.call("score", parts)

    def compress(self, texts: Sequence[ScoredText]) -> Sequence[CompressedDocument | DataError]:
        """Select and render."""
        return self.call("compress", texts)

    def protect(self, texts: Sequence[ScoredText]) -> Sequence[ProtectedText | DataError]:
        """Find the protected words."""
        return self.call("protect", texts)

    def select(self, texts: Sequence[StoredText]) -> Sequence[CompressedDocument | DataError]:
        """Select and render from stored scores."""
        return self.call("select", texts)


@dataclass(slots=True, kw_only=True)
class CompressWorker(SplitWorker):
    """What a process has loaded to compress splits, or to do one stage of that work.

    `work` does a split whole. `prepare`, `score` and `commit` do it in three processes: each takes
    what the one before it gave, as bytes.
    """

    spec: WorkSpec
    schema: pa.Schema
    _stored: dict[int, StoredScores] = field(default_factory=dict)
    _retried: set[int] | None = None

    @classmethod
    def load(cls, spec: WorkSpec, *, in_driver: bool = False) -> "CompressWorker":
        """Load what the spec's task and role need.

        Args:
            spec: The settings.
            in_driver: This process is the driver's own.

        Raises:
            ModelError: The checkpoint cannot be loaded.
            MoosError: It is not the one the run was planned with.
        """
        schema = pa.ipc.read_schema(pa.BufferReader(spec.input_schema))
        parts = load_parts(
            spec, reserved_columns(chunks=spec.config.output.chunks.tokens is not None)
        )
        return cls(spec=spec, schema=schema, in_driver=in_driver, **parts)

    def prepare(self, split: InputSplit, pieces: Iterable[RawPiece] | None = None) -> bytes:
        """The first of three stages: read and tokenise."""
        began = time.monotonic()
        with self._begun(split, "prepare") as suspect:
            self._check_source(split)
            pieces = self._read(split) if pieces is None else pieces
            groups: list[Group[Any]] = []
            damage = None
            try:
                with self._stages(suspect, split) as stages:
                    groups = [self._prepare(piece, stages) for piece in pieces]
            except DamagedFileError as error:
                groups, damage = [], str(error)
            return StagedSplit(split, groups, damage, seconds=time.monotonic() - began).pack()

    def score(self, packed: bytes, report: ProgressCallback) -> bytes:
        """The second of three stages: run the model."""
        began = time.monotonic()
        staged = StagedSplit.unpack(packed)
        with self._begun(staged.split, "score") as suspect:
            before = self.stages.num_scored
            scored: list[Group[Any]] = []
            counts = SplitCounts()
            with self._stages(suspect, staged.split) as stages:
                for group in staged.groups:
                    scored.append(self._score(group, stages))
                    counts.add(count_scored(group.records, scored[-1].items, len(scored[-1].bad)))
                    report(staged.split.id, asdict(counts))
            num_scored = self.stages.num_scored - before
            seconds = staged.seconds + time.monotonic() - began
            return StagedSplit(
                staged.split, scored, staged.damage, self.numerics, num_scored, seconds
            ).pack()

    def commit(self, packed: bytes) -> dict[str, Any]:
        """The last of three stages: select, write, and commit; the split's record."""
        began = time.monotonic()
        staged = StagedSplit.unpack(packed)
        with self._begun(staged.split, "commit") as suspect:
            sink = self._make_sink(staged.split, staged.numerics)
            if staged.damage is not None:
                sink.add_damage(staged.damage)
            with self._stages(suspect, staged.split) as stages:
                for group in staged.groups:
                    sink.add(self._finish(group, stages))
            self._check_source(staged.split)
            return self._told(self._write(sink, staged.num_scored), began - staged.seconds)

    def _make_child(self) -> ChildStages:
        return ChildStages(self.spec)

    def _open_sink(self, split: InputSplit) -> tuple[Sink, str | None]:
        stored = self._read_stored(split)
        return self._make_sink(split, stored.get("numerics", {})), stored.get("damage")

    def _prepare(self, piece: RawPiece, stages: Stages) -> Group[Any]:
        group = begin_group(self.parser.parse(piece))
        if self.spec.task == "select":
            return self._attach_scores(group)
        if self._retried is not None:
            group = keep_only(group, self._retried)
        return advance(group, stages.prepare, stages.probe, self.parser.id_column)

    def _score(self, group: Group[Any], stages: Stages) -> Group[Any]:
        if self.spec.task == "select":
            return group
        return advance(group, stages.score, stages.probe, self.parser.id_column)

    def _begin_score(self, group: Group[Any], stages: TextStages) -> Callable[[], Group[Any]]:
        if self.spec.task == "select":
            return lambda: group
        try:
            end = stages.begin_score(group.items)
        except Exception:  # noqa: BLE001  whatever a document makes happen; it is met again
            return lambda: self._score(group, stages)

        def score(items: Sequence[Any]) -> Sequence[Any]:
            """What was begun, for the whole group; should that fail, other parts of it."""
            return end() if items is group.items else stages.score(items)

        return lambda: advance(group, score, stages.probe, self.parser.id_column)

    def _finish(self, group: Group[Any], stages: Stages) -> Group[Any]:
        last = {"score": stages.protect, "select": stages.select}
        stage: Any = last.get(self.spec.task, stages.compress)
        return advance(group, stage, stages.probe, self.parser.id_column)

    def _attach_scores(self, group: Group[str]) -> Group[StoredText]:
        """The group's texts with their stored scores; without those that could not be scored."""
        records = group.records
        rows, items, bad = [], [], list(group.bad)
        for row, text in zip(group.rows, group.items, strict=True):
            stored = self._stored.get(records.positions[row])
            if stored is None:
                raise MoosError(
                    f"no score is stored for the record at {records.positions[row]}; the input "
                    "changed while the run was on: run again to plan anew"
                )
            if stored.reason is not None:
                bad.append(records.reject(row, stored.reason, self.parser.id_column))
            else:
                rows.append(row)
                items.append(StoredText(text, stored))
        return Group(records, rows, items, bad)

    def _read_stored(self, split: InputSplit) -> dict[str, Any]:
        """The split's scored record, its table at hand, where the task begins with that."""
        if self.spec.task != "select":
            return {}
        record = self.state.read_scored_record(split)
        (name,) = named_objects(record)
        self._stored = read_scores(self.output.get(name))
        return record

    def _make_sink(self, split: InputSplit, numerics: dict[str, Any]) -> Sink:
        numerics = numerics or self.numerics
        if self.spec.task == "score":
            return ScoreSink(split, numerics)
        output = self.spec.config.output
        rows_class = ParquetRows if output.format == "parquet" else JsonlRows
        rows = rows_class(self.schema, output.annotations, chunks=output.chunks.tokens is not None)
        id_column = self.parser.id_column
        if self.spec.task == "retry":
            done = self.state.read_done_record(split)
            sink = RetrySink(split, rows, done=done, output=self.output, id_column=id_column)
            self._retried = sink.positions
            return sink
        return RowSink(split, rows, numerics=numerics, id_column=id_column)

    def _commit(self, record: dict[str, Any]) -> None:
        if self.spec.task == "score":
            self.state.write_scored(record)
        else:
            self.state.write_done(record)
