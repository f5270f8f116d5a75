"""Where a run reads and writes: a directory, or a bucket behind the fault proxy."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import s3fs

from tests.faults.proxy import FaultProxy
from tests.faults.servers import CREDENTIALS

BUCKET = "corpus"


@dataclass(frozen=True, slots=True)
class DiskPlace:
    """Input and output in directories.

    Attributes:
        source: Directory of the input.
        output: Directory of the output, as the job is told.
        seen: The same as the harness reaches it.
    """

    source: str
    output: str
    seen: Path
    options: Sequence[str] = ()
    verify_options: Sequence[str] = ()

    def count_done(self) -> int:
        """Steps that are done."""
        # Asked many times a second: a glob that looks at every record would take a core's share.
        found = 0
        for kind in ("scored", "done"):
            for directory in (self.seen / "_run" / kind).glob("*"):
                found += sum(1 for name in os.listdir(directory) if name.endswith(".json"))
        return found

    def rewrite(self, files: Path, *, in_place: bool) -> None:
        """Give the input's files the content of others."""
        for path in sorted(files.iterdir()):
            target = Path(self.source) / path.name
            if in_place:
                target.write_bytes(path.read_bytes())
            else:
                other = target.with_name(f".{path.name}")
                shutil.copyfile(path, other)
                other.replace(target)

    def names(self) -> list[str]:
        """Names of all files of the output."""
        files = (path for path in self.seen.rglob("*") if path.is_file())
        return [path.relative_to(self.seen).as_posix() for path in files]

    def read_one(self, name: str) -> bytes:
        """A file of the output."""
        return (self.seen / name).read_bytes()

    def write_one(self, name: str, content: bytes) -> None:
        """Change a file of the output."""
        (self.seen / name).write_bytes(content)

    def read(self) -> dict[str, bytes]:
        """Everything in the output."""
        paths = (path for path in self.seen.rglob("*") if path.is_file())
        return {path.relative_to(self.seen).as_posix(): path.read_bytes() for path in paths}


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """Input and output in a bucket; jobs go through the proxy, the harness goes past it.

    Attributes:
        source: URL of the input.
        output: URL of the output.
        options: Overrides that lead through the proxy.
        verify_options: Arguments of `moos verify` that lead past it.
        proxy: Counts the done records that pass.
        filesystem: The way past it.
    """

    source: str
    output: str
    options: Sequence[str]
    verify_options: Sequence[str]
    proxy: FaultProxy
    filesystem: s3fs.S3FileSystem

    def count_done(self) -> int:
        """Steps that were done since the trial began."""
        return len(self.proxy.done)

    def rewrite(self, files: Path, *, in_place: bool) -> None:
        """Give the input's objects the content of others; a PUT is both ways at once."""
        for path in sorted(files.iterdir()):
            self.filesystem.put_file(str(path), f"{self.source}/{path.name}")

    @property
    def _root(self) -> str:
        return self.output.removeprefix("s3://")

    def names(self) -> list[str]:
        """Names of all objects of the output."""
        self.filesystem.invalidate_cache()
        return [path.removeprefix(f"{self._root}/") for path in self.filesystem.find(self._root)]

    def read_one(self, name: str) -> bytes:
        """An object of the output."""
        return self.filesystem.cat_file(f"{self._root}/{name}")

    def write_one(self, name: str, content: bytes) -> None:
        """Change an object of the output."""
        self.filesystem.pipe_file(f"{self._root}/{name}", content)

    def read(self) -> dict[str, bytes]:
        """Everything in the output."""
        return {name: self.read_one(name) for name in self.names()}


def open_bucket(endpoint: str) -> s3fs.S3FileSystem:
    """The harness' own way to the server, with an empty bucket."""
    filesystem = s3fs.S3FileSystem(
        endpoint_url=endpoint,
        key=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        secret=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    filesystem.call_s3("create_bucket", Bucket=BUCKET)
    return filesystem
