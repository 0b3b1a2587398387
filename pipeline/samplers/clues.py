"""The frames of the evidence, as CG-Bench's script takes those of its clues for *clue-acc* (arXiv 2412.12075).

Source: ``sample_frames_clue_average`` in ``run/utils.py`` of github.com/CG-Bench/CG-Bench. With F frames and clues of
d_i native frames, D in all: every frame of them if F >= D, each clue without its last frame; else clue i has
n_i = max(1, floor(F d_i / D)) frames, the middles of n_i equal parts. So many short clues may have more than F frames
together.

Three things differ. A clue of no length gives its frame here, where the script gives none if F >= D. A frame of two
clues is shown once. Of a clue that begins or ends outside of what the question may see, the part within counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.domain import FrameSource, Question, Relevance, Span, Video
from pipeline.errors import ConfigError
from pipeline.samplers.oracle import INSIDE, EvidenceSampler
from pipeline.selection.native import native_time


@dataclass(frozen=True)
class ClueSampler(EvidenceSampler):
    """Shows an answerer the frames of the evidence alone."""

    kind: ClassVar[str] = "clues"

    frames: int
    """F: the frames of all clues together; the script takes 32 at most."""

    def __post_init__(self) -> None:
        """Check the number.

        Raises:
            ConfigError: it is not positive.
        """
        if self.frames < 1:
            raise ConfigError(f"sampler.frames={self.frames} shows nothing", "set sampler.frames=32")

    def of_evidence(self, question: Question, spans: Sequence[Span], video: Video, frames: FrameSource) -> Relevance:
        """The frames of the clues, all with the same score; ``frames`` gives their times."""
        last = native_time(video.frame_count - 1, video)
        wanted = {index / video.fps for index in clue_frames(spans, video.fps, self.frames)}
        seconds = sorted(min(max(second, video.start), last) for second in wanted)
        indices = tuple(dict.fromkeys(frames.indices_at(seconds)))
        times = tuple(frames.times_of(indices))
        return Relevance(question.id, times, (INSIDE,) * len(times), indices=indices)


def clue_frames(clues: Sequence[Span], fps: float, count: int) -> list[int]:
    """Frame numbers of the clues, counted from second 0 of the video's clock, in their order, by the formula above."""
    ends = [(round(clue.start * fps), round(clue.end * fps)) for clue in clues]
    total = sum(end - start for start, end in ends)
    if count >= total:
        return [index for start, end in ends for index in range(start, max(end, start + 1))]
    found = []
    for start, end in ends:
        share = max(1, int(count * ((end - start) / total)))
        part = (end - start) / share
        found += [int(start + part / 2 + part * place) for place in range(share)]
    return found
