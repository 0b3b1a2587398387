"""The best frame around each of K even indices: the "bin-max" selection head of TSPO.

Source: TSPO, "Temporal Sampling Policy Optimization for Long-form Video Language Understanding" (arXiv 2508.04369), and
``inference_ts`` of ``model/temporal_agent.py`` in its repository Hui-design/TSPO, whose selections for Video-MME were
made with this head. Those for LongVideoBench and MLVU were made with ``topk``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.identity import Identified
from pipeline.selection.choice import Curve


@dataclass(frozen=True)
class Tspo(Identified):
    """Each candidate belongs to the nearest of K even indices, and each index gives the best of its candidates.

    With N candidates the indices are round(i (N - 1) / (K - 1)) for i = 0..K-1, halves rounded to even, and N - 1 for
    K = 1. A candidate between two of them belongs to the lower one. So the first and the last group are half as long as
    the others: scores that rise over 16 candidates give 2, 7, 12 and 15 for K = 4.

    Of equal scores in a group, ``ties=earliest`` takes the first, as the released code does, and ``ties=spread`` the
    one nearest to the group's index. A group without a named candidate gives none; its share goes to the best
    remaining scores. (In the released code every candidate has a score and is named.)
    """

    kind: ClassVar[str] = "tspo"
    needs_embeddings: ClassVar[bool] = False

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """At most one named candidate per index, ascending."""
        anchors = even_indices(len(curve.times), count)
        positions = np.arange(len(curve.times))
        # argmin takes the first of equal distances, which is the lower index.
        groups = np.abs(positions[:, None] - anchors[None, :]).argmin(axis=1)
        named = curve.named_positions
        picked: list[int] = []
        for number, anchor in enumerate(anchors):
            inside = named[groups[named] == number]
            if not len(inside):
                continue
            tied = inside[curve.scores[inside] == curve.scores[inside].max()]
            picked.append(int(tied[0] if curve.ties == "earliest" else tied[np.abs(tied - anchor).argmin()]))
        return picked


def even_indices(candidates: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """``count`` of the indices 0..candidates-1, evenly spaced with both ends, ascending; the last for 1."""
    if count == 1:
        return np.array([candidates - 1], dtype=np.intp)
    step = (candidates - 1) / (count - 1)
    # Python's round, as in the released code: halves go to the even neighbour.
    return np.array([round(place * step) for place in range(count)], dtype=np.intp)
