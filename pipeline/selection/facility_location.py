"""Frames that are relevant and together stand for the whole video: greedy choice under a submodular objective.

Source: adaptive greedy frame selection (arXiv 2603.20180), whose objective and four balances these are. How the authors
normalise its two terms cannot be read, so the normalisation here is ours, and so is the name: facility location is the
general term for the coverage (Krause and Golovin, "Submodular Function Maximization", 2014). The authors compare
frames by DINOv2 and let a text classifier choose the balance for each question; here the sampler's own embeddings are
compared, and the balance is a setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError
from pipeline.identity import Identified, Place
from pipeline.selection.choice import Curve, Floats
from pipeline.selection.embeddings import embeddings

_ROWS = 256
"""Frames whose similarities with the covered ones are held at a time."""
_NOTHING = 1e-12
"""A gain of coverage below this is rounding."""


@dataclass(frozen=True)
class Balance:
    """The weights of the two parts of the objective."""

    relevance: float
    """Alpha in the paper."""
    coverage: float
    """Beta in the paper."""

    def __post_init__(self) -> None:
        if min(self.relevance, self.coverage) < 0 or self.relevance == self.coverage == 0:
            raise ConfigError(
                f"selection.choice.balance.relevance={self.relevance} with "
                f"selection.choice.balance.coverage={self.coverage} prefers no frame",
                "give weights from 0 on, not both 0, or take a named pair: selection/choice/balance=relevance_leaning",
            )


@dataclass(frozen=True)
class FacilityLocation(Identified):
    """Takes the frames that add most, one after the other, to an objective of relevance and coverage.

    Over sets S of named frames, it is

        relevance * sum over i in S of r_i  +  coverage / n * sum over v of max over i in S of sim(v, i)

    where r is the score scaled to 0..1 over the video and divided by its sum over the video, sim = max(0, cosine), and
    v runs over the n frames that are to be covered. Each sum is between 0 and 1. The objective is monotone and
    submodular, so the greedy choice reaches 1 - 1/e of the best value at least. Equal gains go to the earlier frame.
    Once no frame left covers more, the best scores left follow, spread by ``ties``.
    """

    kind: ClassVar[str] = "facility_location"
    needs_embeddings: ClassVar[bool] = True

    balance: Balance
    covered: int
    """The most frames that are to be covered, n. A longer video has so many candidates, spread evenly; any named one
    may be chosen."""
    feature_store: Place[str]
    """Folder with the embeddings."""

    def __post_init__(self) -> None:
        if self.covered < 1:
            raise ConfigError(
                f"selection.choice.covered={self.covered} covers nothing", "set selection.choice.covered=1000"
            )

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """At most ``count`` named candidates, in the order taken."""
        vectors = embeddings(curve, self.feature_store)
        named = curve.named_positions
        shares = curve.normalised()[named] / curve.normalised().sum()
        spread = np.linspace(0, len(vectors) - 1, min(self.covered, len(vectors))).astype(np.intp)
        taken, _ = greedy(
            self.balance.relevance * shares, self.balance.coverage, vectors[named], vectors[spread], count
        )
        return [int(named[place]) for place in taken]


def greedy(
    values: Floats, weight: float, vectors: Floats, covered: Floats, count: int
) -> tuple[list[int], list[float]]:
    """Positions that maximise ``sum of values + weight * mean of coverage`` step by step, and their gains.

    Gains of coverage only fall from step to step, so only those that may still be the largest are computed again
    (Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978).

    Args:
        values: ``[candidates]``, what each adds by itself.
        weight: of the coverage.
        vectors: ``[candidates, dimensions]``, of unit length.
        covered: ``[frames, dimensions]``, of unit length.
        count: the most positions; fewer are given once no candidate left covers more.
    """
    best = np.zeros(len(covered))  # of each covered frame: its similarity with the most similar one that is taken

    def refresh(places: npt.NDArray[np.intp]) -> None:
        for rows in np.split(places, range(_ROWS, len(places), _ROWS)):
            more[rows] = weight * np.maximum(vectors[rows] @ covered.T - best, 0.0).mean(axis=1)
            fresh[rows] = True

    more = np.full(len(values), np.inf)  # what each adds to the coverage, or added at an earlier step
    fresh = np.zeros(len(values), dtype=np.bool_)
    left = np.ones(len(values), dtype=np.bool_)
    taken: list[int] = []
    gains: list[float] = []
    refresh(np.arange(len(values)))
    while len(taken) < min(count, len(values)):
        totals = np.where(left, values + more, -np.inf)
        place = int(totals.argmax())
        if not fresh[place]:
            stale = np.flatnonzero(left & ~fresh)
            refresh(stale[np.argsort(-totals[stale], kind="stable")[:_ROWS]])
        elif more[place] <= _NOTHING and np.any(unknown := left & ~fresh & (more > _NOTHING)):
            refresh(np.flatnonzero(unknown))
        elif not np.any(left & (more > _NOTHING)):
            break
        else:
            taken.append(place)
            gains.append(float(totals[place]))
            np.maximum(best, covered @ vectors[place], out=best)
            left[place] = False
            fresh[:] = False
    return taken, gains
