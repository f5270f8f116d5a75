"""Two runs do not work on one output for long, whoever dies, stalls, or starts when."""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import pytest

from moos.errors import ConfigError, MoosError
from moos.storage import Storage
from pipelines.lease import LEASE, Lease, LeaseHeldError, LeaseLostError

ROOT = Path(__file__).parents[2]
HEARTBEAT_S = 0.02
LONG_S = 60.0
"""Longer than any test may take: who waits this long, or is declared dead by it, is a bug."""


@pytest.fixture(params=["disk", "memory"])
def output(request, tmp_path):
    if request.param == "disk":
        return Storage(str(tmp_path / "out"))
    fsspec.filesystem("memory").store.clear()
    return Storage("memory://out")


@pytest.fixture
def disk(tmp_path):
    return Storage(str(tmp_path / "out"))


@pytest.fixture
def lease():
    """`lease(output)`: a lease with a quick heart, released at the end whatever happens."""
    made = []

    def make(output, heartbeat_s=HEARTBEAT_S, expires_s=LONG_S):
        made.append(Lease(output, heartbeat_s=heartbeat_s, expires_s=expires_s))
        return made[-1]

    yield make
    for one in made:
        one.release()


def read(output) -> dict:
    return json.loads(output.get(LEASE))


def wait_until_lost(one: Lease) -> LeaseLostError:
    deadline = time.monotonic() + LONG_S / 2
    while time.monotonic() < deadline:
        try:
            one.check()
        except LeaseLostError as error:
            return error
        time.sleep(0.005)
    return pytest.fail("still goes on")


def wait_for_beat(output, after: int) -> None:
    deadline = time.monotonic() + LONG_S / 2
    while read(output)["beat"] <= after:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def stranger():
    """What the lease of another run says that lives, in this process, and beats no more."""
    memory = Storage("memory://stranger")
    with Lease(memory, heartbeat_s=HEARTBEAT_S, expires_s=LONG_S):
        return read(memory)


def put(output, record: dict) -> None:
    output.put(LEASE, json.dumps(record).encode())


class HookedStorage(Storage):
    """A storage that calls `before_put` and `before_get`, which may wait or raise."""

    def __init__(self, url):
        super().__init__(url)
        self.before_put = self.before_get = lambda: None

    def put(self, name, data):
        self.before_put()
        super().put(name, data)

    def get(self, name):
        self.before_get()
        return super().get(name)


def test_a_fresh_output_is_taken_kept_and_released(output, lease):
    with lease(output) as one:
        one.check()
        one.confirm()
        first = read(output)
        assert first["owner"] == one.owner
        assert len(one.owner) == 16
        assert first["process"]["pid"] == os.getpid()
        assert (first["heartbeat_s"], first["expires_s"]) == (HEARTBEAT_S, LONG_S)
        assert not first["released"]
        wait_for_beat(output, first["beat"])
        one.confirm()
    last = read(output)
    assert last["released"]
    assert last["began"] == first["began"]
    time.sleep(3 * HEARTBEAT_S)
    assert read(output) == last  # no heartbeat comes after the release
    assert output.list("_run") == ["lease.json"]


def test_an_output_that_may_not_be_written_is_an_error_of_the_config(output, lease, monkeypatch):
    def refuse(name, data):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(output, "put", refuse)
    match = r"output\.path='.*out': permission to write is denied; let the user .* write there"
    with pytest.raises(ConfigError, match=match):
        lease(output).acquire()
    assert not output.exists(LEASE)


def test_a_released_lease_is_taken_at_once(output, lease, caplog):
    caplog.set_level(logging.INFO)
    with lease(output):
        pass
    with lease(output) as second:
        second.confirm()
    assert caplog.text == ""


def test_a_lease_is_not_held_before_it_is_acquired_or_after_it_is_released(output, lease):
    one = lease(output)
    with pytest.raises(LeaseLostError):
        one.check()
    one.release()
    assert not output.exists(LEASE)
    with lease(output) as second:
        second.check()
    second.release()
    with pytest.raises(LeaseLostError):
        second.confirm()


def test_a_living_holder_is_not_disturbed(output, lease, caplog):
    caplog.set_level(logging.INFO)
    with lease(output) as holder:
        before = read(output)
        with pytest.raises(LeaseHeldError) as refused:
            lease(output).acquire()
        holder.confirm()
        wait_for_beat(output, before["beat"] + 2)
        holder.check()
    for part in (
        f"another run is working on output.path={output.url!r}: process {os.getpid()} on ",
        before["host"],
        f"began {before['began']}, last heartbeat 20",
        "wait for it or stop it, and if it is dead, run again after 60 s",
    ):
        assert part in str(refused.value)
    (line,) = caplog.messages
    assert line.startswith(f"output.path={output.url!r} may be in use by process {os.getpid()} on ")
    assert line.endswith("; watching for up to 60 s")


def test_a_silent_holder_of_another_host_is_taken_over(output, lease, stranger, caplog):
    # The holder's time counts, not ours; its clock, years ahead of ours, does not.
    changes = {"host": "elsewhere", "expires_s": 0.2, "time": "2099-01-01T00:00:00+00:00"}
    put(output, {**stranger, **changes})
    began = time.monotonic()
    with lease(output) as second:
        assert time.monotonic() - began >= 0.2
        second.confirm()
    assert "is taken over: no heartbeat for 0.2 s by process" in caplog.text
    assert "elsewhere" in caplog.text


def test_a_holder_of_another_host_that_is_released_or_removed_meanwhile_is_not_waited_for(
    disk, lease, stranger
):
    record = {**stranger, "host": "elsewhere"}
    for end in (lambda: put(disk, {**record, "released": True}), lambda: disk.remove(LEASE)):
        put(disk, record)
        timer = threading.Timer(0.05, end)
        timer.start()
        with lease(disk) as second:
            second.confirm()
        timer.join()


def test_a_holder_that_stalled_finds_out(disk, lease):
    stalled = lease(disk, heartbeat_s=LONG_S, expires_s=0.2)
    stalled.acquire()
    with lease(disk) as second:  # the same process, alive: only watching tells
        with pytest.raises(LeaseLostError):
            stalled.check()
        with pytest.raises(LeaseLostError):
            stalled.confirm()
        stalled.release()
        second.confirm()
        assert read(disk)["owner"] == second.owner


def test_a_thief_is_noticed_and_left_alone(output, lease, stranger):
    thief = {**stranger, "host": "elsewhere"}
    with lease(output) as one:
        # Again and again, as a thief would: one put may fall between our heartbeat's get and put.
        repeat = threading.Event()

        def steal():
            while not repeat.wait(0.01):
                put(output, thief)

        thread = threading.Thread(target=steal)
        thread.start()
        try:
            error = wait_until_lost(one)
        finally:
            repeat.set()
            thread.join()
        assert "was taken over by another run while this one worked: process" in str(error)
        assert "elsewhere" in str(error)
        with pytest.raises(LeaseLostError):
            one.confirm()
    assert read(output) == thief


def test_what_the_store_says_now_counts_before_publishing(disk, lease):
    one = lease(disk, heartbeat_s=LONG_S)
    one.acquire()
    put(disk, {**read(disk), "owner": "thief"})
    one.check()  # no heartbeat has found it yet
    with pytest.raises(LeaseLostError, match="taken over by another run"):
        one.confirm()
    with pytest.raises(LeaseLostError):
        one.check()
    second = lease(disk, heartbeat_s=LONG_S)
    disk.remove(LEASE)
    second.acquire()
    disk.remove(LEASE)
    with pytest.raises(LeaseLostError, match="its lease is gone"):
        second.confirm()


def test_a_holder_that_fell_silent_for_long_writes_no_more(disk, lease):
    # Somebody may be taking the lease over at this moment.
    one = lease(disk, heartbeat_s=LONG_S, expires_s=0.1)
    one.acquire()
    wait_until_lost(one)
    one.release()
    assert not read(disk)["released"]


def test_a_heartbeat_whose_read_outlasted_the_lease_is_not_written(disk, lease):
    output = HookedStorage(disk.url)
    slow = threading.Event()

    def dawdle():
        if slow.is_set():
            time.sleep(0.2)

    output.before_get = dawdle
    one = lease(output, expires_s=0.15)
    one.acquire()
    slow.set()
    wait_until_lost(one)
    before = disk.get(LEASE)
    time.sleep(0.3)
    assert disk.get(LEASE) == before


def test_our_time_runs_from_the_moment_others_may_see_our_heartbeat(disk, lease):
    output = HookedStorage(disk.url)
    output.before_put = lambda: time.sleep(0.04)
    one = lease(output, heartbeat_s=LONG_S, expires_s=0.18)
    one.acquire()  # writes for 0.04 s, then settles for four times as long
    with pytest.raises(LeaseLostError):
        one.check()


def test_only_the_owner_releases(disk, lease, stranger):
    one = lease(disk, heartbeat_s=LONG_S)
    one.acquire()
    put(disk, stranger)
    one.release()
    assert read(disk) == stranger


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"owner": "half',
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"owner": "x", "beat": 1}',
    ],
)
def test_an_unreadable_lease_is_taken(disk, lease, content):
    disk.put(LEASE, content)
    with lease(disk) as one:
        one.confirm()
        disk.put(LEASE, content)
        deadline = time.monotonic() + LONG_S / 2
        while disk.get(LEASE) == content:  # until the next heartbeat
            assert time.monotonic() < deadline
            time.sleep(0.005)
        one.confirm()
    assert read(disk)["released"]


@pytest.mark.parametrize("expires_s", [0, -1, float("inf"), float("nan"), "long"])
def test_a_lease_that_would_expire_never_or_at_once_is_unreadable(disk, lease, stranger, expires_s):
    put(disk, {**stranger, "expires_s": expires_s})
    with lease(disk) as one:
        one.confirm()


def test_a_half_written_lease_is_looked_at_twice(disk, lease, stranger):
    whole = json.dumps(stranger).encode()
    output = HookedStorage(disk.url)
    contents = [whole[: len(whole) // 2], whole, whole.replace(b'"beat": 1,', b'"beat": 2,')]
    output.before_get = lambda: disk.put(LEASE, contents.pop(0))
    writes = []
    output.before_put = lambda: writes.append(1)
    with pytest.raises(LeaseHeldError):
        lease(output).acquire()
    assert writes == []


HOLDER = """
import sys, time
from moos.storage import Storage
from pipelines.lease import Lease
Lease(Storage(sys.argv[1]), heartbeat_s=0.05, expires_s=60.0).acquire()
print("acquired", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def dead_record(tmp_path_factory):
    """What a run of this machine left behind that was killed with -9 and has no process any more.

    Before its parent asked after it, it was a zombie, and had to count as dead as well.
    """
    disk = Storage(str(tmp_path_factory.mktemp("dead")))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, disk.url], stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert process.stdout.readline() == b"acquired\n"
        with pytest.raises(LeaseHeldError, match=f"process {process.pid} on "):
            Lease(disk, heartbeat_s=HEARTBEAT_S).acquire()
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        record = read(disk)
        with Lease(disk) as one:
            one.confirm()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return record


def test_a_run_killed_on_this_machine_is_not_waited_for(disk, lease, dead_record, caplog):
    caplog.set_level(logging.INFO)
    put(disk, dead_record)
    with lease(disk) as one:
        one.confirm()
    assert caplog.text == ""


def test_a_process_that_got_the_number_of_a_dead_one_is_no_holder(disk, lease, dead_record, caplog):
    caplog.set_level(logging.INFO)
    put(disk, {**dead_record, "process": {**dead_record["process"], "pid": os.getpid()}})
    with lease(disk) as one:
        one.confirm()
    assert caplog.text == ""


@pytest.mark.parametrize("key", ["host", "machine", "no /proc"])
def test_a_process_that_may_be_of_another_machine_or_container_is_watched(
    disk, lease, dead_record, caplog, key
):
    caplog.set_level(logging.INFO)
    record = {**dead_record, "expires_s": 0.1}
    if key == "host":
        record["host"] = "elsewhere"
    elif key == "machine":
        record["process"] = {**record["process"], "machine": "another boot"}
    else:
        record["process"] = {"pid": record["process"]["pid"], "machine": None, "started": None}
    put(disk, record)
    with lease(disk) as one:
        one.confirm()
    assert "watching for up to 0.1 s" in caplog.text
    assert "is taken over" in caplog.text


def test_a_system_without_proc_falls_back_to_watching(
    disk, lease, dead_record, caplog, monkeypatch
):
    def fail(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "readlink", fail)
    put(disk, {**dead_record, "expires_s": 0.1})
    with lease(disk):
        assert read(disk)["process"] == {"pid": os.getpid(), "machine": None, "started": None}
    assert "is taken over" in caplog.text


class StoreError(Exception):
    """As botocore's: no OSError."""


@pytest.mark.parametrize("kind", [OSError, StoreError])
def test_a_store_that_fails_for_long_loses_the_lease(disk, lease, caplog, kind):
    output = HookedStorage(disk.url)

    def fail():
        raise kind("no route to host")

    with lease(output, expires_s=0.3) as one:
        output.before_put = fail
        error = wait_until_lost(one)
        with pytest.raises(LeaseLostError):
            one.confirm()
        output.before_get = fail
    assert "no heartbeat could be written for 0.3 s" in str(error)
    assert "a heartbeat was not written: no route to host" in caplog.text
    assert not read(disk)["released"]


def test_a_store_that_hangs_loses_the_lease_and_does_not_hold_up_the_end(disk, lease, caplog):
    output = HookedStorage(disk.url)
    answer = threading.Event()
    one = lease(output, expires_s=0.3)
    one.acquire()
    output.before_put = answer.wait
    try:
        wait_until_lost(one)
        one.release()
        assert "left to expire: the storage does not answer a heartbeat" in caplog.text
    finally:
        answer.set()


def test_a_store_that_fails_for_a_moment_loses_nothing(disk, lease, caplog):
    output = HookedStorage(disk.url)
    failures = [OSError("try again"), StoreError("try again")]

    def fail_at_first():
        if failures:
            raise failures.pop()

    with lease(output) as one:
        beat = read(disk)["beat"]
        output.before_put = fail_at_first
        wait_for_beat(disk, beat + 2)
        one.confirm()
    assert caplog.text.count("try again") == 2
    assert read(disk)["released"]


def test_a_release_that_fails_is_logged_and_not_raised(disk, lease, caplog):
    output = HookedStorage(disk.url)

    def fail():
        raise StoreError("gone")

    with lease(output, heartbeat_s=LONG_S):
        output.before_put = fail
    assert "the lease is left to expire: gone" in caplog.text


def test_a_store_that_cannot_be_written_stops_the_run_before_it_begins(disk, lease):
    output = HookedStorage(disk.url)

    def fail():
        raise OSError("read only")

    output.before_put = fail
    with pytest.raises(OSError, match="read only"):
        lease(output).acquire()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MoosError, SystemExit])
def test_a_run_that_ends_badly_releases(disk, lease, kind):
    with pytest.raises(kind), lease(disk):
        raise kind
    assert read(disk)["released"]
    assert "moos-lease" not in {thread.name for thread in threading.enumerate()}


def test_a_run_that_is_interrupted_while_it_acquires_releases(disk, lease):
    output = HookedStorage(disk.url)
    gets = []

    def interrupt_second():
        gets.append(1)
        if len(gets) == 2:
            raise KeyboardInterrupt

    output.before_get = interrupt_second
    with pytest.raises(KeyboardInterrupt):
        lease(output).acquire()
    assert read(disk)["released"]


def test_a_rival_that_writes_while_we_settle_wins(disk, lease, stranger):
    output = HookedStorage(disk.url)
    gets = []

    def write_rival():
        gets.append(1)
        if len(gets) == 2:
            put(disk, stranger)

    output.before_get = write_rival
    with pytest.raises(LeaseHeldError, match="another run is working"):
        lease(output).acquire()
    assert read(disk) == stranger


def test_a_rival_that_writes_after_we_settled_wins_at_our_first_heartbeat(disk, lease):
    slow = HookedStorage(disk.url)
    go, found_free = threading.Event(), threading.Event()

    def write_late():
        found_free.set()
        go.wait()
        slow.before_put = lambda: None

    slow.before_put = write_late
    rival = lease(slow, heartbeat_s=0.3)
    thread = threading.Thread(target=rival.acquire)
    thread.start()
    found_free.wait()
    one = lease(disk, heartbeat_s=0.3)
    one.acquire()
    one.confirm()
    go.set()
    thread.join()
    rival.confirm()
    wait_until_lost(one)
    rival.confirm()


def goes_on(one: Lease) -> bool:
    try:
        one.check()
    except LeaseLostError:
        return False
    return True


def test_of_runs_that_start_in_the_same_instant_exactly_one_goes_on(output, lease):
    for _ in range(3):
        leases = [lease(output) for _ in range(4)]
        start = threading.Barrier(len(leases))
        acquired = []

        def run(one, start=start, acquired=acquired):
            start.wait()
            try:
                one.acquire()
            except LeaseHeldError:
                return
            acquired.append(one)

        threads = [threading.Thread(target=run, args=(one,)) for one in leases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        deadline = time.monotonic() + LONG_S / 2
        while len(left := [one for one in acquired if goes_on(one)]) > 1:
            assert time.monotonic() < deadline
            time.sleep(HEARTBEAT_S)
        (winner,) = left
        winner.confirm()
        assert read(output)["owner"] == winner.owner
        winner.release()


@pytest.mark.parametrize("error", [LeaseHeldError("held"), LeaseLostError("lost")])
def test_an_error_survives_the_way_between_processes(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))
    assert isinstance(error, MoosError)
