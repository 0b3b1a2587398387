"""The settings of the processes that read videos, and the reader that they make of another."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from pipeline.errors import ConfigError
from pipeline.execution.crashes import Crashes
from pipeline.video.reader import Reader

if TYPE_CHECKING:
    from pipeline.execution.candidates import CandidateStore

MOST_WORKERS = 1024
MOST_GB = 1e6
LONGEST = 1e6
"""Seconds."""
_RETRIES = (None, "crashed")


@dataclass(frozen=True)
class DecodeSettings:
    """How videos are read. Decides speed and safety, not what comes out."""

    workers: int | None
    """Processes that read videos; None: one for each core that may be used; 0: this process reads them itself."""
    deadline: float
    """Seconds for one piece of work; more where it usually takes long."""
    memory_gb: float
    """Of one process."""
    window_gb: float
    """Of frames that wait to be used, over all videos."""
    candidates_gb: float
    """Of prepared candidates on disk; 0 stores none."""
    retry: str | None
    """``crashed``: videos that crashed a process in an earlier run are tried again."""

    def __post_init__(self) -> None:
        workers = self.workers
        if workers is not None and (not _is_number(workers, int) or not 0 <= workers <= MOST_WORKERS):
            raise ConfigError(
                f"execution.decode_workers={workers}: a number from 0 to {MOST_WORKERS}",
                "set execution.decode_workers=null for one a core, or 0 to read videos in this process",
            )
        for key, usual, most in (
            ("deadline", 120, LONGEST),
            ("memory_gb", 4, MOST_GB),
            ("window_gb", 2, MOST_GB),
        ):
            value = getattr(self, key)
            name = key if key == "window_gb" else f"decode_{key}"
            if not _is_number(value, int | float) or not 0 < value <= most:
                raise ConfigError(f"execution.{name}={value}: above 0", f"set execution.{name}={usual}")
        if not _is_number(self.candidates_gb, int | float) or not 0 <= self.candidates_gb <= MOST_GB:
            raise ConfigError(
                f"execution.candidates_gb={self.candidates_gb}: 0 or more, at most {MOST_GB:.0f}",
                "set execution.candidates_gb=20, or 0 to store none",
            )
        if self.retry not in _RETRIES:
            raise ConfigError(
                f"execution.retry={self.retry}: nothing of this name is tried again", "set execution.retry=crashed"
            )

    @property
    def processes(self) -> int:
        """Number of worker processes."""
        if not sys.platform.startswith("linux"):  # the limits and the end of a worker are Linux's
            return 0
        return usable_cores() if self.workers is None else self.workers


def decoding_reader(reader: Reader, settings: DecodeSettings, cache: Path, candidates: CandidateStore | None) -> Reader:
    """The reader itself, or one that has its work done by worker processes.

    Args:
        reader: as configured.
        settings: of the workers.
        cache: folder where crashes are recorded.
        candidates: store of prepared ones; None stores none.
    """
    if not settings.processes:
        return reader
    from pipeline.execution.reader import in_workers

    crashes = Crashes(cache, reader.backend, settings.retry == "crashed", settings.deadline)
    return in_workers(reader, _pool(settings, os.getpid()), crashes, candidates)


@lru_cache(maxsize=8)
def _pool(settings: DecodeSettings, _: int) -> Any:
    """The pool of this process, which the jobs of a sweep share."""
    from pipeline.execution.processes import Limits, Pool

    pool = Pool(
        Limits(settings.processes, settings.deadline, int(settings.memory_gb * 1e9), int(settings.window_gb * 1e9))
    )
    _pools.add(pool)
    return pool


_pools: WeakSet[Any] = WeakSet()


def decode_workers() -> list[dict[str, Any]]:
    """What the decode workers of this process are doing, as :meth:`pipeline.execution.processes.Pool.states`."""
    return [state for pool in _pools for state in pool.states()]


def usable_cores() -> int:
    """Cores that this process may use: by its affinity and the limit of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return cores if quota == "max" else max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
