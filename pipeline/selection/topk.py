"""The K highest scores.

Source: GenS (arXiv 2503.09146) pools the scores of all windows, sorts them and takes the first K. So do the CLIP and
SigLIP baselines with their cosines, FRAG and VideoITG with probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.identity import Identified
from pipeline.selection.choice import Curve


@dataclass(frozen=True)
class TopK(Identified):
    """A frame with a better score is never left out for one with a worse.

    Scores of GenS tie a lot: the last level that fits is cut by the policy's ``ties``; no other rule uses it.
    """

    kind: ClassVar[str] = "topk"
    needs_embeddings: ClassVar[bool] = False

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """The ``count`` best named candidates."""
        return curve.best(count)
