"""Contestants for tests of `moos bench`, in a file that a process of its own imports in no time."""

import os
import signal
import tempfile
from dataclasses import dataclass

from moos.benchmark.contestants import Turn


class QuickCeilings:
    """Takes no seconds, as measuring the machine does."""

    def measure(self):
        return {"fp32_gflop_s": 100.0, "copy_gb_s": 5.0}


@dataclass(frozen=True)
class QuickCeilingSpec:
    device: str
    threads: int

    def load(self):
        return QuickCeilings()


@dataclass(frozen=True)
class FakeSpec:
    """A contestant that loads, prepares and runs, or does not."""

    fails: str

    def load(self):
        self.attempt("load")
        return self

    def attempt(self, what):
        if what == self.fails:
            raise OSError(f"{what} is broken")

    def prepare(self, texts):
        self.attempt("prepare")
        return {}

    def run(self):
        self.attempt("run")
        return Turn(seconds=0.5, tokens=100, kept_tokens=50)

    def peak_memory(self):
        return 1_000_000


class Echo:
    def repeat(self, text):
        return text, len(os.sched_getaffinity(0))

    def fail(self):
        raise ValueError("no\nsuch thing")

    def hold_directory(self):
        self.directory = tempfile.TemporaryDirectory()
        return self.directory.name

    def terminate(self):
        os.kill(os.getpid(), signal.SIGTERM)

    def die(self):
        os._exit(7)

    def shout(self):
        os.write(1, b"not a summary")


@dataclass(frozen=True)
class EchoSpec:
    is_broken: bool = False

    def load(self):
        if self.is_broken:
            raise OSError("no file")
        return Echo()
