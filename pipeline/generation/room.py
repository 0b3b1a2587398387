"""What prefixes and rows take of a device's memory, known before they are made by what those before them took."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

import torch

from pipeline.generation.row_buffers import KeptBuffers
from pipeline.generation.shared_prefix import Prefix

_PART_OF_CPU = 8
"""On a CPU, prefixes and rows take an eighth of the machine's memory."""
_SPARE = 0.09
"""Part of a GPU's memory that is left to other processes, and to gaps that the allocator cannot join."""


class Grows(Protocol):
    """A running batch."""

    def growth(self, count: int, longest: int, token_bytes: int, /) -> int:
        """Bytes that so many more rows of so many tokens take."""
        ...


class Room:
    """The memory that prefixes and rows of one model may take.

    Args:
        model: with a text decoder.
        kept: its buffers, which make room for a prefix where they are not in use.
    """

    def __init__(self, model: Any, kept: KeptBuffers) -> None:
        self._model = model
        self._kept = kept
        self._token_bytes = 0
        self._beside = 0  # bytes that reading was seen to take beside what it keeps
        self._longest = 1  # tokens that were read at once

    def read(self, read: Callable[[], Prefix]) -> Prefix:
        """What ``read`` gives, which is measured.

        Raises:
            OutOfMemoryError: it does not fit.
        """
        device = self._device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
        made = self._kept.with_room(read)
        self._token_bytes = made.states.bytes // made.length
        self._longest = max(self._longest, made.length)
        if device.type == "cuda":
            taken = torch.cuda.max_memory_allocated(device) - before
            self._beside = max(self._beside, taken - made.states.bytes)
        return made

    def fits(self, length: int, rows: Grows, count: int, longest: int, held: int = 0) -> bool:
        """Whether another prefix can be read and get so many rows. True as long as nothing is known.

        Args:
            length: tokens of the prefix.
            rows: that are running.
            count: rows.
            longest: tokens of the longest of them.
            held: bytes of the prefixes that were read, which on a GPU are known.
        """
        states = self._token_bytes * length
        seen = self._beside * max(length, self._longest) // self._longest
        beside = seen or states  # on a CPU it is not seen
        on_cpu = 0 if self._device.type == "cuda" else held
        return self._is_free(on_cpu + states + beside + rows.growth(count, longest, self._token_bytes))

    def rows(self, rows: Grows, count: int, longest: int) -> int:
        """How many of so many further rows on a prefix that was read fit; at least 1.

        Args:
            rows: that are running.
            count: further rows.
            longest: tokens of the longest of them.
        """
        while count > 1 and not self._is_free(rows.growth(count, longest, self._token_bytes)):
            count //= 2
        return count

    @property
    def _device(self) -> torch.device:
        device: torch.device = self._model.get_input_embeddings().weight.device
        return device

    def _is_free(self, size: int) -> bool:
        device = self._device
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return bool(size <= free + cached - _SPARE * total)
        return size <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _PART_OF_CPU
