"""A lease on an output, so that two runs do not work on it at once.

It saves double work; correctness does not rest on it, because commits are idempotent. It needs
nothing but plain put and get, since half of the S3 servers we tried ignore conditional puts. So of
two runs that start in the same instant both may hold it for a moment, but one of them finds the
other at its first heartbeat at the latest.

Whether a holder lives is told by its lease changing while we watch, never by the time in it: clocks
of machines differ. Only a holder whose process is known to be gone, being one of this machine,
needs no watching: who runs again after `kill -9` must not wait.
"""

import logging
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from moos.errors import ConfigError, MoosError
from moos.storage import Storage
from pipelines.run_state import dump_json

logger = logging.getLogger(__name__)

LEASE = "_run/lease.json"
SETTLE_S = 0.05

RELEASE_S = 20.0
"""Longest time that the end of a run waits for its lease to be released."""


class LeaseHeldError(MoosError):
    """Another run works on this output; nothing was done yet."""


class LeaseLostError(MoosError):
    """Another run took this output over while we worked, or may have."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process, named so that no other is taken for it; only `pid` where there is no /proc.

    Attributes:
        pid: Its number, which the system gives to another one after its end.
        machine: The boot of the machine, and the pid namespace (each container has its own).
        started: Clock ticks from that boot to its start.
    """

    pid: Annotated[int, Field(gt=0, lt=1 << 31)]
    machine: str | None = None
    started: int | None = None


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What the lease's file says: who holds it, and `beat`, which changes as long as it lives.

    The times are for people.
    """

    owner: str
    host: str
    process: Process
    began: str
    time: str
    beat: int
    heartbeat_s: float
    expires_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    released: bool

    def __str__(self) -> str:
        who = f"process {self.process.pid} on {self.host}"
        return f"{who}, began {self.began}, last heartbeat {self.time}"


_RECORD = TypeAdapter(LeaseRecord)


class Lease:
    """The lease of one run on its output, acquired once: `with Lease(output) as lease: ...`."""

    def __init__(
        self, output: Storage, *, heartbeat_s: float = 5.0, expires_s: float = 30.0
    ) -> None:
        """Name a lease; reads and writes nothing.

        Args:
            output: The run's output.
            heartbeat_s: Seconds between signs of life.
            expires_s: Seconds without one after which the run counts as dead, to itself and to
                others; several times `heartbeat_s`.
        """
        self.owner = secrets.token_hex(8)
        self.heartbeat_s = heartbeat_s
        self.expires_s = expires_s
        self._output = output
        self._place = f"output.path={output.url!r}"
        self._began = _now()
        self._beat = 0
        self._written_at = -float("inf")
        self._lost = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        # On a store whose writes are not atomic, nobody here reads what is half written here.
        self._lock = threading.Lock()

    def acquire(self) -> None:
        """Take the lease, and keep it by heartbeats until it is released or lost.

        One that is missing, released, unreadable, or of a process of this machine that is gone, is
        taken at once. Any other is watched: it changes, and its holder is alive; or it does not for
        the holder's `expires_s`, and is taken over.

        Raises:
            LeaseHeldError: Another run works on this output.
            ConfigError: Nothing may be written there.
        """
        self._wait_until_free()
        try:
            self._take()
        except PermissionError as error:
            self.release()
            raise ConfigError(
                f"{self._place}: permission to write is denied; let the user that runs moos write "
                "there, or give another output.path"
            ) from error
        except BaseException:
            self.release()
            raise

    def check(self) -> None:
        """See whether this run may go on, without reading the store.

        Raises:
            LeaseLostError: A heartbeat found another run's lease, or none could be written for
                `expires_s`. It stays lost.
        """
        if not self._lost and time.monotonic() - self._written_at > self.expires_s:
            self._lost = (
                f"{self._place}: no heartbeat could be written for {self.expires_s:g} s, and now "
                "another run may work there; what is committed stays, see that the storage answers"
            )
        if self._lost:
            raise LeaseLostError(self._lost)

    def confirm(self) -> None:
        """See whether the store says, now, that the lease is ours; an error of it is raised.

        Raises:
            LeaseLostError: It does not.
        """
        with self._lock:
            self.check()
            found = self._read()
            if found is None or found.owner != self.owner or found.released:
                self._lose_to(found)
            self.check()

    def release(self) -> None:
        """End the heartbeats and mark the lease released, if it is still ours.

        Trouble with the storage is logged, not raised: the lease then expires by itself. So it does
        where the storage does not answer for `RELEASE_S`.
        """
        self._stop.set()
        thread = threading.Thread(target=self._release, name="moos-lease-end", daemon=True)
        thread.start()
        thread.join(RELEASE_S)
        if thread.is_alive():
            logger.warning(
                "%s: the lease is left to expire: the storage does not answer", self._place
            )

    def _release(self) -> None:
        try:
            if self._thread is not None:
                self._thread.join(self.heartbeat_s)
                if self._thread.is_alive():
                    raise TimeoutError("the storage does not answer a heartbeat")
            # Not where we fell silent so long that another run may be taking it this moment.
            self.check()
            found = self._read()
            if found is not None and found.owner == self.owner and not found.released:
                self._write(released=True)
        except LeaseLostError:
            return
        except Exception as error:  # noqa: BLE001  stores raise what they like; the work is over
            logger.warning("%s: the lease is left to expire: %s", self._place, error)

    def __enter__(self) -> "Lease":
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _wait_until_free(self) -> None:
        first = self._read()
        if first is None or is_over(first):
            return
        logger.info(
            "%s may be in use by %s; watching for up to %g s", self._place, first, first.expires_s
        )
        deadline = time.monotonic() + first.expires_s
        while time.monotonic() < deadline:
            time.sleep(self.heartbeat_s / 5)
            found = self._read()
            if found is None or is_over(found):
                return
            if (found.owner, found.beat) != (first.owner, first.beat):
                raise LeaseHeldError(self._describe_holder(found))
        logger.warning(
            "%s is taken over: no heartbeat for %g s by %s", self._place, first.expires_s, first
        )

    def _take(self) -> None:
        began = time.monotonic()
        self._write()
        # A rival that found the lease free when we did has written its own by then, unless its
        # store is much slower than ours; the first heartbeat finds that one.
        took_s = time.monotonic() - began
        time.sleep(min(self.heartbeat_s, max(SETTLE_S, 4 * took_s)))
        found = self._read()
        if found is None or found.owner != self.owner:
            raise LeaseHeldError(self._describe_holder(found))
        self._thread = threading.Thread(target=self._keep, name="moos-lease", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._stop.wait(self.heartbeat_s):
            try:
                self._renew()
            except LeaseLostError:
                return  # check() says so in the run's own thread
            except Exception as error:  # noqa: BLE001  stores raise what they like; the next may pass
                logger.warning("%s: a heartbeat was not written: %s", self._place, error)

    def _renew(self) -> None:
        with self._lock:
            found = self._read()
            if found is not None and found.owner != self.owner:
                self._lose_to(found)
            # Also where the read took so long that the lease expired over it.
            self.check()
            self._write()

    def _read(self) -> LeaseRecord | None:
        return read_lease(self._output)

    def _write(self, *, released: bool = False) -> None:
        self._beat += 1
        # Others may see the write from here on, so our time runs out before theirs.
        began = time.monotonic()
        record = LeaseRecord(
            owner=self.owner,
            host=socket.gethostname(),
            process=identify_process(),
            began=self._began,
            time=_now(),
            beat=self._beat,
            heartbeat_s=self.heartbeat_s,
            expires_s=self.expires_s,
            released=released,
        )
        self._output.put(LEASE, dump_json(asdict(record)))
        self._written_at = began

    def _lose_to(self, found: LeaseRecord | None) -> None:
        self._lost = (
            f"{self._place} was taken over by another run while this one worked: "
            f"{found or 'its lease is gone'}; what is committed stays"
        )

    def _describe_holder(self, found: LeaseRecord | None) -> str:
        expires_s = self.expires_s if found is None else found.expires_s
        return (
            f"another run is working on {self._place}: {found or 'its lease cannot be read'}; "
            f"wait for it or stop it, and if it is dead, run again after {expires_s:g} s"
        )


def read_lease(output: Storage) -> LeaseRecord | None:
    """The lease as it stands; None if it is missing, or unreadable and not just half written.

    Where writes are not atomic, a second look finds whole what the first found half written.
    """
    for pause_s in (0.0, SETTLE_S):
        time.sleep(pause_s)
        try:
            return _RECORD.validate_json(output.get(LEASE))
        except FileNotFoundError:
            return None
        except ValidationError:
            continue
    return None


def identify_process() -> Process:
    """This process."""
    pid = os.getpid()
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return Process(pid, f"{boot_id} {os.readlink('/proc/self/ns/pid')}", _read_stat(pid)[1])
    except OSError:
        return Process(pid)


def is_over(record: LeaseRecord) -> bool:
    """True if its holder released it, or is a process of this machine that is surely gone."""
    if record.released:
        return True
    holder = record.process
    here = (socket.gethostname(), identify_process().machine)
    if holder.machine is None or (record.host, holder.machine) != here:
        return False
    try:
        # /proc may hide the processes of other users; this signal, which does nothing, finds them.
        with suppress(PermissionError):
            os.kill(holder.pid, 0)
        state, started = _read_stat(holder.pid)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return state in ("Z", "X") or started != holder.started


def _read_stat(pid: int) -> tuple[str, int]:
    """State of a process, and its start in clock ticks since boot."""
    # The name, in brackets, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
