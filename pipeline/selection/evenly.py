"""Frames spread evenly, whatever the question: a policy for which no sampler runs, and the frames of others like it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.domain import FrameOrigin, Relevance, SelectedFrame, Selection, Status, Video
from pipeline.errors import ConfigError
from pipeline.identity import Label
from pipeline.selection.native import native_time
from pipeline.selection.policy import NOT_THE_SAMPLERS, Unsized
from pipeline.selection.uniform import UniformVariant, known_variant, spread


@dataclass(frozen=True)
class Evenly(Unsized):
    """``budget`` frames spread over the native frames, whatever their scores.

    A relevance that names a uniform variant, as that of ``sampler=uniform`` does, decides the variant. Scores are not
    looked at, so that a failure of a sampler that has run changes no frame; its status stays in the record.
    """

    kind: ClassVar[str] = "uniform"
    fill: ClassVar[str] = "uniform"
    """Every selection has as many frames as the budget and its video allow."""

    name: Label[str]
    budget: int
    uniform: UniformVariant

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ConfigError(f"selection.budget={self.budget} selects no frame", "set selection.budget=8")

    @property
    def without_scores(self) -> UniformVariant:
        """As :class:`pipeline.selection.WithoutScores` has it."""
        return self.uniform

    def select(self, relevance: Relevance, video: Video) -> Selection:
        """The frames of one question. No video is opened."""
        status, detail = relevance.status, relevance.detail
        variant = variant_of(relevance, self.uniform)
        frames = [] if status in NOT_THE_SAMPLERS else evenly(video, self.budget, variant, None)
        if not frames and status is Status.OK:
            status, detail = Status.NO_FRAMES, "the video has no frames"
        return Selection(relevance.question_id, tuple(frames), str(self), self.budget, status, detail)

    def __str__(self) -> str:
        return f"{self.kind} budget={self.budget} uniform={self.uniform}"


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
