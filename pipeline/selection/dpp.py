"""Frames that are relevant and differ from each other: greedy MAP of a determinantal point process.

Source: Chen et al., "Fast Greedy MAP Inference for Determinantal Point Process" (arXiv 1709.05135), with the kernel and
the weighting of MDP3 (arXiv 2501.02885), whose released default, one segment for the whole video, is this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.errors import ConfigError
from pipeline.identity import Identified, Place
from pipeline.selection.choice import Curve
from pipeline.selection.embeddings import embeddings
from pipeline.selection.kernel import greedy, qualities


@dataclass(frozen=True)
class Dpp(Identified):
    """Greedily maximises ``(2 / weight) sum log r_i + logdet L_S`` over the named frames.

    r_i is the kernel of frame and question, L the kernel of the frames, see :mod:`pipeline.selection.kernel`. Scores
    are taken for cosines, as samplers with embeddings give them. With constant scores only the difference decides.
    Frames that show nothing new (a still video) are left to the best scores, spread by ``ties``.
    """

    kind: ClassVar[str] = "dpp"
    needs_embeddings: ClassVar[bool] = True

    weight: float
    """lambda: the smaller, the more relevance counts."""
    feature_store: Place[str]
    """Folder with the embeddings."""

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """At most ``count`` named candidates, in the order taken."""
        vectors = embeddings(curve, self.feature_store)
        named = curve.named_positions
        quality = qualities(curve.scores[named], self.weight)
        _, lists = greedy(quality, vectors[named], count, np.zeros((1, len(named))))
        return [int(named[place]) for place in lists[0]]


def check_weight(weight: float) -> None:
    """Refuse a weight for which the objective is not defined.

    Raises:
        ConfigError: it is not above 0.
    """
    if not weight > 0:
        raise ConfigError(
            f"selection.choice.weight={weight}: relevance is divided by it", "set selection.choice.weight=0.2"
        )
