"""The highest scores that are not neighbours: non-maximum suppression in time.

Source: the common rule of temporal localisation (take the best, drop what is near it, go on), with the radius set by
the budget: w = span / (2 K) is half of the distance at which K frames are spread evenly, so a curve with several peaks
gives a frame of each before a second one of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.errors import ConfigError
from pipeline.identity import Identified
from pipeline.selection.choice import Curve

_SHORTEST = 1e-3
"""Seconds. A smaller radius separates nothing."""


@dataclass(frozen=True)
class TopKApart(Identified):
    """Best score first, suppressing |t - t*| < w around each selected frame; w is halved whenever no candidate is left.

    Scores of GenS: a far 3 comes before the 4 next to a 5, unlike topk; within a level the policy's ``ties`` decides.
    """

    kind: ClassVar[str] = "topk_nms"
    needs_embeddings: ClassVar[bool] = False

    radius: float
    """w as a multiple of span / K."""

    def __post_init__(self) -> None:
        if not self.radius > 0:
            raise ConfigError(
                f"selection.choice.radius={self.radius} suppresses nothing",
                "give a share of the even distance, selection.choice.radius=0.5, or take selection=topk",
            )

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """``count`` named candidates."""
        picked: list[int] = []
        apart = self.radius * curve.span / count
        while len(picked) < count and apart >= _SHORTEST:
            picked += curve.best(count - len(picked), chosen=picked, apart=apart)
            apart /= 2
        return picked
