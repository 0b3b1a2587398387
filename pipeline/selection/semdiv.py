"""Relevant frames that differ from each other, by the kernel of LoHi-SemDiv.

Source: LongVideo-Eval's LoHi-SemDiv: ``q = minmax(s)^5``, all 1 where scores are equal, and ``L = diag(q) E E^T
diag(q)`` over unit embeddings E. Its code maximises ``log det L_S`` greedily and ends with fewer than K frames where
what is left adds nothing; its paper has ``log det (L_S + I)``. That is the objective here. The choice is ours: it is
monotone, so that every frame adds something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.errors import ConfigError
from pipeline.identity import Identified, Place
from pipeline.selection.choice import Curve, Floats
from pipeline.selection.embeddings import embeddings
from pipeline.selection.ranking import best_first

_NOTHING = 1e-12
"""A gain that is not above it is rounding; so is the difference of two gains."""


@dataclass(frozen=True)
class SemDiv(Identified):
    """Greedily maximises ``log det (L_S + I)`` over the named frames, scores scaled over all candidates.

    Equal gains follow ``ties``. Frames of no quality add nothing and are left to the best scores.
    """

    kind: ClassVar[str] = "semdiv"
    needs_embeddings: ClassVar[bool] = True

    sharpness: float
    """The power of the scaled scores: 5 in LoHi; 0 leaves only the difference of frames."""
    feature_store: Place[str]
    """Folder with the embeddings."""

    def __post_init__(self) -> None:
        if self.sharpness < 0:
            raise ConfigError(
                f"selection.choice.sharpness={self.sharpness:g} would prefer the worst frames",
                "set selection.choice.sharpness=5.0",
            )

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """At most ``count`` named candidates, in the order taken."""
        named = curve.named_positions
        quality = curve.normalised()[named] ** self.sharpness
        vectors = quality[:, None] * embeddings(curve, self.feature_store)[named]
        left = 1.0 + np.einsum("nd,nd->n", vectors, vectors)  # squared pivots of the Cholesky factor of L + I
        rows = np.zeros((count, len(named)))
        picked: list[int] = []
        while len(picked) < count and (best := _best(np.log(left), picked, curve, named)) is not None:
            rows[len(picked)] = (vectors @ vectors[best] - rows[:, best] @ rows) / np.sqrt(left[best])
            left = np.maximum(left - rows[len(picked)] ** 2, 1.0)  # below 1 it is rounding
            picked.append(best)
        return [int(named[place]) for place in picked]


def _best(gains: Floats, picked: Sequence[int], curve: Curve, named: np.ndarray) -> int | None:
    """The place of the largest gain among those not picked; None where nothing is gained."""
    gains = gains.copy()
    gains[list(picked)] = -np.inf
    tied = np.flatnonzero(gains >= gains.max() - _NOTHING)
    if not gains[tied[0]] > _NOTHING:
        return None
    times = curve.times[named]
    (first,) = best_first(times[tied], np.zeros(len(tied)), 1, curve.ties, times[list(picked)])
    return int(tied[first])
