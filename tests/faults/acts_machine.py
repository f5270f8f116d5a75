"""Acts whose fault lies in the machine: its clock, its disk, a process stopped at a set place."""

import signal
from contextlib import ExitStack
from dataclasses import replace

from tests.faults.job import Job, descendants, kill
from tests.faults.servers import SmallDisk, mount_small_disk, run_cluster
from tests.faults.trial import Trial


def kill_committing(trial: Trial, stack: ExitStack) -> None:
    """SIGKILL to a driver exactly before or after it writes one object of a commit."""
    job = trial.start()
    if trial.await_moment(job) and _await_hold(trial, job):
        trial.note(job, f"driver killed {trial.machine.struck()[0]}")
        job.kill()
    trial.machine.repair()
    trial.end(job, -signal.SIGKILL, 0)


def lose_committing_node(trial: Trial, stack: ExitStack) -> None:
    """SIGKILL to a node exactly while a replica on it commits: the run goes on elsewhere."""
    environment = trial.workplace.environment(**trial.patches)
    address, raylet = stack.enter_context(run_cluster(environment))
    trial.environment["RAY_ADDRESS"] = address
    job = trial.start()
    if trial.await_moment(job) and _await_hold(trial, job, raylet):
        trial.note(job, f"node lost {trial.machine.struck()[0]}")
        for pid in [raylet, *(process.pid for process in descendants(raylet))]:
            kill(pid)
    trial.machine.repair()
    trial.end(job, 0)


def _await_hold(trial: Trial, job: Job, parent: int | None = None) -> bool:
    """Have a process stop where the injection says; False if none comes there."""
    trial.machine.break_now(trial.injection.machine, job.process.pid, parent)
    return bool(job.wait_for(trial.machine.struck))


def move_clock(trial: Trial, stack: ExitStack) -> None:
    """The wall clock steps; the run goes on, and a second one meanwhile finds its lease."""
    job = trial.start()
    if not trial.await_moment(job):
        trial.end(job, 0)
        return
    trial.machine.break_now(trial.injection.machine, job.process.pid)
    rival = trial.start() if trial.rng.random() < 0.5 else None
    beside = ", beside a second run" if rival else ""
    trial.note(job, f"{trial.injection.machine}{beside}")
    trial.end(job, 0)
    if not trial.machine.struck():
        trial.outcome.struck = ""  # nobody looked at the clock any more
    if rival is not None:
        trial.end(rival, 0, 1)


def break_disk(trial: Trial, stack: ExitStack) -> None:
    """One write, sync or rename of a commit fails, and of a full disk every one after it."""
    job = trial.start()
    if trial.await_moment(job):
        trial.machine.break_now(trial.injection.machine, job.process.pid)
    job.wait()
    if struck := trial.machine.struck():
        trial.note(job, f"{trial.injection.machine.error} at {struck[0]}, {len(struck)} in all")
    # A replica may work the split again, and what a report or an event loses is told at the end.
    trial.end(job, 0, 1)
    trial.machine.repair()


def enter_small_disk(trial: Trial, stack: ExitStack) -> SmallDisk | None:
    """Put the output on a small disk of its own; None, and the trial skipped, if there is none."""
    mount = trial.directory / "disk"
    mount.mkdir()
    disk = stack.enter_context(mount_small_disk(mount))
    if disk is None:
        trial.outcome.skipped = "no small disk can be mounted here"
        return None
    trial.prefix, trial.holder = disk.prefix, disk.holder
    trial.place = replace(trial.place, output=str(mount / "out"), seen=disk.seen / "out")
    return disk


def make_read_only(trial: Trial, stack: ExitStack) -> None:
    """The output's file system lets nobody write any more, as one does that found an error."""
    disk = enter_small_disk(trial, stack)
    if disk is None:
        return
    job = trial.start()
    if trial.await_moment(job) and job.wait_for(lambda: disk.let_write(False)):
        trial.note(job, "file system made read-only")
    trial.end(job, 0, 1)
    disk.let_write(True)
