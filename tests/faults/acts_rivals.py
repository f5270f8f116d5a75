"""Acts of more than one writer: runs on one output at once, and whoever rewrites the input."""

import signal
from contextlib import ExitStack

from tests.faults import compare
from tests.faults.job import Job
from tests.faults.trial import Trial


def run_two(trial: Trial, stack: ExitStack) -> None:
    """Two runs on one output at once; one of them may have to leave."""
    first = trial.start()
    if not trial.await_moment(first):
        trial.end(first, 0)
        return
    second = trial.start()
    trial.note(first, "second run begun")
    _end_rivals(trial, first, second)


def begin_at_once(trial: Trial, stack: ExitStack) -> None:
    """Runs begun at the same instant: both may find the lease free."""
    jobs = [trial.start() for _ in range(trial.injection.kills + 1)]
    trial.outcome.struck = f"{len(jobs)} runs begun at once"
    _end_rivals(trial, *jobs)


def pause_driver(trial: Trial, stack: ExitStack) -> None:
    """A driver is stopped until another took its lease over, and goes on while that one works."""
    first = trial.start()
    if not trial.await_moment(first):
        trial.end(first, 0)
        return
    first.process.send_signal(signal.SIGSTOP)
    trial.note(first, "driver stopped")
    done = trial.count_done()
    second = trial.start()
    later = trial.rng.randrange(8)
    second.wait_for(lambda: trial.count_done() > done + later)
    trial.note(second, "first goes on beside a second")
    first.process.send_signal(signal.SIGCONT)
    _end_rivals(trial, first, second)


def _end_rivals(trial: Trial, *jobs: Job) -> None:
    codes = [trial.end(job, 0, 1) for job in jobs]
    if 0 not in codes:
        trial.outcome.broken.append(f"none of {len(codes)} runs went on")
    trial.run_again()


def change_source(trial: Trial, stack: ExitStack) -> None:
    """The input is rewritten while the run works: a run is of one edition or fails, never mixed."""
    change = trial.injection.change
    new = trial.expect(change.edition)
    job = trial.start()
    if trial.await_moment(job):
        trial.note(job, str(change))
    edition = trial.workplace.corpus(trial.injection, change.edition)
    trial.place.rewrite(edition.path, in_place=change.in_place)
    if trial.end(job, 0, 1) == 0:
        found = compare.select_compared(trial.place.read())
        if compare.differing(found, trial.expected) and compare.differing(found, new):
            trial.outcome.broken.append("exit 0 with what is neither edition of the input")
    trial.expected = new
    trial.run_again()
