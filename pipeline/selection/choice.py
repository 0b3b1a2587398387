"""The part in which policies differ: which of the named candidates they take when not all fit the budget.

Budget, status, fill, fallback and sources are the same in all of them (:mod:`pipeline.selection.policy`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipeline.selection.ranking import Ties, best_first

Floats: TypeAlias = npt.NDArray[np.float64]
Positions: TypeAlias = Sequence[int] | npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Curve:
    """The scores of one question over the candidate frames of its video, at least one."""

    times: Floats
    """Seconds, ascending, each once."""
    scores: Floats
    """Parallel to ``times``; of any scale."""
    named: npt.NDArray[np.bool_]
    """Parallel to ``times``: whether the frame may be selected for its score."""
    ties: Ties
    features: str | None
    """Key of the frames' embeddings, if the sampler kept them."""
    rounds: npt.NDArray[np.intp] | None = None
    """Parallel to ``times``: in which round of the sampler the frame was scored, from 0; -1 for an estimate. None where
    there was one round."""

    @property
    def named_positions(self) -> npt.NDArray[np.intp]:
        """Positions that may be selected, ascending."""
        return np.flatnonzero(self.named)

    @property
    def span(self) -> float:
        """Seconds from the first candidate to the last."""
        return float(self.times[-1] - self.times[0])

    def normalised(self) -> Floats:
        """Scores from 0 (the lowest of all candidates) to 1 (the highest); all 1 where they are equal."""
        low, high = self.scores.min(), self.scores.max()
        if low == high:
            return np.ones_like(self.scores)
        scaled: Floats = (self.scores - low) / (high - low)
        return scaled

    def best(self, count: int, among: Positions | None = None, chosen: Positions = (), apart: float = 0.0) -> list[int]:
        """Positions of the ``count`` best named candidates, best first; fewer if there are no more.

        Args:
            count: how many.
            among: positions to take from; None: all.
            chosen: positions that are already selected, and not selected again. Ties prefer frames far from them.
            apart: seconds to keep from those and from each other.
        """
        allowed = np.zeros(len(self.times), dtype=np.bool_)
        allowed[np.arange(len(self.times)) if among is None else np.asarray(among, dtype=np.intp)] = True
        taken = np.asarray(chosen, dtype=np.intp)
        allowed[taken] = False
        pool = np.flatnonzero(allowed & self.named)
        picked = best_first(self.times[pool], self.scores[pool], count, self.ties, self.times[taken], apart)
        return [int(pool[place]) for place in picked]


@runtime_checkable
class Choice(Protocol):
    """Takes candidates for their scores."""

    @property
    def needs_embeddings(self) -> bool:
        """Whether it compares frames with each other, which needs a sampler that keeps embeddings."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """All that decides the choice, as JSON values: ``kind``, its name, and its settings."""
        ...

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """At most ``count`` positions of more than ``count`` named ones. The best remaining scores fill the rest.

        Raises:
            InputError: this question's frames cannot be chosen; the selection has no frames.
            FunctionError: a user's function failed; its status becomes the selection's, and there is no fallback.
        """
        ...
