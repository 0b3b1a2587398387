from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.generation.prefix_attention import PrefixStates
from pipeline.generation.room import Room
from pipeline.generation.row_buffers import KeptBuffers
from pipeline.generation.shared_prefix import Prefix

GIB = 2**30


class Rows:
    """Rows whose buffers grow by so many bytes."""

    def __init__(self, grows: int = 0) -> None:
        self.grows = grows

    def growth(self, count: int, longest: int, token_bytes: int) -> int:
        return self.grows


class Card:
    """Figures of torch about an H100: 79.2 GiB, of which 0.6 are CUDA's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, allocated: float) -> None:
        self.allocated, self.peak, self.cached = allocated, allocated, 0.0
        told = {
            "reset_peak_memory_stats": lambda device: None,
            "memory_allocated": lambda device: self._bytes(self.allocated),
            "max_memory_allocated": lambda device: self._bytes(self.peak),
            "memory_reserved": lambda device: self._bytes(self.allocated + self.cached),
            "mem_get_info": lambda device: (self._bytes(78.6 - self.allocated - self.cached), self._bytes(79.2)),
        }
        for name, figure in told.items():
            monkeypatch.setattr(torch.cuda, name, figure)

    @staticmethod
    def _bytes(gib: float) -> int:
        return round(gib * GIB)

    def room(self) -> Room:
        embeddings = SimpleNamespace(weight=SimpleNamespace(device=torch.device("cuda")))
        model: Any = SimpleNamespace(get_input_embeddings=lambda: embeddings)
        return Room(model, KeptBuffers(model))

    def read(self, tokens: int, kept: float, beside: float) -> Any:
        """Reading a window that keeps so many GiB and takes others meanwhile."""

        def read() -> Prefix:
            self.peak = self.allocated + kept + beside
            self.allocated += kept
            states = torch.empty(1, tokens, round(kept * GIB / tokens / 2), dtype=torch.uint8, device="meta")
            return Prefix(PrefixStates((states,), (states,)), tokens)

        return read


def test_windows_are_held_together_up_to_a_part_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aria's shape: a window of 256 frames keeps 9.2 GiB, and reading it takes 2.9 more for a while."""
    card = Card(monkeypatch, allocated=49.4)
    room = card.room()
    assert room.fits(34_586, Rows(), 1, 60)  # nothing is known
    room.read(card.read(34_586, 9.2, 2.9))
    assert room.fits(34_586, Rows(), 1, 60)
    assert not room.fits(34_586, Rows(4 * GIB), 26, 60)
    room.read(card.read(34_586, 9.2, 2.9))
    assert card.peak <= 72
    assert not room.fits(12_000, Rows(), 1, 60)  # would end at 73.9 of 79.2 GiB
    card.allocated, card.cached = card.allocated - 9.2, 9.2
    assert room.fits(12_000, Rows(), 1, 60)  # the allocator gives again what was freed


def test_a_longer_window_is_taken_to_need_more_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch, allocated=40.0)
    room = card.room()
    room.read(card.read(10_000, 5.0, 5.0))
    assert room.fits(12_000, Rows(), 1, 60)  # 45 + 6 + 6 of 71.5
    assert not room.fits(27_000, Rows(), 1, 60)  # 45 + 13.5 + 13.5


@pytest.mark.gpu
def test_a_gpu_tells_how_much_is_free() -> None:
    device = torch.device("cuda")
    embeddings = SimpleNamespace(weight=SimpleNamespace(device=device))
    model: Any = SimpleNamespace(get_input_embeddings=lambda: embeddings)
    room = Room(model, KeptBuffers(model))
    free, total = torch.cuda.mem_get_info(device)
    assert room.rows(Rows(free - total // 10), 8, 60) == 8
    assert room.rows(Rows(free - total // 20), 8, 60) == 1
