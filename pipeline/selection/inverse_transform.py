"""Frames at even steps of the accumulated relevance: dense where scores are high, never blind elsewhere.

Source: BOLT, "Boost Large Vision-Language Model Without Training for Long-form Video Understanding" (arXiv 2503.21483).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError
from pipeline.identity import Identified
from pipeline.selection.choice import Curve, Floats


@dataclass(frozen=True)
class InverseTransform(Identified):
    """Steps evenly through the accumulated scores, without a random number.

    With scores scaled to 0..1 over the video:

        p = score^alpha, cdf = cumsum(p) / sum(p), u = linspace(1/K, 1 - 1/K, K), frame = first with cdf >= u.

    A frame that is met by several steps is taken once, and what is missing goes to the best scores left; a budget of 1,
    for which the steps have no range, goes to the best score. Constant scores weigh the same.

    Scores of GenS: a 5 weighs (5/2)^3 = 16 times a 2 at alpha 3, a frame that was not named nothing; ties share
    their weight evenly over time.
    """

    kind: ClassVar[str] = "inverse_transform"
    needs_embeddings: ClassVar[bool] = False

    alpha: float
    """Sharpness: 3 for Video-MME and MLVU, 2.5 for LongVideoBench in the paper; 0 is even over the named frames."""

    def __post_init__(self) -> None:
        if self.alpha < 0:
            raise ConfigError(
                f"selection.choice.alpha={self.alpha} would prefer the worst frames", "set selection.choice.alpha=3.0"
            )

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """At most ``count`` named candidates, ascending."""
        if count == 1:
            return curve.best(1)
        weights = np.where(curve.named, curve.normalised() ** self.alpha, 0.0)
        if not weights.any():
            return []
        return [int(position) for position in even_steps(weights, count)]


def even_steps(weights: Floats, count: int) -> npt.NDArray[np.intp]:
    """Positions, ascending, each once, that ``count`` even steps through the accumulated weights meet.

    Args:
        weights: none negative, one of them above 0.
        count: at least 2; one step has no range.
    """
    accumulated = np.cumsum(weights)
    steps = np.linspace(1 / count, 1 - 1 / count, count)
    return np.unique(np.searchsorted(accumulated / accumulated[-1], steps))
