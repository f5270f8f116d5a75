"""Which machine and which versions a measurement was made with."""

import importlib.metadata
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moos.benchmark.ceilings import Ceilings

PACKAGES = (
    "moos",
    "llmlingua",
    "torch",
    "transformers",
    "tokenizers",
    "openvino",
    "onnxruntime",
    "numpy",
    "pyarrow",
    "ray",
)


@dataclass(frozen=True, slots=True)
class CeilingSpec:
    """What measures the machine's ceilings, in a process of its own like a contestant.

    Attributes:
        device: `cpu` or `cuda`.
        threads: CPU threads.
    """

    device: str
    threads: int

    def load(self) -> "Ceilings":
        """Set the threads."""
        import torch

        from moos.benchmark.ceilings import Ceilings

        torch.set_num_threads(self.threads)
        return Ceilings(self.device)


def describe_machine() -> dict[str, Any]:
    """CPU, cores, memory, how busy it is, and versions; of a package that is absent nothing."""
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "cpu": _cpu_model(),
        "cores": count_cores(),
        "memory_gb": _memory_gb(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    with suppress(ValueError, OSError, AttributeError):
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    return None
