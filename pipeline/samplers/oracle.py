"""The benchmark's own evidence as scores: what an answerer can do when every frame that it needs is found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.domain import FrameSource, Question, Relevance, Span, Status, Video
from pipeline.identity import Identified, Label
from pipeline.selection.native import native_time
from pipeline.video.timeline import candidate_times

INSIDE, OUTSIDE = 5.0, 0.0
"""GenS's best score, and that of a frame that it does not name."""


@dataclass(frozen=True)
class EvidenceSampler(Identified, ABC):
    """Knows the evidence, so it cannot be compared with other samplers. Decodes nothing."""

    name: Label[str]

    @property
    def without_pictures(self) -> Literal[True]:
        """True: no frame is decoded."""
        return True

    def query(self, question: Question) -> str:
        """The evidence and the clip that is seen: all that decides the scores."""
        return repr((question.evidence, question.span))

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """False: no frame is decoded."""
        return False

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """One relevance a question; one without usable evidence has a status."""
        found = []
        for question in questions:
            spans = usable_evidence(question, video)
            if spans:
                found.append(self.of_evidence(question, spans, video, frames))
            else:
                why = why_none(question, video)
                found.append(Relevance(question.id, (), (), status=Status.NO_EVIDENCE, detail=why))
        return found

    @abstractmethod
    def of_evidence(self, question: Question, spans: Sequence[Span], video: Video, frames: FrameSource) -> Relevance:
        """The relevance of a question whose evidence is in the video; of ``frames`` only times and indices are used."""

    def close(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True)
class OracleSampler(EvidenceSampler):
    """An upper bound for stage 2."""

    kind: ClassVar[str] = "oracle"

    fps: float
    """Candidate frames a second."""

    def of_evidence(self, question: Question, spans: Sequence[Span], video: Video, frames: FrameSource) -> Relevance:
        """5 for the candidates inside the evidence, 0 for all others.

        Evidence that lies between two candidates adds its own middle as a candidate.

        Raises:
            ConfigError: ``fps`` is not a rate.
        """
        grid, last = candidate_times(video, self.fps), native_time(video.frame_count - 1, video)
        inside: set[float] = set()
        for span in spans:
            seen = [time for time in grid if span.start <= time <= span.end]
            inside.update(seen or [min(max(_middle(span), video.start), last)])
        times = tuple(sorted({*grid, *inside}))
        return Relevance(question.id, times, tuple(INSIDE if time in inside else OUTSIDE for time in times))


def usable_evidence(question: Question, video: Video) -> list[Span]:
    """The question's evidence, cut to the video, which may be a clip."""
    return [
        Span(max(span.start, video.start), min(span.end, video.duration))
        for span in question.evidence or ()
        if span.start <= video.duration and span.end >= video.start
    ]


def _middle(span: Span) -> float:
    return (span.start + span.end) / 2


def why_none(question: Question, video: Video) -> str:
    """Why a question has no usable evidence."""
    if question.evidence:
        return (
            f"all evidence is outside of {video.start:.2f} s to {video.duration:.2f} s: it is of another file, or of "
            "a part of the video that the question may not see"
        )
    return "the benchmark does not say where the video shows the answer; leave such questions out of an upper bound"
