"""What can go wrong with a run, and when: a pure function of a kind and a seed."""

import random
from dataclasses import dataclass
from typing import Literal

from tests.faults.machine import MACHINE_KINDS, MachineFault, choose_machine_fault

Shape = Literal["jsonl", "jsonl.gz", "parquet"]
Executor = Literal["local", "ray"]
Place = Literal["disk", "s3"]

KINDS = (
    "kill_local",
    "kill_driver",
    "kill_replica",
    "kill_raylet",
    "kill_driver_then_replica",
    "sigterm",
    "sigint",
    "s3_500",
    "s3_503",
    "s3_reset",
    "s3_truncated",
    "s3_delay",
    "s3_mixed",
    "s3_slow_body",
    "s3_wrong_etag",
    "disk_full",
    "read_only_output",
    "two_runs",
    "two_drivers",
    "paused_driver",
    "source_changed",
    *MACHINE_KINDS,
)
POISON_KINDS = (
    "poison_raise",
    "poison_hang",
    "poison_hang_gil",
    "poison_memory",
    "poison_kill",
)
"""Documents that break the process that works them; they stay in the input in every run."""

TRAIN_KINDS = (
    "train_worker_killed",
    "train_driver_killed",
    "train_state_damaged",
    "train_disk_full",
    "train_s3_mixed",
)
"""Of a training run, whose figures must come out the same."""

S3_FAULTS = {
    "s3_500": ("500",),
    "s3_503": ("503",),
    "s3_reset": ("reset",),
    "s3_truncated": ("truncated",),
    "s3_delay": ("delay",),
    "s3_mixed": ("500", "503", "reset", "truncated", "delay"),
    "train_s3_mixed": ("500", "503", "reset", "delay"),
    "s3_slow_body": ("slow",),
    "s3_wrong_etag": ("etag",),
}
ON_DISK = {
    *("disk_full", "read_only_output", "disk_full_commit", "fsync_error", "write_error"),
    "train_disk_full",
}
FIRST_KINDS = (
    *("sigterm", "sigint", "disk_full", "two_runs"),
    *("s3_500", "s3_503", "s3_reset", "s3_truncated", "s3_delay", "s3_mixed"),
)
"""Their settings were drawn with more of Ray, and stay."""

_METHODS = (("GET",), ("PUT",), ("GET", "PUT"), ("GET", "PUT", "HEAD", "DELETE"))


@dataclass(frozen=True, slots=True)
class Moment:
    """When to strike: once a share of the work is done, or so many seconds after the start.

    Attributes:
        done_share: Share of the splits' steps that must be done, or None to wait for time alone.
        delay_s: Seconds to wait then, or from the start.
    """

    done_share: float | None
    delay_s: float

    def __str__(self) -> str:
        if self.done_share is None:
            return f"{self.delay_s:.2f} s after the start"
        return f"{self.done_share:.0%} done + {self.delay_s:.2f} s"


@dataclass(frozen=True, slots=True)
class S3Faults:
    """Faults that the proxy makes.

    Attributes:
        seed: Decides which requests are struck.
        faults: Names to choose from, as in `proxy.FAULTS`.
        methods: HTTP methods that are struck.
        rate: Share of those requests that are struck.
        most: Faults in all.
        skip: Requests that pass before the first fault.
    """

    seed: str
    faults: tuple[str, ...]
    methods: tuple[str, ...]
    rate: float
    most: int
    skip: int


@dataclass(frozen=True, slots=True)
class Change:
    """How an input is rewritten while a run works.

    Attributes:
        edition: Which other corpus it becomes; 1 has files of the very same sizes.
        in_place: The files are overwritten; otherwise others take their names.
    """

    edition: int
    in_place: bool

    def __str__(self) -> str:
        how = "overwritten" if self.in_place else "replaced"
        return f"input {how}{', of equal size' if self.edition == 1 else ''}"


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault of one run, and the setting it happens in.

    Attributes:
        kind: One of `KINDS`, `POISON_KINDS` or `TRAIN_KINDS`.
        seed: The seed.
        executor: `local` or `ray`.
        replicas: Replicas on Ray.
        shape: How the input is stored.
        place: Where input and output are.
        output_format: `parquet` or `jsonl`.
        moment: When to strike.
        grace_s: Seconds between a killed run and the next; what the killed one left lives on.
        kills: Replicas to kill, one after the other; or drivers to begin at once, less one.
        room: Bytes left on a full disk.
        poison: Poisonous documents in the input.
        s3: What the proxy does.
        machine: What breaks inside processes.
        change: What becomes of the input.
    """

    kind: str
    seed: int
    executor: Executor
    replicas: int
    shape: Shape
    place: Place
    output_format: str
    moment: Moment
    grace_s: float
    kills: int
    room: int
    poison: int
    s3: S3Faults | None
    machine: MachineFault | None = None
    change: Change | None = None

    @property
    def settings(self) -> str:
        """The setting in one short line."""
        if self.kind in TRAIN_KINDS:
            return f"train x{self.replicas}, {self.place}"
        where = self.executor if self.executor == "local" else f"ray x{self.replicas}"
        poison = f", {self.poison} poisonous" if self.poison else ""
        return f"{where}, {self.shape} -> {self.output_format}, {self.place}{poison}"


def choose_injection(kind: str, seed: int) -> Injection:
    """The injection of a kind and seed, the same on every machine."""
    known = KINDS + POISON_KINDS + TRAIN_KINDS
    if kind not in known:
        raise ValueError(f"no kind {kind!r}; there are {', '.join(known)}")
    rng = random.Random(f"{kind}/{seed}")
    executor = _choose_executor(kind, rng)
    place: Place = "s3" if kind in S3_FAULTS or rng.random() < 0.35 else "disk"
    return Injection(
        kind=kind,
        seed=seed,
        executor=executor,
        replicas=_choose_replicas(kind, executor, rng),
        shape=rng.choice(("jsonl", "jsonl", "jsonl.gz", "parquet")),
        # A disk that is full is a disk.
        place="disk" if kind in ON_DISK else place,
        output_format=rng.choice(("parquet", "parquet", "parquet", "jsonl")),
        moment=_choose_moment(kind, executor, rng),
        grace_s=round(rng.choice((0.0, rng.uniform(0, 1), rng.uniform(1, 6))), 2),
        kills=rng.choice((1, 1, 2)),
        room=rng.choice((0, rng.randrange(64 << 10))),
        poison=rng.randint(1, 3) if kind in POISON_KINDS else 0,
        s3=_choose_s3_faults(kind, seed, rng),
        # Drawn last: what was drawn for a kind and a seed stays what it was.
        machine=choose_machine_fault(kind, rng),
        change=_choose_change(kind, rng),
    )


def _choose_executor(kind: str, rng: random.Random) -> Executor:
    if kind in ("kill_local", "kill_committing"):
        return "local"
    if kind.startswith(("kill_", "train_")) or kind == "node_lost_committing":
        return "ray"
    # Ray takes three times as long, and most faults strike below the executor.
    return (
        "ray" if rng.random() < (0.3 if kind in FIRST_KINDS + POISON_KINDS else 0.15) else "local"
    )


def _choose_replicas(kind: str, executor: Executor, rng: random.Random) -> int:
    drawn = rng.choice((2, 2, 3))
    if executor == "local":
        return 1
    if kind in TRAIN_KINDS:
        return rng.choice((1, 1, 2))
    # One for each node: what the second node had, the first one must take over.
    return 2 if kind in ("kill_raylet", "node_lost_committing") else drawn


def _choose_moment(kind: str, executor: Executor, rng: random.Random) -> Moment:
    delay_s = round(rng.uniform(0, 0.2), 3)
    if kind in ("kill_local", "kill_driver"):
        draw = rng.random()
        if draw < 0.15:  # while it starts, plans or writes what a first run settles
            return Moment(None, round(rng.uniform(0.1, 5 if executor == "local" else 15), 2))
        if draw < 0.3:  # while it finishes
            return Moment(1.0, round(delay_s / 2, 3))
        return Moment(round(rng.uniform(0, 1), 3), delay_s)
    if kind == "source_changed":  # also when all is done but the end
        return Moment(round(rng.choice((rng.uniform(0, 1), 1.0)), 3), delay_s)
    if kind == "two_runs":
        return Moment(None, round(rng.uniform(0, 6), 2))
    # Late enough for a run to be under way, early enough for it not to be over.
    return Moment(round(rng.uniform(0, 0.7), 3), delay_s)


def _choose_s3_faults(kind: str, seed: int, rng: random.Random) -> S3Faults | None:
    if kind not in S3_FAULTS:
        return None
    faults = S3_FAULTS[kind]
    return S3Faults(
        seed=f"{kind}/{seed}/proxy",
        faults=faults,
        # Only an answer with a body can be cut short.
        methods=("GET",) if faults in (("truncated",), ("slow",)) else rng.choice(_METHODS),
        rate=rng.choice((0.1, 0.3, 1.0)),
        most=rng.choice((1, 3, 8, 30)),
        skip=rng.choice((0, rng.randrange(30), rng.randrange(100))),
    )


def _choose_change(kind: str, rng: random.Random) -> Change | None:
    if kind != "source_changed":
        return None
    return Change(edition=rng.choice((1, 1, 2)), in_place=rng.random() < 0.5)
