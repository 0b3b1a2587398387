"""What a process does that shares a store of candidates with others. It imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.domain import PreparedPicture
from pipeline.execution.candidates import CandidateStore

MOST = 35_000
"""Bytes: three entries of six."""


class Drawn:
    """Pictures of a key: each is filled with a number of its own."""

    def __init__(self, key: int) -> None:
        self._left = iter(PreparedPicture(float(at), at, np.full((40, 50), 10 * key + at, np.uint8)) for at in range(5))

    def __iter__(self) -> Iterator[PreparedPicture]:
        return self

    def __next__(self) -> PreparedPicture:
        return next(self._left)

    def ready(self, count: int) -> bool:
        return True

    def close(self) -> None:
        self._left = iter(())


def store_and_find(cache: Path, seed: int) -> int:
    """The jobs of one process; returns how often it found an entry."""
    store, order, hits = CandidateStore(cache, MOST), np.random.default_rng(seed), 0
    for key in order.integers(0, 6, 60):
        found = store.find(f"{key}-k", range(5), lambda _: Drawn(int(key)))  # noqa: B023
        hits += found is not None
        pictures = store.keeping(Drawn(int(key)), f"{key}-k", 5) if found is None else found
        assert [each.content[0, 0] for each in pictures] == [10 * key + at for at in range(5)]
    return hits
