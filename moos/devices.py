"""What this process may compute on, found without loading torch where there is plainly no GPU."""

import os
import sys
from pathlib import Path

# Device files of the drivers that torch can drive: NVIDIA's, AMD's, and Windows's for Linux guests.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")

CPUINFO = Path("/proc/cpuinfo")


def has_cuda() -> bool:
    """True where torch can compute on a GPU."""
    if sys.platform == "linux" and not any(Path(name).exists() for name in _GPU_DEVICES):
        return False
    import torch

    return torch.cuda.is_available()


def has_bf16_tiles() -> bool:
    """True where the CPU multiplies matrices of bf16 in units of its own (AMX), and says so."""
    try:
        cpuinfo = CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:  # not on Linux
        return False
    flags = (line for line in cpuinfo.splitlines() if line.startswith("flags"))
    return "amx_bf16" in next(flags, "").split()


def num_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
