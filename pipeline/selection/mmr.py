"""Relevant frames that do not repeat those already chosen: maximal marginal relevance.

Source: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing
Summaries" (SIGIR 1998). EFS (arXiv 2603.00983) ends with a form of it whose weight adapts to the video; how it does so
cannot be read, so the weight here is the same for all videos.
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

_SAME = 1 - 1e-9
"""A cosine from which on two frames are the same picture, to rounding."""


@dataclass(frozen=True)
class Mmr(Identified):
    """Takes the best score first, and then the frames that are relevant and unlike those taken.

    The next frame is the named one, i, with the largest

        weight * r_i  -  (1 - weight) * max over chosen j of max(0, cosine of i and j)

    where r is the score scaled to 0..1 over the video. A negative cosine counts as 0: frames that have nothing in
    common are as different as frames can be. Equal values go to the earlier frame. Once every frame left looks exactly
    like one of those chosen, the best scores left follow, spread by ``ties``.
    """

    kind: ClassVar[str] = "mmr"
    needs_embeddings: ClassVar[bool] = True

    weight: float
    """lambda: 1 is topk; the smaller, the more difference counts."""
    feature_store: Place[str]
    """Folder with the embeddings."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ConfigError(
                f"selection.choice.weight={self.weight} is not a share of relevance", "set selection.choice.weight=0.7"
            )

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """At most ``count`` named candidates, in the order taken."""
        named = curve.named_positions
        vectors = embeddings(curve, self.feature_store)[named]
        relevance = curve.normalised()[named]
        alike = np.zeros(len(named))
        open_ = np.ones(len(named), dtype=np.bool_)
        picked: list[int] = []
        while len(picked) < count and np.any(open_ & (alike < _SAME)):
            values = self.weight * relevance - (1 - self.weight) * alike if picked else relevance
            best = int(np.where(open_, values, -np.inf).argmax())
            picked.append(best)
            open_[best] = False
            np.maximum(alike, vectors @ vectors[best], out=alike)
        return [int(named[place]) for place in picked]
