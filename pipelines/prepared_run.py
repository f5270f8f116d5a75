"""What every job over a corpus does around its passes: a checked plan, and the run's history."""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from moos.splits import InputSplit
from moos.storage import Storage
from pipelines.config import JobConfig, RunOutputConfig
from pipelines.counts import add_counts
from pipelines.events import EventLog
from pipelines.lease import Lease, LeaseLostError
from pipelines.phase_watch import PhaseWatch
from pipelines.plan import Plan
from pipelines.reasons import add_kinds
from pipelines.resources import Resources
from pipelines.run_state import SUCCESS, RunState
from pipelines.stall import StalledError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """A run that passed every check that needs no replica.

    Attributes:
        output: Where it writes; its calls are not watched, being for the lease and the log.
        state: Its state there.
        plan: What there is to do.
        done: The valid done records by split id.
        retried: Done splits whose quarantined records are to be tried again.
    """

    output: Storage
    state: RunState
    plan: Plan
    done: dict[str, dict[str, Any]]
    retried: tuple[InputSplit, ...] = ()

    @property
    def todo(self) -> list[InputSplit]:
        """Planned splits without a valid done record."""
        return [split for split in self.plan.splits if split.id not in self.done]

    def describe(self) -> dict[str, Any]:
        """What the run would do, for `--dry-run`."""
        todo = self.todo
        return {
            "status": "planned",
            "output": self.output.url,
            "files": self.plan.num_files,
            "splits": len(self.plan.splits),
            "splits_done": len(self.done),
            "splits_to_do": len(todo),
            "bytes": sum(split.size for split in self.plan.splits),
            "bytes_to_do": sum(split.size for split in todo),
            "columns": self.plan.input_schema.names,
        }


RunT = TypeVar("RunT", bound=PreparedRun)


def open_output(settings: RunOutputConfig, watch: PhaseWatch) -> tuple[Storage, Storage]:
    """The output twice: for the lease and the log, and for the work, whose calls are watched."""
    open_it = partial(Storage, settings.path, settings.storage_options, retries=settings.retries)
    return open_it(), open_it(watch=watch.call)


def _look_again(run: RunT) -> RunT:
    """The run as it stands once its lease is held: another may have begun, gone on or ended."""
    run.state.check_owner()
    run = replace(run, done=run.state.read_done(run.plan.splits))
    logger.info(
        "%d files, %d splits: %d done, %d to do",
        run.plan.num_files,
        len(run.plan.splits),
        len(run.done),
        len(run.todo),
    )
    return run


def _plan_retries(run: RunT) -> RunT:
    """The run with the done splits to try again: those of damaged files whole, others in part."""
    whole = {name for name, record in run.done.items() if record["counts"]["damaged_files"]}
    in_part = {name for name, record in run.done.items() if record["quarantine"]} - whole
    return replace(
        run,
        done={name: record for name, record in run.done.items() if name not in whole},
        retried=tuple(split for split in run.plan.splits if split.id in in_part),
    )


@contextmanager
def begun(
    prepare: Callable[[PhaseWatch], RunT],
    config: JobConfig,
    watch: PhaseWatch,
    *,
    reserve: Callable[[], Resources],
    files: Callable[[RunT], Mapping[str, bytes]] = lambda run: {},
    retry_quarantined: bool,
) -> Iterator[tuple[RunT, Lease, Resources | None]]:
    """A run whose plan is written, the lease that it holds, and who works; guarded until then.

    Args:
        prepare: Plans it, and refuses what cannot work.
        config: The job.
        watch: Told what goes on.
        reserve: What each replica gets; called where there is work.
        files: Contents of what else a first run keeps, by name.
        retry_quarantined: Try again what is quarantined in done splits.

    Raises:
        MoosError: The run cannot start, or another one works on the output.
        StalledError: Planning made no progress for `stall_timeout_s`.
    """
    choose: Callable[[RunT], RunT] = _plan_retries if retry_quarantined else lambda run: run
    with ExitStack() as held:
        with watch.guard("planning"):
            run = choose(prepare(watch))
            resources = None
            if run.todo or run.retried:
                with watch.call("connect to the cluster"):
                    resources = reserve()
            with watch.call("take the lease"):
                lease = held.enter_context(Lease(run.output))
            run = choose(_look_again(run))
            run.state.begin(config, run.plan.input_schema, files(run))
            run.state.write_plan(run.plan.splits)
            if run.todo or run.retried:  # an earlier success no longer holds
                run.state.output.remove(SUCCESS)
        yield run, lease, resources


@contextmanager
def noted(run: PreparedRun, lease: Lease, *, job: str, unit: str) -> Iterator[EventLog]:
    """The run's log, open while it works; how it ends is noted.

    The job notes `finished` itself, last: only it knows the summary.

    Args:
        run: The run, begun.
        lease: Its lease, held.
        job: The command.
        unit: What documents are counted in.
    """
    with open_log(run.output, lease) as events:
        _note_plan(run, events, job, unit)
        yield events


@contextmanager
def open_log(output: Storage, lease: Lease) -> Iterator[EventLog]:
    """The log of the run that holds a lease; how the run ends is noted if it ends early."""
    with EventLog(output, lease.owner) as events:
        events.note("lease_taken", host=socket.gethostname(), process=os.getpid())
        try:
            yield events
        except LeaseLostError as error:
            events.leave_history()
            events.note("failed", error=str(error), exit_code=1)
            raise
        except StalledError:
            raise  # its guard has noted it
        except KeyboardInterrupt:
            events.note("interrupted", error="interrupted by a signal", exit_code=1)
            raise
        except BaseException as error:
            events.note("failed", error=str(error) or type(error).__name__, exit_code=1)
            raise


def _note_plan(run: PreparedRun, events: EventLog, job: str, unit: str) -> None:
    again = {split.id for split in run.retried}
    done = [record for split_id, record in run.done.items() if split_id not in again]
    todo = [split for split in run.plan.splits if split.id in again or split.id not in run.done]
    planned = {
        "splits": len(run.plan.splits),
        "splits_done": len(done),
        "splits_to_do": len(todo),
        "bytes": sum(split.size for split in run.plan.splits),
        "bytes_to_do": sum(split.size for split in todo),
    }
    events.note("planned", job=job, unit=unit, files=run.plan.num_files, **planned)
    events.note(
        "resumed" if run.done else "started",
        job=job,
        unit=unit,
        **planned,
        totals=add_counts(record["counts"] for record in done),
        quarantined_by_reason=add_kinds(record.get("quarantined_by_reason", {}) for record in done),
    )
