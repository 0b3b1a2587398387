"""The frames of another policy, all of one size, within the tokens of some frames of the video's own size.

Source: the equal-token arms of LongVideo-Eval: 16 frames as they are, 64 at half of each side and 256 at a quarter take
the same tokens, N r^2 = 16. Here the size follows from the number of frames and from the real grid of the video, so
that no rounding exceeds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from pydantic import InstanceOf

from pipeline.domain import Relevance, Selection, Status, Video
from pipeline.errors import ConfigError, InputError
from pipeline.identity import Identified, Label
from pipeline.selection import without_scores
from pipeline.selection.lohi import within
from pipeline.selection.policy import Unsized
from pipeline.selection.sizes import Size, TokenLaw
from pipeline.selection.uniform import UniformVariant


@dataclass(frozen=True)
class EqualTokens(Identified):
    """What ``of`` selects, each frame as large as the tokens allow, and not enlarged."""

    kind: ClassVar[str] = "equal_tokens"

    name: Label[str]
    budget: int
    of: InstanceOf[Unsized]
    """Selects the frames, ``budget`` at most."""
    law: TokenLaw
    """All frames together take no more tokens than these."""

    def __post_init__(self) -> None:
        if self.of.budget != self.budget:
            raise ConfigError(
                f"selection.of.budget={self.of.budget} is not selection.budget={self.budget}",
                f"leave it out and set selection.budget={self.of.budget}",
            )

    @property
    def without_scores(self) -> UniformVariant | None:
        """As :class:`pipeline.selection.WithoutScores` has it."""
        return without_scores(self.of)

    def select(self, relevance: Relevance, video: Video) -> Selection:
        """The frames of one question. No video is opened.

        Raises:
            ConfigError: the policy needs embeddings, which this sampler does not keep.
        """
        chosen = replace(self.of.select(relevance, video), policy=str(self))
        if not chosen.frames:
            return chosen
        try:
            scale = self.law.largest(len(chosen.frames), video)
        except InputError as error:
            return replace(chosen, frames=(), status=Status.NO_FRAMES, detail=str(error))
        return replace(chosen, frames=tuple(replace(frame, scale=scale) for frame in chosen.frames))

    def sizes(self, video: Video) -> Sequence[Size]:
        """All frames have one."""
        count = min(self.budget, video.frame_count)
        return (Size(count, self.law.largest(count, video)),)

    def __str__(self) -> str:
        return " ".join([f"{self.kind} budget={self.budget}", *within("of", self.of), str(self.law)])
