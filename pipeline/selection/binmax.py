"""The best frame of each of K equal intervals of time: coverage and relevance at once.

The idea is that of TSPO's "bin-max" head (arXiv 2508.04369), but its bins are the candidates nearest to K even indices.
:mod:`pipeline.selection.tspo` is the head itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.identity import Identified
from pipeline.selection.choice import Curve


@dataclass(frozen=True)
class BinMax(Identified):
    """The time from the first candidate to the last is cut into K equal bins, and each gives its best named frame.

    Scores that rise over 16 frames give frames 3, 7, 11 and 15 for K = 4. A bin without a named frame gives none; its
    share goes to the best remaining scores. Where several frames of a bin have its best score, ``ties=spread`` takes
    the one nearest to the bin's middle, so that constant scores come out evenly spread.

    Scores of GenS: a 1 in a bin of its own comes before the second 5 of another, which suits questions about the
    order of events and not those about one moment.
    """

    kind: ClassVar[str] = "binmax"
    needs_embeddings: ClassVar[bool] = False

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """At most one named candidate per bin, ascending."""
        width = curve.span / count
        start = curve.times[0]
        named = curve.named_positions
        bins = np.minimum((curve.times[named] - start) // width, count - 1)
        picked: list[int] = []
        for number in np.unique(bins):
            inside = named[bins == number]
            tied = inside[curve.scores[inside] == curve.scores[inside].max()]
            middle = start + (number + 0.5) * width
            away = np.abs(curve.times[tied] - middle)
            picked.append(int(tied[0] if curve.ties == "earliest" else tied[np.argmin(away)]))
        return picked
