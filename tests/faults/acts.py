"""What each kind of injection does to a run; then run again until exit 0, verify, compare."""

import resource
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

from pipelines.run_state import SUCCESS
from tests.faults import acts_machine, acts_rivals, acts_training
from tests.faults.injections import POISON_KINDS, S3_FAULTS, TRAIN_KINDS, Injection, Moment
from tests.faults.job import HungError, Job, kill
from tests.faults.servers import run_cluster
from tests.faults.training import TrainingTrial
from tests.faults.trial import Outcome, Trial, last_line
from tests.faults.workplace import Workplace

Act = Callable[[Trial, ExitStack], None]


def kill_driver(trial: Trial, stack: ExitStack) -> None:
    """SIGKILL to the driver; what it started dies by itself, and may commit until then."""
    job = trial.start()
    if trial.await_moment(job):
        trial.note(job, "driver killed")
        job.kill()
    trial.end(job, -signal.SIGKILL, 0)
    before = trial.count_done()
    time.sleep(trial.injection.grace_s)
    if job.family and trial.outcome.struck:
        left, more = len(job.living_family()), trial.count_done() - before
        trial.outcome.struck += (
            f"; {trial.injection.grace_s:g} s later {more} more done, {left} processes left"
        )


def kill_replica(trial: Trial, stack: ExitStack) -> None:
    """SIGKILL to replicas, one after the other; the run itself must go on."""
    job = trial.start()
    moment = trial.injection.moment
    for number in range(trial.injection.kills):
        later = Moment(min(0.9, moment.done_share + 0.15 * number), moment.delay_s)
        if not trial.await_moment(job, later) or not _kill_one_replica(trial, job):
            break
    trial.end(job, 0)


def _kill_one_replica(trial: Trial, job: Job) -> bool:
    replicas = job.wait_for(job.replicas)
    if not replicas or not kill(trial.rng.choice(replicas)):
        return False
    trial.note(job, "replica killed")
    return True


def kill_driver_then_replica(trial: Trial, stack: ExitStack) -> None:
    """First the driver; then, in the run that resumes, a replica."""
    kill_driver(trial, stack)
    if trial.outcome.codes[-1] == 0:
        return
    done = trial.count_done()
    job = trial.start()
    if job.wait_for(lambda: trial.count_done() > done + 2):
        _kill_one_replica(trial, job)
    trial.end(job, 0)


def kill_raylet(trial: Trial, stack: ExitStack) -> None:
    """SIGKILL to the raylet of a second node: its replicas go with it, the run goes on."""
    address, raylet = stack.enter_context(run_cluster(trial.workplace.environment()))
    trial.environment["RAY_ADDRESS"] = address
    job = trial.start()
    if trial.await_moment(job) and kill(raylet):
        trial.note(job, "second node's raylet killed")
    trial.end(job, 0)


def _signal(number: signal.Signals) -> Act:
    def act(trial: Trial, stack: ExitStack) -> None:
        job = trial.start()
        if trial.await_moment(job):
            trial.note(job, number.name)
            job.process.send_signal(number)
        trial.end(job, *((1,) if trial.outcome.struck else (0,)))

    return act


def strike_s3(trial: Trial, stack: ExitStack) -> None:
    """Faults between the job and its bucket: it gets through, or gives up and says so."""
    faults = trial.injection.s3
    proxy = trial.place.proxy
    proxy.strike_from_now(faults)
    job = trial.start()
    try:
        trial.end(job, 0, 1)
    finally:
        struck = proxy.struck
        proxy.strike_from_now(None)
    if struck:
        how = f"{'/'.join(faults.methods)}, rate {faults.rate:g} after {faults.skip}"
        trial.outcome.struck = f"{len(struck)} of {faults.most} faults ({how})"


def fill_disk(trial: Trial, stack: ExitStack) -> None:
    """The output's disk is full; before the run after that, there is room again."""
    disk = acts_machine.enter_small_disk(trial, stack)
    if disk is None:
        _limit_files(trial)
        return
    job = trial.start()
    if trial.await_moment(job):
        disk.fill(trial.injection.room)
        trial.note(job, f"disk full but {trial.injection.room} bytes")
    trial.end(job, *((0, 1) if trial.injection.room else _codes_of_a_full_disk(trial)))
    disk.empty()


def _limit_files(trial: Trial) -> None:
    """The nearest thing where nothing can be mounted: every write to a file fails."""
    if trial.injection.executor != "local":
        trial.outcome.skipped = "no small disk can be mounted here, and a limit binds one process"
        return
    trial.outcome.skipped = ""
    job = trial.start()
    if trial.await_moment(job):
        trial.note(job, "files limited to 0 bytes")
        resource.prlimit(job.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    trial.end(job, *_codes_of_a_full_disk(trial))


def _codes_of_a_full_disk(trial: Trial) -> tuple[int, ...]:
    """The exit codes of a run that can write no more; a busy machine may strike after its end."""
    if not trial.outcome.struck:
        return (0,)
    was_over = (trial.place.seen / SUCCESS).exists()
    return (0, 1) if was_over else (1,)


def work_poison(trial: Trial, stack: ExitStack) -> None:
    """Documents that break their process: they go to quarantine, and only they.

    With the local executor that process may be the job itself: then a later run quarantines them.
    """
    job = trial.start()
    trial.outcome.struck = f"{trial.injection.poison} documents"
    if trial.injection.executor == "local":
        trial.endings = (1, -signal.SIGKILL)
    trial.end(job, 0, *trial.endings)


DISK_ERRORS = ("disk_full_commit", "fsync_error", "write_error")
ACTS: dict[str, Act] = {
    "kill_local": kill_driver,
    "kill_driver": kill_driver,
    "kill_replica": kill_replica,
    "kill_raylet": kill_raylet,
    "kill_driver_then_replica": kill_driver_then_replica,
    "sigterm": _signal(signal.SIGTERM),
    "sigint": _signal(signal.SIGINT),
    "disk_full": fill_disk,
    "read_only_output": acts_machine.make_read_only,
    "kill_committing": acts_machine.kill_committing,
    "node_lost_committing": acts_machine.lose_committing_node,
    "clock_moved": acts_machine.move_clock,
    **dict.fromkeys(DISK_ERRORS, acts_machine.break_disk),
    "two_runs": acts_rivals.run_two,
    "two_drivers": acts_rivals.begin_at_once,
    "paused_driver": acts_rivals.pause_driver,
    "source_changed": acts_rivals.change_source,
    **dict.fromkeys(S3_FAULTS, strike_s3),
    **dict.fromkeys(POISON_KINDS, work_poison),
    **acts_training.ACTS,
}


def run_trial(injection: Injection, workplace: Workplace, *, verify: bool = True) -> Outcome:
    """Try one injection; its logs stay below the workplace until it is tried again."""
    began = time.monotonic()
    directory = workplace.directory / "trials" / f"{injection.kind}-{injection.seed}"
    shutil.rmtree(directory, ignore_errors=True)
    kind = TrainingTrial if injection.kind in TRAIN_KINDS else Trial
    trial = kind(injection, workplace, directory)
    with ExitStack() as stack:
        stack.callback(trial.clean_up)
        try:
            ACTS[injection.kind](trial, stack)
            if not trial.outcome.skipped:
                if trial.outcome.codes[-1] != 0 and not trial.outcome.again:
                    trial.run_again()
                if trial.outcome.codes[-1] == 0:
                    if verify:
                        trial.verify()
                    trial.judge()
        except HungError as error:
            said = last_line(trial.jobs[-1].said())
            trial.outcome.broken.append(f"hung, {error}: {said}")
    trial.outcome.seconds = time.monotonic() - began
    return trial.outcome
