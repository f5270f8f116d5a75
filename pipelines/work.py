"""One split from input to record: the functions that every executor shares."""

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from moos.errors import MoosError
from moos.pieces import RawPiece, RunReader
from moos.records import RecordParser
from moos.score_table import StoredScores, StoredText, read_scores
from moos.source_files import DamagedFileError
from moos.splits import InputSplit
from moos.storage import Storage, describe_file
from pipelines.attempts import AttemptRecord, attempt
from pipelines.child import ChildStages
from pipelines.commit import JsonlRows, ParquetRows
from pipelines.counts import ProgressCallback, SplitCounts, count_scored
from pipelines.groups import Group, advance, begin_group, keep_only
from pipelines.prefetch import prefetch
from pipelines.retry_sink import RetrySink
from pipelines.run_state import RunState, describe_source, named_objects
from pipelines.sinks import RowSink, ScoreSink, Sink
from pipelines.staged_split import StagedSplit
from pipelines.stages import Stages, TextStages
from pipelines.watchdog import Watchdog, memory_limit
from pipelines.work_spec import WorkSpec, load_stages

logger = logging.getLogger(__name__)

PREFETCHED_GROUPS = 2


@dataclass(slots=True)
class SplitWorker:
    """What a process has loaded to work splits, or to do one stage of that work.

    `work` does a split whole. `prepare`, `score` and `commit` do it in three processes: each takes
    what the one before it gave, as bytes.
    """

    spec: WorkSpec
    source: Storage
    output: Storage
    state: RunState
    parser: RecordParser
    schema: pa.Schema
    stages: TextStages
    numerics: dict[str, Any]
    watchdog: Watchdog
    in_driver: bool
    _stored: dict[int, StoredScores] = field(default_factory=dict)
    _retried: set[int] | None = None
    _child: ChildStages | None = None

    @classmethod
    def load(cls, spec: WorkSpec, *, in_driver: bool = False) -> "SplitWorker":
        """Load what the spec's task and role need.

        Args:
            spec: The settings.
            in_driver: This process is the driver's own.

        Raises:
            ModelError: The checkpoint cannot be loaded.
            MoosError: It is not the one the run was planned with.
        """
        config = spec.config
        limits = config.document_limits
        watchdog = Watchdog(limits.timeout_s, memory_limit(limits.memory))
        stages, numerics = load_stages(spec, watchdog.beat)
        output = Storage(
            config.output.path, config.output.storage_options, retries=config.output.retries
        )
        settings = config.input
        return cls(
            spec=spec,
            source=Storage(settings.paths[0], settings.storage_options, retries=settings.retries),
            output=output,
            state=RunState(output, spec.signature),
            parser=RecordParser(
                settings.text_column, settings.id_column, settings.max_document_chars
            ),
            schema=pa.ipc.read_schema(pa.BufferReader(spec.input_schema)),
            stages=stages,
            numerics=numerics,
            watchdog=watchdog,
            in_driver=in_driver,
        )

    def work(
        self,
        split: InputSplit,
        report: ProgressCallback,
        pieces: Iterable[RawPiece] | None = None,
    ) -> dict[str, Any]:
        """Read, compress (or score, or select) and commit a split; its record.

        Args:
            split: The split.
            report: Told how far it is.
            pieces: Its pieces where somebody else reads them.

        Raises:
            MoosError: The source changed since it was planned.
        """
        with self._begun(split, "work") as suspect:
            self._check_source(split)
            stored = self._read_stored(split)
            sink = self._make_sink(split, stored.get("numerics", {}))
            before = self.stages.num_scored
            pieces = self._read(split) if pieces is None else pieces
            try:
                if stored.get("damage"):
                    raise DamagedFileError(stored["damage"])
                if suspect:
                    self._work_apart(split, pieces, sink, report)
                else:
                    with self.watchdog:
                        self._work_here(split, pieces, sink, report)
            except DamagedFileError as error:
                sink.add_damage(str(error))
            self._check_source(split)
            return self._write(sink, self.stages.num_scored - before)

    def prepare(self, split: InputSplit, pieces: Iterable[RawPiece] | None = None) -> bytes:
        """The first of three stages: read and tokenise."""
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
            return StagedSplit(split, groups, damage).pack()

    def score(self, packed: bytes, report: ProgressCallback) -> bytes:
        """The second of three stages: run the model."""
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
            return StagedSplit(
                staged.split, scored, staged.damage, self.numerics, num_scored
            ).pack()

    def commit(self, packed: bytes) -> dict[str, Any]:
        """The last of three stages: select, write, and commit; the split's record."""
        staged = StagedSplit.unpack(packed)
        with self._begun(staged.split, "commit") as suspect:
            sink = self._make_sink(staged.split, staged.numerics)
            if staged.damage is not None:
                sink.add_damage(staged.damage)
            with self._stages(suspect, staged.split) as stages:
                for group in staged.groups:
                    sink.add(self._finish(group, stages))
            self._check_source(staged.split)
            return self._write(sink, staged.num_scored)

    @contextmanager
    def _begun(self, split: InputSplit, stage: str) -> Iterator[bool]:
        record = AttemptRecord(
            self.state, f"{split.id}-{self.spec.task}-{stage}", describe_source(split)
        )
        with attempt(record, self.spec.driver, in_driver=self.in_driver) as suspect:
            yield suspect or self._child is not None

    @contextmanager
    def _stages(self, suspect: bool, split: InputSplit) -> Iterator[Stages]:
        """The stages here, watched; or in a child for a split that may end its process."""
        if not suspect:
            with self.watchdog:
                yield self.stages
            return
        logger.warning(
            "%s is worked in a process of its own: one that worked it before ended", split.id
        )
        child = self._child or ChildStages(self.spec)
        before = child.num_scored
        try:
            yield child
            self.stages.num_scored += child.num_scored - before
        finally:
            # A driver that a document killed would be killed by the next such document: it works
            # all other splits apart, too. A replica has others to take its work over.
            self._child = child if self.in_driver and child.num_ended else None
            if self._child is None:
                child.close()

    def close(self) -> None:
        """End the child process, if there is one."""
        if self._child is not None:
            self._child.close()

    def _work_apart(
        self, split: InputSplit, pieces: Iterable[RawPiece], sink: Sink, report: ProgressCallback
    ) -> None:
        with self._stages(True, split) as stages:
            for piece in pieces:
                group = self._score(self._prepare(piece, stages), stages)
                sink.add(self._finish(group, stages))
                report(split.id, asdict(sink.counts))

    def _work_here(
        self, split: InputSplit, pieces: Iterable[RawPiece], sink: Sink, report: ProgressCallback
    ) -> None:
        """Reading and tokenising ahead, and selecting behind, run beside the model."""

        def finish(group: Group[Any]) -> None:
            sink.add(self._finish(group, self.stages))
            report(split.id, asdict(sink.counts))

        with ThreadPoolExecutor(1, "moos-finish") as finisher:
            finishing: Future[None] | None = None
            ahead = (self._prepare(piece, self.stages) for piece in pieces)
            for prepared in prefetch(ahead, PREFETCHED_GROUPS):
                scored = self._score(prepared, self.stages)
                if finishing is not None:
                    finishing.result()
                finishing = finisher.submit(finish, scored)
            if finishing is not None:
                finishing.result()

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

    def _read(self, split: InputSplit) -> Iterator[RawPiece]:
        return RunReader(self.source, [split], self.parser.text_column).read(split)

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
        rows = rows_class(self.schema, output.annotations)
        id_column = self.parser.id_column
        if self.spec.task == "retry":
            done = self.state.read_done_record(split)
            sink = RetrySink(split, rows, done=done, output=self.output, id_column=id_column)
            self._retried = sink.positions
            return sink
        return RowSink(split, rows, numerics=numerics, id_column=id_column)

    def _write(self, sink: Sink, num_scored: int) -> dict[str, Any]:
        record = sink.commit(self.output)
        if self.spec.task == "score":
            self.state.write_scored(record)
        else:
            self.state.write_done(record)
        return {**record, "documents_scored": num_scored}

    def _check_source(self, split: InputSplit) -> None:
        try:
            now = describe_file(self.source, split.path)
        except FileNotFoundError:
            now = None
        if now != (split.file_size, split.etag):
            raise MoosError(
                f"input file {split.relative} changed while the run was on; run again to plan anew"
            )
