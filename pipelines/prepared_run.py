"""What every job over a corpus does around its passes: a checked plan, and the run's history."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from moos.errors import MoosError
from moos.splits import InputSplit
from moos.storage import Storage
from pipelines.plan import Plan
from pipelines.run_state import SUCCESS, RunState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """A run that passed every check that needs no replica.

    Attributes:
        output: Where it writes.
        state: Its state there.
        plan: What there is to do.
        done: The valid done records by split id.
    """

    output: Storage
    state: RunState
    plan: Plan
    done: dict[str, dict[str, Any]]

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


def look_again(run: RunT) -> RunT:
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


@contextmanager
def noted(run: PreparedRun, *, works: bool) -> Iterator[None]:
    """Write the plan and note in the run's history that work begins, and how it fails if it does.

    Args:
        run: The run, begun.
        works: There is anything to do, so that an earlier success no longer holds.
    """
    state = run.state
    state.write_plan(run.plan.splits)
    if works:
        run.output.remove(SUCCESS)
    state.note_event("began", splits=len(run.plan.splits), splits_to_do=len(run.todo))
    try:
        yield
    except (MoosError, OSError) as error:
        with suppress(OSError):  # the storage may be what failed
            state.note_event("failed", error=str(error))
        raise
    except KeyboardInterrupt:
        with suppress(OSError):
            state.note_event("interrupted")
        raise
