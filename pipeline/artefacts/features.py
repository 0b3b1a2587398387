"""Embeddings of a video's candidate frames, computed once for all questions and budgets.

One file per digest of all that decides them (video content, encoder, candidate rate). Nothing in it is unpickled.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.artefacts.store import ContentStore


@dataclass(frozen=True, eq=False)
class Features:
    """An encoder's embeddings of the candidate frames of one video."""

    times: tuple[float, ...]
    """Candidate frames in seconds, ascending."""
    vectors: npt.NDArray[np.float32]
    """``[candidates, dimensions]``, each of unit length, so that a dot product is a cosine."""
    took: Mapping[str, float] = field(default_factory=dict)
    """What they took when they were computed, by the names of :mod:`pipeline.ledger`; empty in earlier files."""

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.times):
            raise ValueError(f"{len(self.times)} times and vectors of shape {self.vectors.shape} do not match.")


class FeatureStore:
    """A folder of features by key."""

    def __init__(self, folder: Path) -> None:
        self._store = ContentStore(folder / "features", ".npz")

    def __contains__(self, key: str) -> bool:
        """Whether something is stored under ``key``; it is not read."""
        return key in self._store

    def find(self, key: str) -> Features | None:
        """The features stored under ``key``; None if there are none or the file is damaged.

        Raises:
            StorageError: the folder cannot be read.
        """
        content = self._store.find(key)
        if content is None:
            return None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                times, vectors = arrays["times"], arrays["vectors"]
                names, values = (arrays[name].tolist() if name in arrays else [] for name in ("took", "took_values"))
            took = dict(zip(names, values, strict=True))
            return Features(tuple(times.tolist()), vectors.astype(np.float32, copy=False), took)
        except Exception:
            # A damaged file makes zipfile, zlib and numpy raise anything. Computed again and overwritten.
            return None

    def keep(self, key: str, features: Features) -> None:
        """Store ``features`` under ``key``; whoever writes last wins, and all write the same.

        Raises:
            StorageError: the folder cannot be written.
        """
        buffer = io.BytesIO()
        np.savez(
            buffer,
            times=np.asarray(features.times, np.float64),
            vectors=features.vectors,
            took=np.array(list(features.took), dtype=np.str_),
            took_values=np.array(list(features.took.values()), dtype=np.float64),
        )
        self._store.keep(key, buffer.getvalue())
