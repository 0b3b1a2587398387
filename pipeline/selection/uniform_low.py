"""Many small frames, spread evenly: the baseline of every selector at equal tokens.

Source: LongVideo-Eval, whose default it is: 256 frames at a quarter of each side take the tokens of 16 frames of the
video's own size. Its authors report 59.2 % for it against 57.1 % of the best of AKS, BOLT and CLIP top-k, on average
over Video-MME, MLVU and LVBench, but less than these on LVBench alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from pipeline.domain import Relevance, Selection, Video
from pipeline.errors import ConfigError
from pipeline.identity import Identified, Label
from pipeline.selection.evenly import Evenly
from pipeline.selection.sizes import Size, check_scale
from pipeline.selection.uniform import UniformVariant


@dataclass(frozen=True)
class UniformLow(Identified):
    """The frames of :class:`Evenly`, all of one stated size."""

    kind: ClassVar[str] = "uniform_low"
    fill: ClassVar[str] = "uniform"
    """Every selection has as many frames as the budget and its video allow."""

    name: Label[str]
    budget: int
    scale: float
    """Factor on each side of every frame."""
    uniform: UniformVariant

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ConfigError(f"selection.budget={self.budget} selects no frame", "set selection.budget=256")
        check_scale(self.scale, "scale")

    @property
    def without_scores(self) -> UniformVariant:
        """As :class:`pipeline.selection.WithoutScores` has it."""
        return self.uniform

    def select(self, relevance: Relevance, video: Video) -> Selection:
        """The frames of one question. No video is opened."""
        chosen = Evenly(self.name, self.budget, self.uniform).select(relevance, video)
        frames = tuple(replace(frame, scale=self.scale) for frame in chosen.frames)
        return replace(chosen, frames=frames, policy=str(self))

    def sizes(self, video: Video) -> Sequence[Size]:
        """All frames have one."""
        return (Size(min(self.budget, video.frame_count), self.scale),)

    def __str__(self) -> str:
        return f"{self.kind} budget={self.budget} scale={self.scale:g} uniform={self.uniform}"
