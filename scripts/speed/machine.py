"""Where it is measured, what the machine can do at most, and how a piece of work is measured."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from pipeline import versions
from scripts.speed.where import busy

GIB = 2**30
_AGAIN_BELOW = 4.0
"""Seconds. Work that takes less is done twice, and the second time counts: the first one warms up."""
_PROFILED_BELOW = 25.0
"""Seconds. Work on frames in memory that takes more has no GPU idle share."""


@dataclass(frozen=True)
class Machine:
    """What the figures depend on."""

    name: str
    """The GPU, or the processor where there is none."""
    host: str
    """Processor and cores."""
    versions: dict[str, str]
    flops: float
    """Of a large matrix product, a second, measured here."""
    bandwidth: float
    """Bytes a second of a copy, read and written, measured here."""
    memory: int
    """Bytes of the device."""


@dataclass(frozen=True)
class Measured:
    """How long something took."""

    seconds: float
    runs: tuple[float, ...]
    """Of each repetition, in order."""
    peak: float | None
    """GiB of the device's memory, at most; None without a GPU."""
    reserved: float | None
    """GiB that the allocator held at most."""
    idle: float | None
    """Share of the time in which the GPU runs no kernel; None where it was not profiled."""


def any_device() -> str:
    """The first GPU, or the CPU."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def this_machine(device: str) -> Machine:
    """The machine, and its ceilings in bfloat16 (float32 on a CPU)."""
    host = f"{_processor()}, {cores()} cores"
    if device == "cpu":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        name = _processor()
    else:
        memory, name = torch.cuda.get_device_properties(0).total_memory, torch.cuda.get_device_name()
    numbers = {"python": versions.python(), **versions.packages()}
    if torch.version.cuda:
        numbers["cuda"] = torch.version.cuda
    flops, bandwidth = _ceilings(device)
    return Machine(name, host, numbers, flops, bandwidth, memory)


def cores() -> int:
    """Those that we may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measured(work: Callable[[], Any], device: str, repeats: bool = True, profiles: bool = True) -> Measured:
    """Time a piece of work, and profile it apart, so that the profiler slows nothing that counts.

    Args:
        work: done once to three times.
        device: on which it runs.
        repeats: whether short work is done twice.
        profiles: whether short work is profiled.
    """
    with peak_memory(device) as peaks:
        runs = [timed(work, device)]
        if repeats and runs[0] < _AGAIN_BELOW:
            runs.append(timed(work, device))
    peak = reserved = idle = None
    if device != "cpu":
        peak, reserved = (size / GIB for size in peaks)
        if profiles and runs[-1] < _PROFILED_BELOW:
            idle = _idle_share(work, device)
    return Measured(runs[-1], tuple(runs), peak, reserved, idle)


def timed(work: Callable[[], Any], device: str) -> float:
    """Seconds until the device is done."""
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


@contextmanager
def peak_memory(device: str) -> Iterator[list[int]]:
    """Bytes that are allocated and reserved at most in this context, known when it ends.

    The sampler forgets the peak before each of its windows, so what it was by then is kept.
    """
    peaks = [0, 0]
    if device == "cpu":
        yield peaks
        return
    forget = torch.cuda.reset_peak_memory_stats

    def keep() -> None:
        found = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        peaks[:] = map(max, peaks, found)

    def kept_and_forgotten(*words: Any) -> None:
        keep()
        forget(*words)

    forget()
    with patch.object(torch.cuda, "reset_peak_memory_stats", kept_and_forgotten):
        yield peaks
        keep()


def free_memory() -> None:
    """Give back what is not in use any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _idle_share(work: Callable[[], Any], device: str) -> float:
    seconds: list[float] = []
    kernels = kernels_of(lambda: seconds.append(timed(work, device)), device)
    return max(0.0, 1 - busy(kernels) / seconds[0])


def kernels_of(work: Callable[[], Any], device: str) -> list[tuple[float, float]]:
    """Start and end of each kernel that runs during a piece of work, in seconds of the monotonic clock."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(
        activities=[ProfilerActivity.CUDA]
    ) as profiler:  # acc_events would take a minute for a million kernels
        timed(work, device)
    ahead = time.time_ns() - time.monotonic_ns()  # the profiler counts from 1970
    return [
        ((event.start_ns() - ahead) / 1e9, (event.start_ns() - ahead + event.duration_ns()) / 1e9)
        for event in profiler.profiler.kineto_results.events()
        if event.device_type() == DeviceType.CUDA and not event.name().startswith(("Memcpy", "Memset"))
    ]


def _ceilings(device: str) -> tuple[float, float]:
    side, size, dtype = (512, 2**24, torch.float32) if device == "cpu" else (8192, 2**31, torch.bfloat16)
    square = torch.randn(side, side, dtype=dtype, device=device)
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    times = 10

    def products() -> None:
        for _ in range(times):
            _ = square @ square

    def copies() -> None:
        for _ in range(times):
            target.copy_(source)

    for work in (products, copies):
        timed(work, device)
    return times * 2 * side**3 / timed(products, device), times * 2 * size / timed(copies, device)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
