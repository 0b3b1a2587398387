"""Adaptive keyframe sampling: take the best of a stretch that has clear peaks, halve a stretch that has none.

Source: AKS, "Adaptive Keyframe Sampling for Long Video Understanding" (arXiv 2502.21271) and its released code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError
from pipeline.identity import Identified
from pipeline.selection.choice import Curve, Floats


@dataclass(frozen=True)
class Aks(Identified):
    """Halves the video until its stretches have clear peaks; each gives its best frames, fewer the deeper it lies.

    With scores scaled to 0..1 over the video, a stretch at depth d stays whole if d is ``depth``, or if

        mean of its K best scores - mean of all its scores > threshold;

    otherwise it is halved. A whole stretch gives its int(K / 2^d) best frames.

    The released code also asks for a standard deviation above -100, which always holds; there is no such setting here.
    Where that code gives fewer than K frames, this differs: a stretch is not halved if the share of its halves,
    int(K / 2^(d+1)), would be 0 (with K < 32 the code's stretches at depth 5 give nothing), and shares lost to int() or
    to stretches with too few named frames go to the best scores left.

    Scores of GenS rarely lie 0.8 apart for K frames, so the video is mostly halved to the end: even shares of the
    stretches in which something was named. Constant scores are halved to the end too, and spread.
    """

    kind: ClassVar[str] = "aks"
    needs_embeddings: ClassVar[bool] = False

    threshold: float
    depth: int

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise ConfigError(
                f"selection.choice.depth={self.depth} is no number of halvings", "set selection.choice.depth=5"
            )

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """At most ``count`` named candidates."""
        picked: list[int] = []
        for stretch, share in self._stretches(curve.normalised(), np.arange(len(curve.times)), count, 0):
            picked += curve.best(share, among=stretch, chosen=picked)
        return picked

    def _stretches(
        self, scores: Floats, stretch: npt.NDArray[np.intp], count: int, depth: int
    ) -> Iterator[tuple[npt.NDArray[np.intp], int]]:
        """Stretches in order of time, each with the number of frames it gives."""
        inside = scores[stretch]
        peak = np.sort(inside)[-count:].mean() - inside.mean()
        last = depth >= self.depth or count < 2 ** (depth + 1) or len(stretch) < 2
        if peak > self.threshold or last:
            yield stretch, count // 2**depth
            return
        middle = len(stretch) // 2
        yield from self._stretches(scores, stretch[:middle], count, depth + 1)
        yield from self._stretches(scores, stretch[middle:], count, depth + 1)
