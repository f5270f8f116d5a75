"""What a run needs around it: an S3 server, a second Ray node, a disk that can be full.

Each is a process of its own that ends when its standard input does, so that it outlives a killed
run and not the harness.

python -m tests.faults.servers s3 | cluster
"""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.faults.job import ROOT, descendants, kill, process_table

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "not-to-be-seen-anywhere",
    "AWS_DEFAULT_REGION": "us-east-1",
}
DISK_BYTES = 64 << 20
STOP_S = 30


@contextmanager
def _helper(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=dict(environment),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        family = descendants(process.pid)
        process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for member in family & process_table().keys():
            kill(member.pid)
        process.stdout.close()


@contextmanager
def run_s3() -> Iterator[str]:
    """The endpoint of a moto server."""
    command = [sys.executable, "-m", "tests.faults.servers", "s3"]
    with _helper(command, os.environ) as server:
        yield server.stdout.readline().decode().strip()


@contextmanager
def run_cluster(environment: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Two Ray nodes of one CPU: the address, and the pid of the second one's raylet."""
    command = [sys.executable, "-m", "tests.faults.servers", "cluster"]
    with _helper(command, environment) as helper:
        told = json.loads(helper.stdout.readline())
        yield told["address"], told["raylet"]


class SmallDisk:
    """A small filesystem of its own in memory, mounted where only its own processes see it.

    Attributes:
        seen: The mount as this process can reach it.
        holder: Pid of the process that holds the mount.
        prefix: What to put before a command that shall see the mount at `place`.
    """

    def __init__(self, holder: subprocess.Popen, place: Path) -> None:
        """Reach the mount through a process that holds it."""
        self.holder = holder.pid
        self.seen = Path(f"/proc/{holder.pid}/root{place}")
        enter = ("nsenter", f"--target={holder.pid}", "--user", "--mount", "--preserve-credentials")
        # Entering a mount namespace leaves the working directory behind.
        self.prefix = (*enter, "env", f"--chdir={ROOT}")
        self._mount = (*enter, "mount", "-o")
        self._place = str(place)

    def fill(self, room: int) -> None:
        """Write until nothing more fits, then give `room` bytes back."""
        with (self.seen / "ballast").open("wb", buffering=0) as stream:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        stream.write(b"\0" * size)
                except OSError:
                    continue
            stream.truncate(max(0, stream.tell() - room))

    def empty(self) -> None:
        """Make room."""
        (self.seen / "ballast").unlink(missing_ok=True)

    def let_write(self, allowed: bool) -> bool:
        """Mount it anew, to be written or only to be read; False while a file is being written."""
        how = f"remount,{'rw' if allowed else 'ro'}"
        done = subprocess.run([*self._mount, how, self._place], capture_output=True, check=False)
        return done.returncode == 0


@contextmanager
def mount_small_disk(place: Path) -> Iterator[SmallDisk | None]:
    """A small disk at an existing directory; None where this machine does not let us.

    A user namespace gives the right to mount, to root and to anybody else, unless a container's
    settings forbid it.
    """
    mount = f'mount -t tmpfs -o size={DISK_BYTES} tmpfs "$0" && echo mounted && exec cat'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(place)]
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        yield None
        return
    with _helper(command, os.environ) as holder:
        mounted = holder.stdout.readline() == b"mounted\n"
        yield SmallDisk(holder, place) if mounted else None


def _serve_s3() -> None:
    import moto.server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _tell("http://{}:{}".format(*server.get_host_and_port()))
    sys.stdin.read()
    server.stop()


def _serve_cluster() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    raylet = second.all_processes["raylet"][0].process.pid
    _tell(json.dumps({"address": cluster.address, "raylet": raylet}))
    sys.stdin.read()
    cluster.shutdown()


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    {"s3": _serve_s3, "cluster": _serve_cluster}[sys.argv[1]]()
