"""What the machine can do at most: matrix products, copies of memory, reading of a file."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

LARGEST = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the largest matrices: past the caches, or enough to fill a GPU."""

SMALLEST = 256
TRY_S = 0.3
"""Seconds for the products of one data type; slow ones stay with smaller matrices."""

COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}
READ_BYTES = 1 << 26


class Ceilings:
    """Measures the machine at each call, since what others do on it changes."""

    def __init__(self, device: str) -> None:
        self._device = device

    def measure(self) -> dict[str, float]:
        """Rates: `fp32_gflop_s` and so on for each data type there is, copies, reading.

        `copy_gb_s` counts bytes copied once. `read_gb_s` reads a file that was just written, as a
        corpus is here, so it comes from the page cache.
        """
        rates = {}
        for name, product in _products(self._device).items():
            rate = _best_rate(product, self._device)
            if rate is not None:
                rates[f"{name}_gflop_s"] = round(rate / 1e9, 1)
        rates["copy_gb_s"] = round(_copy_rate(self._device) / 1e9, 2)
        rates["read_gb_s"] = round(_read_rate() / 1e9, 2)
        return rates


Product = Callable[[int], Callable[[], Any]]
"""For a size: a function that multiplies two square matrices of it."""


def _products(device: str) -> dict[str, Product]:
    products: dict[str, Product] = {
        "fp32": lambda size: _multiply(torch.randn(size, size, device=device)),
        "bf16": lambda size: _multiply(torch.randn(size, size, device=device).bfloat16()),
        "int8": lambda size: _multiply_int8(size, device),
    }
    if device == "cuda":
        products["fp16"] = lambda size: _multiply(torch.randn(size, size, device=device).half())
    return products


def _multiply(matrix: torch.Tensor) -> Callable[[], Any]:
    out = torch.empty_like(matrix)
    return lambda: torch.mm(matrix, matrix, out=out)


def _multiply_int8(size: int, device: str) -> Callable[[], Any]:
    matrix = torch.randint(-127, 127, (size, size), dtype=torch.int8, device=device)
    # A private function, but the only product of int8 that torch has.
    return lambda: torch._int_mm(matrix, matrix)


def _best_rate(product: Product, device: str) -> float | None:
    """Most operations per second over sizes and repeats; None where there is no such product."""
    best = 0.0
    size = SMALLEST
    deadline = time.perf_counter() + TRY_S
    try:
        while True:
            multiply = product(size)
            multiply()
            took = _time(multiply, device)
            best = max(best, 2 * size**3 / took)
            if time.perf_counter() > deadline:
                return best
            # Eight times the work at the next size.
            if size < LARGEST[device] and 8 * took < TRY_S:
                size *= 2
    except (RuntimeError, AttributeError):  # what torch raises where it has no such kernel
        return best or None


def _copy_rate(device: str) -> float:
    source = torch.ones(COPY_BYTES[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return COPY_BYTES[device] / min(_time(lambda: target.copy_(source), device) for _ in range(3))


def _read_rate() -> float:
    with tempfile.TemporaryDirectory(prefix="moos-bench-") as directory:
        path = Path(directory, "file")
        path.write_bytes(os.urandom(1 << 20) * (READ_BYTES >> 20))
        return READ_BYTES / min(_time(lambda: _read_through(path), "cpu") for _ in range(3))


def _read_through(path: Path) -> None:
    buffer = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _time(run: Callable[[], Any], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
