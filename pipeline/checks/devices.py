"""What memory there is on this machine, without torch: NVIDIA GPUs by ``nvidia-smi``, and the main memory."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

_MIB = 2**20
_QUERY = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.total,memory.free", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Gpu:
    """One device as a run sees it."""

    index: int
    """Among those that the run may use."""
    name: str
    total: int
    """Bytes."""
    free: int
    """Bytes, at this moment."""


@dataclass(frozen=True)
class Machine:
    """Where models may be held."""

    gpus: tuple[Gpu, ...]
    memory: int
    """Bytes of main memory."""
    sharing: int = 1
    """Processes that hold models of their own there."""

    @property
    def name(self) -> str:
        """The GPUs' names, or that there are none."""
        names = [gpu.name for gpu in self.gpus]
        return f"{len(names)} x {names[0]}" if names else "no GPU"


def this_machine() -> Machine:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` leaves, in its order, and the main memory."""
    return Machine(_visible(_listed()), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _listed() -> list[tuple[str, str, Gpu]]:
    """Index, unique id and figures of every GPU; none without ``nvidia-smi``."""
    try:
        told = subprocess.run(_QUERY, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in told.splitlines():
        index, uuid, name, total, free = (word.strip() for word in line.split(","))
        if all(
            word.isascii() and word.isdecimal() for word in (index, total, free)
        ):  # "[N/A]" where memory is shared with the CPU
            found.append((index, uuid, Gpu(int(index), name, int(total) * _MIB, int(free) * _MIB)))
    return found


def _visible(listed: list[tuple[str, str, Gpu]]) -> tuple[Gpu, ...]:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return tuple(gpu for _, _, gpu in listed)
    kept: list[Gpu] = []
    for word in (part.strip() for part in chosen.split(",")):
        match = next((gpu for index, uuid, gpu in listed if word and (word == index or uuid.startswith(word))), None)
        if match is None:
            break  # as CUDA does: devices after an unknown name are ignored
        kept.append(Gpu(len(kept), match.name, match.total, match.free))
    return tuple(kept)
