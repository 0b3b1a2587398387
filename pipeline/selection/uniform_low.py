"""Many small frames, spread evenly: the baseline of every selector at equal tokens.

Source: LongVideo-Eval, whose default it is: 256 frames at a quarter of each side take the tokens of 16 frames of the
video's own size. Its authors report 59.2 % for it against 57.1 % of the best of AKS, BOLT and CLIP top-k, on average
over Video-MME, MLVU and LVBench, but less than these on LVBench alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.domain import FrameOrigin, Relevance, SelectedFrame, Selection, Status, Video
from pipeline.errors import ConfigError
from pipeline.identity import Identified, Label
from pipeline.selection.native import native_time
from pipeline.selection.policy import NOT_THE_SAMPLERS
from pipeline.selection.sizes import Size, check_scale
from pipeline.selection.uniform import UniformVariant, known_variant, spread


@dataclass(frozen=True)
class UniformLow(Identified):
    """``budget`` frames spread over the native frames, whatever their scores, all of one size.

    A sampler that names a uniform variant, as ``sampler=uniform`` does, decides the variant. Scores are not looked at,
    so that a failure of the sampler changes no frame; its status stays in the record.
    """

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

    def select(self, relevance: Relevance, video: Video) -> Selection:
        """The frames of one question. No video is opened."""
        status, detail = relevance.status, relevance.detail
        variant = variant_of(relevance, self.uniform)
        frames = [] if status in NOT_THE_SAMPLERS else evenly(video, self.budget, variant, self.scale)
        if not frames and status is Status.OK:
            status, detail = Status.NO_FRAMES, "the video has no frames"
        return Selection(relevance.question_id, tuple(frames), str(self), self.budget, status, detail)

    def sizes(self, video: Video) -> Sequence[Size]:
        """All frames have one."""
        return (Size(min(self.budget, video.frame_count), self.scale),)

    def __str__(self) -> str:
        return f"{self.kind} budget={self.budget} scale={self.scale:g} uniform={self.uniform}"


def variant_of(relevance: Relevance, own: UniformVariant) -> UniformVariant:
    """The uniform variant that a sampler without scores names; ``own`` for all others.

    Raises:
        InputError: there is no such variant.
    """
    return own if relevance.spread is None else known_variant(relevance.spread, relevance.question_id)


def evenly(video: Video, count: int, variant: UniformVariant, scale: float | None) -> list[SelectedFrame]:
    """``count`` native frames in a uniform variant, fewer of a shorter video."""
    return [
        SelectedFrame(native_time(index, video), index, None, FrameOrigin.UNIFORM, scale)
        for index in spread(video.frame_count, count, variant)
    ]
