"""The best frame of each shot, the most relevant shots first.

Source: shot detection by the largest changes between neighbouring frames, here their embeddings' cosine distance; a
shot's best-scored frame instead of its middle, more shots than frames, and the rounds are those of framesieve's
``segment_adaptive``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError
from pipeline.identity import Identified, Place
from pipeline.selection.choice import Curve
from pipeline.selection.embeddings import embeddings
from pipeline.selection.ranking import best_first


@dataclass(frozen=True)
class Scene(Identified):
    """Cuts the candidates into shots where neighbours differ most, and selects from the shots in turn.

    A round takes the best named frame left of each shot, the shot with the best such frame first, until the budget is
    used. Equal distances and equal scores follow ``ties``, so a still video with constant scores comes out spread.
    """

    kind: ClassVar[str] = "scene"
    needs_embeddings: ClassVar[bool] = True

    shots_per_frame: int
    """Shots per frame of the budget; with 1 every shot is shown."""
    min_seconds: float
    """The shortest shot; only the last one may be shorter."""
    feature_store: Place[str]
    """Folder with the embeddings."""

    def __post_init__(self) -> None:
        if self.shots_per_frame < 1:
            raise ConfigError(
                f"selection.choice.shots_per_frame={self.shots_per_frame} makes too few shots",
                "set selection.choice.shots_per_frame=2",
            )
        if self.min_seconds < 0:
            raise ConfigError(
                f"selection.choice.min_seconds={self.min_seconds} is not a length",
                "set selection.choice.min_seconds=2.0",
            )

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """``count`` named candidates, in the order taken."""
        shots = self._shots(curve, count * self.shots_per_frame)
        picked: list[int] = []
        while len(picked) < count:
            leaders = [place for shot in shots for place in curve.best(1, among=shot, chosen=picked)]
            picked += curve.best(count - len(picked), among=leaders, chosen=picked)
        return picked

    def _shots(self, curve: Curve, most: int) -> list[npt.NDArray[np.intp]]:
        """Positions of each shot's candidates, in order of time."""
        vectors = embeddings(curve, self.feature_store)
        changes = 1.0 - np.einsum("nd,nd->n", vectors[1:], vectors[:-1])
        starts = best_first(
            curve.times[1:], changes, most - 1, curve.ties, chosen=curve.times[:1], apart=self.min_seconds
        )
        return np.split(np.arange(len(curve.times)), np.sort(np.asarray(starts, dtype=np.intp)) + 1)
