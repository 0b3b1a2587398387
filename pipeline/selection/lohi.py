"""All frames small, a few of them large, within the tokens of some frames of the video's own size.

Source: LongVideo-Eval's LoHi: 128 frames at a quarter of each side and 8 key frames as large as the tokens of 16 frames
of the video's own size allow, ``N t(low) + K t(high) <= B``. There the small frames are one video, whose grids hold two
frames each, and the key frames come after it once more, as images. Here, which is ours, every frame is an image and is
shown once, in order of time: a key frame is large in its own place. So any answerer takes it whose images may differ in
size, and the large frames may be larger, as no token goes to the same moment twice.
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
from pipeline.selection.evenly import evenly, variant_of
from pipeline.selection.policy import Unsized
from pipeline.selection.ranking import best_first
from pipeline.selection.sizes import Size, TokenLaw, check_scale
from pipeline.selection.uniform import UniformVariant


@dataclass(frozen=True)
class LoHi(Identified):
    """``budget`` frames: those that ``large`` selects, and as many others spread evenly, small.

    Of an even spread of ``budget`` frames, those next to a large one give way to it. With ``large=uniform``, as with
    ``sampler=uniform``, the large frames are spread evenly too: LongVideo-Eval's LoHi-Uniform. Where ``large`` selects
    none, as after a failure of the sampler, there is no selection either.
    """

    kind: ClassVar[str] = "lohi"
    fill: ClassVar[str] = "uniform"
    """Every selection has as many frames as the budget and its video allow."""

    name: Label[str]
    budget: int
    """N, in frames, the large ones included."""
    low: float
    """Factor on each side of the small frames."""
    large: InstanceOf[Unsized]
    """Selects the large frames; its budget is K."""
    law: TokenLaw
    """All frames together take no more tokens than these."""
    uniform: UniformVariant
    """The variant of the small frames, where the sampler names none."""

    def __post_init__(self) -> None:
        check_scale(self.low, "low")
        if not self.large.budget <= self.budget:
            raise ConfigError(
                f"selection.large.budget={self.large.budget} of selection.budget={self.budget} frames cannot be large",
                f"take selection.large.budget={max(1, self.budget // 16)}, or more frames in all: selection.budget=128",
            )

    @property
    def without_scores(self) -> UniformVariant | None:
        """As :class:`pipeline.selection.WithoutScores` has it."""
        return without_scores(self.large) and self.uniform

    def select(self, relevance: Relevance, video: Video) -> Selection:
        """The frames of one question. No video is opened.

        Raises:
            ConfigError: the large frames need embeddings, which this sampler does not keep.
        """
        chosen = replace(self.large.select(relevance, video), policy=str(self), budget=self.budget)
        if not chosen.frames:
            return chosen
        taken = {frame.index for frame in chosen.frames}
        grid = evenly(video, self.budget, variant_of(relevance, self.uniform), self.low)
        free = [frame for frame in grid if frame.index not in taken]
        times, room = [frame.time for frame in free], self.budget - len(taken)
        kept = best_first(times, [0.0] * len(free), room, "spread", [frame.time for frame in chosen.frames])
        try:
            high = self._high(video, len(taken), len(kept))
        except InputError as error:
            return replace(chosen, frames=(), status=Status.NO_FRAMES, detail=str(error))
        frames = [*(replace(frame, scale=high) for frame in chosen.frames), *(free[place] for place in kept)]
        return replace(chosen, frames=tuple(sorted(frames, key=lambda frame: frame.index)))

    def sizes(self, video: Video) -> Sequence[Size]:
        """The large frames and the small ones."""
        count = min(self.budget, video.frame_count)
        large = min(self.large.budget, count)
        small = (Size(count - large, self.low),) if large < count else ()
        return (Size(large, self._high(video, large, count - large)), *small)

    def _high(self, video: Video, large: int, small: int) -> float:
        """The size of the large frames, which are not smaller than the others.

        Raises:
            InputError: there are not enough tokens.
        """
        spent = small * self.law.tokens(video.height, video.width, self.low)
        return self.law.largest(large, video, spent, least=self.low)

    def __str__(self) -> str:
        own = f"{self.kind} budget={self.budget} low={self.low:g} uniform={self.uniform}"
        return " ".join([own, *within("large", self.large), str(self.law)])


def within(key: str, policy: Unsized) -> list[str]:
    """The words of a policy inside another."""
    kind, *settings = str(policy).split(" ")
    return [f"{key}={kind}", *(f"{key}.{setting}" for setting in settings)]
