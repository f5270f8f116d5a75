"""What each kind of injection does to a training run."""

import signal
import time
from contextlib import ExitStack
from dataclasses import replace

from tests.faults.acts_machine import enter_small_disk
from tests.faults.injections import Moment
from tests.faults.job import kill
from tests.faults.training import NUM_STATES, TrainingTrial

DAMAGES = {
    "state.json": lambda data: data[: len(data) // 2],
    "model.safetensors": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "optimizer.safetensors": lambda data: b"",
}
LINGER_S = 20.0


def kill_worker(trial: TrainingTrial, stack: ExitStack) -> None:
    """SIGKILL to a worker: Ray Train starts all of them again, from the newest state."""
    job = trial.start()
    if trial.await_moment(job) and (workers := trial.workers(job)):
        kill(trial.rng.choice(workers))
        trial.note(job, "worker killed")
    trial.end(job, 0)


def kill_train_driver(trial: TrainingTrial, stack: ExitStack, moment: Moment | None = None) -> None:
    """SIGKILL to the driver; what it started dies by itself."""
    job = trial.start()
    if trial.await_moment(job, moment):
        trial.note(job, "driver killed")
        job.kill()
    trial.end(job, -signal.SIGKILL, 0)
    deadline = time.monotonic() + LINGER_S
    while job.living_family() and time.monotonic() < deadline:
        time.sleep(0.2)


def damage_state(trial: TrainingTrial, stack: ExitStack) -> None:
    """The driver is killed, and the newest state damaged before the next run."""
    moment = trial.injection.moment
    second = 2 / NUM_STATES  # so that one is left to go on from
    kill_train_driver(trial, stack, replace(moment, done_share=max(second, moment.done_share)))
    if trial.outcome.codes[-1] == 0:
        return
    directory, (name, damage) = trial.newest_state(), trial.rng.choice(sorted(DAMAGES.items()))
    path = f"{directory}/{name}"
    trial.place.write_one(path, damage(trial.place.read_one(path)))
    trial.outcome.struck += f"; {path.rpartition('/runs/')[2]} damaged"
    trial.run_again()
    if "a damaged state is passed over" not in trial.jobs[-1].said():
        trial.outcome.broken.append("the damaged state was not noticed")


def fill_train_disk(trial: TrainingTrial, stack: ExitStack) -> None:
    """The output's disk is full at a state; before the next run there is room again."""
    disk = enter_small_disk(trial, stack)
    if disk is None:
        return
    job = trial.start()
    if trial.await_moment(job):
        disk.fill(trial.injection.room)
        trial.note(job, f"disk full but {trial.injection.room} bytes")
    trial.end(job, 0, 1)
    disk.empty()


ACTS = {
    "train_worker_killed": kill_worker,
    "train_driver_killed": kill_train_driver,
    "train_state_damaged": damage_state,
    "train_disk_full": fill_train_disk,
}
