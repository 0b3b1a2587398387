"""Many small frames, spread evenly: the baseline of every selector at equal tokens.

Source: LongVideo-Eval, whose default it is: 256 frames at a quarter of each side take the tokens of 16 frames of the
video's own size. Its authors report 59.2 % for it against 57.1 % of the best of AKS, BOLT and CLIP top-k, on average
over Video-MME, MLVU and LVBench, but less than these on LVBench alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.domain import SelectedFrame, Video
from pipeline.selection.evenly import Evenly, evenly
from pipeline.selection.sizes import Size, check_scale
from pipeline.selection.uniform import UniformVariant


@dataclass(frozen=True)
class UniformLow(Evenly):
    """As :class:`Evenly`, with all frames of one stated size."""

    kind: ClassVar[str] = "uniform_low"
    usual: ClassVar[int] = 256

    scale: float
    """Factor on each side of every frame."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scale(self.scale, "scale")

    def sizes(self, video: Video) -> Sequence[Size]:
        """All frames have one."""
        return (Size(min(self.budget, video.frame_count), self.scale),)

    def _frames(self, video: Video, variant: UniformVariant) -> Sequence[SelectedFrame]:
        return evenly(video, self.budget, variant, self.scale)

    def __str__(self) -> str:
        return f"{self.kind} budget={self.budget} scale={self.scale:g} uniform={self.uniform}"
