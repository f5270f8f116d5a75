"""One split from input to record: what every job and every executor share."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from moos.errors import MoosError
from moos.listing import describe_file
from moos.partitions import partition_columns
from moos.pieces import RawPiece, RunReader
from moos.record_parser import RecordParser
from moos.source_files import DamagedFileError
from moos.splits import InputSplit
from moos.storage import Storage
from pipelines.attempts import AttemptRecord, attempt
from pipelines.child import ChildProcess
from pipelines.counts import ProgressCallback
from pipelines.groups import Group
from pipelines.job_spec import JobSpec
from pipelines.notices import NoticeCallback, Throttle, ignore_notice, name_process
from pipelines.prefetch import prefetch
from pipelines.run_state import RunState, describe_source
from pipelines.sinks import Sink
from pipelines.watchdog import Watchdog, memory_limit

logger = logging.getLogger(__name__)

PREFETCHED_GROUPS = 2


@dataclass(slots=True, kw_only=True)
class SplitWorker(ABC):
    """What a process has loaded to work splits whole; a job says what is done to each group.

    Attributes:
        spec: The settings.
        source: The input.
        output: The output.
        state: The run's state in it.
        parser: Reads records.
        stages: What is done to documents, in this process; counts in `num_scored` those that were
            given to a model.
        numerics: What the results depend on besides the plan.
        watchdog: Ends this process where it hangs, or takes too much memory.
        in_driver: This process is the driver's own.
        notice: Told what happens to a split besides its counts.
    """

    spec: JobSpec
    source: Storage
    output: Storage
    state: RunState
    parser: RecordParser
    stages: Any
    numerics: dict[str, Any]
    watchdog: Watchdog
    in_driver: bool
    notice: NoticeCallback = ignore_notice
    _child: ChildProcess | None = None

    def work(
        self,
        split: InputSplit,
        report: ProgressCallback,
        pieces: Iterable[RawPiece] | None = None,
    ) -> dict[str, Any]:
        """Read, work and commit a split; its record.

        Args:
            split: The split.
            report: Told how far it is.
            pieces: Its pieces where somebody else reads them.

        Raises:
            MoosError: The source changed since it was planned.
        """
        began = time.monotonic()
        with self._begun(split, "work") as suspect:
            self._check_source(split)
            sink, damage = self._open_sink(split)
            before = self.stages.num_scored
            pieces = self._read(split) if pieces is None else pieces
            try:
                if damage is not None:
                    raise DamagedFileError(damage)
                if suspect:
                    self._work_apart(split, pieces, sink, report)
                else:
                    with self.watchdog:
                        self._work_here(split, pieces, sink, report)
            except DamagedFileError as error:
                sink.add_damage(str(error))
            self._check_source(split)
            return self._told(self._write(sink, self.stages.num_scored - before), began)

    @abstractmethod
    def _open_sink(self, split: InputSplit) -> tuple[Sink, str | None]:
        """What gathers the split's groups, and what is known to be wrong with its file."""

    @abstractmethod
    def _prepare(self, piece: RawPiece, stages: Any) -> Group[Any]:
        """Read a piece's records and do what can be done ahead of the model."""

    @abstractmethod
    def _score(self, group: Group[Any], stages: Any) -> Group[Any]:
        """Run the model."""

    def _begin_score(self, group: Group[Any], stages: Any) -> Callable[[], Group[Any]]:
        """Begin to run the model; what waits for it. A job whose model works ahead overrides it."""
        scored = self._score(group, stages)
        return lambda: scored

    @abstractmethod
    def _finish(self, group: Group[Any], stages: Any) -> Group[Any]:
        """Do what can be done behind the model."""

    @abstractmethod
    def _make_child(self) -> ChildProcess:
        """The same stages in a process of their own."""

    @abstractmethod
    def _commit(self, record: dict[str, Any]) -> None:
        """Make a split's record, and with it the objects it names, count."""

    @contextmanager
    def _begun(self, split: InputSplit, stage: str) -> Iterator[bool]:
        record = AttemptRecord(
            self.state, f"{split.id}-{self.spec.pass_name}-{stage}", describe_source(split)
        )
        about = {"split": split.id, "replica": name_process()}
        self.watchdog.tell = Throttle(lambda: self.notice("alive"))
        self.notice("split_began", stage=stage, **about)
        try:
            with attempt(record, self.spec.driver, in_driver=self.in_driver) as suspect:
                if suspect:
                    self.notice("split_suspect", **about)
                yield suspect or self._child is not None
        except Exception as error:
            self.notice("split_failed", **about, error=f"{type(error).__name__}: {error}")
            raise
        self.notice("split_left", stage=stage, **about)

    @contextmanager
    def _stages(self, suspect: bool, split: InputSplit) -> Iterator[Any]:
        """The stages here, watched; or in a child for a split that may end its process."""
        if not suspect:
            with self.watchdog:
                yield self.stages
            return
        logger.warning(
            "%s is worked in a process of its own: one that worked it before ended", split.id
        )
        child = self._child or self._make_child()
        child.tell = self.watchdog.tell
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
        """Reading and tokenising ahead, and selecting behind, run beside the model.

        The model is given a group before the scores of the one before it are waited for.
        """

        def finish(group: Group[Any]) -> None:
            sink.add(self._finish(group, self.stages))
            report(split.id, asdict(sink.counts))

        with ThreadPoolExecutor(1, "moos-finish") as finisher:
            finishing: Future[None] | None = None
            ahead = (self._prepare(piece, self.stages) for piece in pieces)
            for scored in self._score_ahead(prefetch(ahead, PREFETCHED_GROUPS)):
                if finishing is not None:
                    finishing.result()
                finishing = finisher.submit(finish, scored)
            if finishing is not None:
                finishing.result()

    def _score_ahead(self, groups: Iterable[Group[Any]]) -> Iterator[Group[Any]]:
        behind: Callable[[], Group[Any]] | None = None
        for group in groups:
            begun = self._begin_score(group, self.stages)
            if behind is not None:
                yield behind()
            behind = begun
        if behind is not None:
            yield behind()

    def _read(self, split: InputSplit) -> Iterator[RawPiece]:
        beat, column = self.watchdog.beat, self.parser.text_column
        return RunReader(self.source, [split], column, beat).read(split)

    def _write(self, sink: Sink, num_scored: int) -> dict[str, Any]:
        record = sink.commit(self.output)
        self._commit(record)
        return {**record, "documents_scored": num_scored}

    def _told(self, record: dict[str, Any], began: float) -> dict[str, Any]:
        """A committed record with what the driver is told of the work besides."""
        return {**record, "seconds": time.monotonic() - began, "replica": name_process()}

    def _check_source(self, split: InputSplit) -> None:
        try:
            now = describe_file(self.source, split.path)
        except FileNotFoundError:
            now = None
        if now != (split.file_size, split.etag):
            raise MoosError(
                f"input file {split.relative} changed while the run was on; run again to plan anew"
            )


def load_parts(spec: JobSpec, reserved: frozenset[str]) -> dict[str, Any]:
    """The parts of a worker that are loaded alike for every job, by the names of its attributes.

    Args:
        spec: The settings.
        reserved: Names that no field of the input may have.

    Raises:
        ModelError: The model cannot be loaded.
        MoosError: It is not the one the run was planned with.
    """
    config, settings, limits = spec.job, spec.job.input, spec.job.document_limits
    watchdog = Watchdog(limits.timeout_s, memory_limit(limits.memory))
    stages, numerics = spec.load_stages(watchdog.beat)
    output = Storage(
        config.output.path, config.output.storage_options, retries=config.output.retries
    )
    return {
        "source": Storage(settings.paths[0], settings.storage_options, retries=settings.retries),
        "output": output,
        "state": RunState(output, spec.signature),
        "parser": RecordParser(
            settings.text_column,
            settings.id_column,
            settings.max_document_chars,
            reserved,
            partition_columns(pa.ipc.read_schema(pa.BufferReader(spec.input_schema))),
        ),
        "stages": stages,
        "numerics": numerics,
        "watchdog": watchdog,
    }
