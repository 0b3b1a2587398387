"""Relevant frames that differ from each other, with the difference counted along the sequence.

Source: MDP3, "A Training-free Approach for List-wise Frame Selection in Video-LLMs" (arXiv 2501.02885) and its released
code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.errors import ConfigError
from pipeline.identity import Identified, Place
from pipeline.selection.choice import Curve, Floats
from pipeline.selection.dpp import check_weight
from pipeline.selection.embeddings import embeddings
from pipeline.selection.kernel import greedy, kernel, qualities


@dataclass(frozen=True)
class Mdp3(Identified):
    """Greedy lists in segments of the video, put together by dynamic programming over (segment, frames used).

    The objective is that of :class:`pipeline.selection.dpp.Dpp`, but a frame is compared only with those of its own
    segment and with the last one chosen before it (condition size 1), so that a scene that comes back later may be
    shown again. For each number of frames used so far, a segment's frames are listed greedily; of all ways to share K
    frames among the segments the one with the largest sum of gains is taken. Equal sums go to the way with fewer frames
    in the later segment.

    A segment's value is what its frames add to the frame before them. (The released code adds that frame's own value
    again in each segment that is used, and not in one that is not.) Scores are taken for cosines; frames that show
    nothing new are left to the best scores, spread by ``ties``.
    """

    kind: ClassVar[str] = "mdp3"
    needs_embeddings: ClassVar[bool] = True

    weight: float
    """lambda: the smaller, the more relevance counts."""
    segment: int
    """Named candidate frames in a segment; 32 in the paper."""
    feature_store: Place[str]
    """Folder with the embeddings."""

    def __post_init__(self) -> None:
        check_weight(self.weight)
        if self.segment < 1:
            raise ConfigError(
                f"selection.choice.segment={self.segment} holds no frame", "set selection.choice.segment=32"
            )

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """At most ``count`` named candidates, ascending."""
        named = curve.named_positions
        vectors = embeddings(curve, self.feature_store)[named]
        quality = qualities(curve.scores[named], self.weight)
        totals = np.full(count + 1, -np.inf)  # by the number of frames used so far
        totals[0] = 0.0
        lists: list[list[int]] = [[] for _ in totals]
        for first in range(0, len(named), self.segment):
            totals, lists = _with_segment(totals, lists, slice(first, first + self.segment), quality, vectors)
        return [int(named[place]) for place in lists[int(np.flatnonzero(np.isfinite(totals))[-1])]]


def _with_segment(
    totals: Floats, lists: Sequence[list[int]], segment: slice, quality: Floats, vectors: Floats
) -> tuple[Floats, list[list[int]]]:
    """The best totals and lists for each number of frames, when the segment may give some of them."""
    used = [int(number) for number in np.flatnonzero(np.isfinite(totals))]
    inside: Floats = vectors[segment]
    given: Floats = np.zeros((len(used), len(inside)))
    for row, number in enumerate(used):
        if lists[number]:
            before: Floats = vectors[lists[number][-1]]
            given[row] = kernel(inside @ before)
    most = min(len(totals) - 1, len(inside))
    gains, taken = greedy(quality[segment], inside, most, given)
    sums = np.cumsum(gains, axis=1)
    new_totals = totals.copy()  # the segment gives nothing
    origins: dict[int, tuple[int, int]] = {}
    for row, number in reversed(list(enumerate(used))):  # those that need the fewest more frames first
        for extra in range(1, min(most, len(totals) - 1 - number) + 1):
            total = totals[number] + sums[row, extra - 1]
            if total > new_totals[number + extra]:
                new_totals[number + extra] = total
                origins[number + extra] = (row, extra)
    new_lists = list(lists)
    for number, (row, extra) in origins.items():
        added = sorted(segment.start + place for place in taken[row][:extra])
        new_lists[number] = lists[used[row]] + added
    return new_totals, new_lists
