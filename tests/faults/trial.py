"""One injection under way: its runs, and the promises they must keep."""

import json
import os
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import compare
from tests.faults.injections import TRAIN_KINDS, Injection, Moment
from tests.faults.job import HINT, ROOT, Job
from tests.faults.machine import PATCHED, Machine
from tests.faults.places import BucketPlace, DiskPlace
from tests.faults.proxy import STEP
from tests.faults.servers import CREDENTIALS
from tests.faults.workplace import Workplace

POISON_LIMITS = ("document_limits.timeout_s=4", "document_limits.memory=2GiB")
"""Poison meets them soon; no other document of the corpora comes near."""

WAITS_S = (0, 1, 2, 5, 10, 20, 30)
"""Before each further run: what a killed run held may have to expire first."""

RAY_ONLY = ("stages=", "cpu_stages.")
"""Overrides that the local executor refuses, having no use for them."""


@dataclass(slots=True)
class Outcome:
    """What became of an injection.

    Attributes:
        injection: The injection.
        struck: What was done and when, or empty if the run was over before.
        codes: Exit codes: of the runs that were struck, then of those after them.
        again: Runs after the struck ones, until exit 0.
        counts: Records found, lost, doubled, altered.
        broken: Every promise that was broken, in words.
        skipped: Why it could not be tried here, or empty.
        seconds: Wall time.
    """

    injection: Injection
    struck: str = ""
    codes: list[int] = field(default_factory=list)
    again: int = 0
    counts: compare.Counts | None = None
    broken: list[str] = field(default_factory=list)
    skipped: str = ""
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """`same bytes` (of poison `same rows`, of training `same figures`), or what went wrong."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        if self.broken:
            return "FAILED: " + "; ".join(self.broken[:4])
        held = "same rows" if self.injection.poison else "same bytes"
        held = "same figures" if self.injection.kind in TRAIN_KINDS else held
        return held if self.struck else f"{held}, but over before it was struck"


class Trial:
    """An injection under way: what the acts use.

    Attributes:
        injection: The injection.
        workplace: Where it happens.
        directory: Its logs and, on a disk, its output.
        place: Input and output.
        outcome: Filled as it goes on.
        machine: What breaks inside its processes.
        rng: For choices that depend on what is there, such as which replica to kill.
        environment: Changes to every job's environment, such as `RAY_ADDRESS`.
        prefix: What to put before every command.
        holder: A process among whose mounts every command runs, which the prefix enters.
        endings: Exit codes of a run that another may follow.
        hint: What a run that failed says at its end.
    """

    hint = HINT

    def __init__(self, injection: Injection, workplace: Workplace, directory: Path) -> None:
        """Make the place; nothing runs yet."""
        self.injection = injection
        self.workplace = workplace
        self.directory = directory
        self.outcome = Outcome(injection)
        self.rng = random.Random(f"{injection.kind}/{injection.seed}/act")
        self.environment: dict[str, str] = {}
        self.prefix: tuple[str, ...] = ()
        self.holder: int | None = None
        self.endings: tuple[int, ...] = (1,)
        self.jobs: list[Job] = []
        directory.mkdir(parents=True)
        self.place = self._make_place()
        self.machine = Machine(directory, self.place.output, injection.machine)
        self._prepare()

    def _prepare(self) -> None:
        """What the place must hold in the end, from a run that nobody disturbs."""
        reference = self.workplace.reference(self.injection)
        self.num_steps = sum(1 for path in reference if STEP.search(path))
        self.expected = self.expect()

    def count_done(self) -> int:
        """Steps that are done."""
        return self.place.count_done()

    def _make_place(self) -> DiskPlace | BucketPlace:
        injection, corpus = self.injection, self.workplace.corpus(self.injection)
        name = f"{injection.kind}-{injection.seed}"
        if injection.place == "s3":
            own = f"{corpus.path.name}-{name}" if injection.change else None
            return self.workplace.bucket_place(injection, name, own)
        source = corpus.path
        if injection.change:  # which is nobody else's
            source = self.directory / "input"
            shutil.copytree(corpus.path, source)
        output = self.directory / "out"
        return DiskPlace(str(source), str(output), output)

    def expect(self, edition: int = 0) -> dict[str, bytes]:
        """What an uninterrupted run over an edition of the input leaves here."""
        corpus = self.workplace.corpus(self.injection, edition)
        found = compare.select_compared(self.workplace.reference(self.injection, edition))
        return compare.expect_elsewhere(found, str(corpus.path), self.place.source)

    def start(self) -> Job:
        """Start the job."""
        injection = self.injection
        executor = [f"executor={injection.executor}"]
        if injection.executor == "ray":
            executor.append(f"pool.replicas={injection.replicas}")
        arguments = self.workplace.arguments(injection, self.place)
        overrides = [*self.workplace.overrides, *(POISON_LIMITS if injection.poison else ())]
        if injection.executor != "ray":
            overrides = [override for override in overrides if not override.startswith(RAY_ONLY)]
        return self.start_command([*arguments, *executor, *overrides])

    @property
    def patches(self) -> dict[str, str]:
        """Changes to the environment of processes that are to break."""
        found = self.machine.environment if self.injection.machine else {}
        if self.injection.poison or found:
            found = {**found, "PYTHONPATH": f"{PATCHED}{os.pathsep}{ROOT}"}
        return found

    def start_command(self, arguments: Sequence[str]) -> Job:
        """Start any command of the product; it is cleaned up after the trial."""
        changes: dict[str, str] = dict(self.environment)
        changes |= self.patches
        # Poison must be there before the imports, and Ray's workers make theirs anyway.
        is_plain = self.injection.poison or {"executor=ray", "jobs.train"} & {*arguments}
        job = Job(
            arguments,
            self.directory / f"log-{len(self.jobs)}",
            self.workplace.environment(**changes),
            self.prefix,
            None if is_plain else self.workplace.nursery,
            self.holder,
        )
        self.jobs.append(job)
        return job

    def await_moment(self, job: Job, moment: Moment | None = None) -> bool:
        """Wait for the injection's moment; False if the job is over before."""
        moment = moment or self.injection.moment
        if moment.done_share is None:
            return job.wait_for(lambda: job.seconds >= moment.delay_s) is not None
        wanted = round(moment.done_share * self.num_steps)
        reached = job.wait_for(lambda: self.is_under_way(job) and self.count_done() >= wanted)
        if not reached:
            return False
        until = job.seconds + moment.delay_s
        return job.wait_for(lambda: job.seconds >= until) is not None

    def is_under_way(self, job: Job) -> bool:
        """True once the job has said what it is going to do: from then on it keeps its promises."""
        return self.count_done() > 0 or " to do" in job.said()

    def note(self, job: Job, what: str) -> None:
        """Write down a strike."""
        when = f"{what} at {self.count_done()}/{self.num_steps}, {job.seconds:.1f} s"
        self.outcome.struck += f"{'; ' if self.outcome.struck else ''}{when}"

    def end(self, job: Job, *allowed: int) -> int:
        """Wait for a struck job; its exit code, which must be one of `allowed`."""
        code = job.wait()
        self.outcome.codes.append(code)
        said = job.said()
        if code not in allowed:
            self.outcome.broken.append(f"exit {code}: {last_line(said)}")
        # Code that hangs with the GIL held lets nobody say anything but a traceback in C.
        elif code == 1 and self.hint not in said and "Timeout (" not in said:
            self.outcome.broken.append(f"exit 1 without a hint: {last_line(said)}")
        return code

    def run_again(self) -> None:
        """The same command until exit 0, a bounded number of times."""
        for wait_s in WAITS_S:
            time.sleep(wait_s)
            job = self.start()
            code = job.wait()
            self.outcome.codes.append(code)
            self.outcome.again += 1
            if code == 0:
                self._check_summary(job)
                return
            if code not in self.endings:
                break
        self.outcome.broken.append(f"never exit 0: {last_line(job.said())}")

    def _check_summary(self, job: Job) -> None:
        lines = job.stdout().splitlines()
        if len(lines) != 1 or json.loads(lines[0])["exit_code"] != 0:
            self.outcome.broken.append(f"stdout is not one summary line: {lines}")

    def verify(self) -> None:
        """`moos verify` in a process of its own."""
        arguments = ["jobs.verify", self.place.output, *self.place.verify_options]
        job = self.start_command(arguments)
        if job.wait() != 0:
            self.outcome.broken.append(f"verify: {last_line(job.said())}")

    def judge(self) -> None:
        """Compare the output with the uninterrupted run's and count its records."""
        objects = self.place.read()
        self._look_for_secrets(objects)
        found = compare.select_compared(objects)
        edition = self.injection.change.edition if self.injection.change else 0
        counts = compare.count_records(found, self.workplace.corpus(self.injection, edition))
        self.outcome.counts = counts
        if not counts.are_right:
            lost = f"{counts.lost} lost, {counts.doubled} doubled, {counts.altered} altered"
            self.outcome.broken.append(lost)
        if self.injection.poison:
            self._judge_survivors(found)
            return
        wrong = compare.differing(found, self.expected)
        if wrong:
            self.outcome.broken.append(f"{len(wrong)} objects: {', '.join(wrong[:3])}")

    def _look_for_secrets(self, objects: Mapping[str, bytes]) -> None:
        secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
        logs = {job.log.name: job.said().encode() for job in self.jobs}
        told = [name for name, text in {**objects, **logs}.items() if secret.encode() in text]
        if told:
            self.outcome.broken.append(f"the secret stands in {', '.join(told[:3])}")

    def _judge_survivors(self, found: Mapping[str, bytes]) -> None:
        """Poison goes; every other document is as if its neighbours were not poisonous."""
        expected, rows = compare.rows_by_id(self.expected), compare.rows_by_id(found)
        wrong = [name for name, row in rows.items() if row != expected.get(name)]
        if wrong:
            self.outcome.broken.append(f"{len(wrong)} documents beside poison: {wrong[:3]}")

    def clean_up(self) -> None:
        """Leave no process behind."""
        for job in self.jobs:
            job.clean_up()


def last_line(text: str) -> str:
    """The last lines of a log that say something, short enough for a table."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and HINT not in line]
    return " / ".join(lines[-2:])[-300:] if lines else "it said nothing"
