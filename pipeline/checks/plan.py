"""What is left for the sampler to do: what is not in the relevance cache, and the calls of its models for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.artefacts.cache import RelevanceCache
from pipeline.domain import Question, Video
from pipeline.identity import identity_of, relevance_key
from pipeline.samplers import ChecksQuestions, ChecksWindows, PlansWindows, Sampler, WithoutPictures


@dataclass(frozen=True)
class Pass:
    """One clip that the sampler has to score."""

    video: Video
    """What the questions may see of it."""
    questions: tuple[Question, ...]
    windows: int | None
    """None if the sampler does not plan windows."""


@dataclass(frozen=True)
class Plan:
    """The first stage, before it begins."""

    passes: tuple[Pass, ...]
    cached: int
    """Questions whose relevance is known already."""
    reads_frames: bool
    """Whether the sampler decodes frames."""

    @property
    def open(self) -> int:
        """Questions that are left."""
        return sum(len(each.questions) for each in self.passes)

    @property
    def windows(self) -> int | None:
        """Windows of all passes; None if the sampler does not plan windows."""
        told = [each.windows for each in self.passes if each.windows is not None]
        return sum(told) if len(told) == len(self.passes) else None

    @property
    def window_questions(self) -> int | None:
        """Windows times the questions that are answered in each."""
        if self.windows is None:
            return None
        return sum((each.windows or 0) * len(each.questions) for each in self.passes)

    @property
    def video_seconds(self) -> float:
        """Seconds of the videos that are left."""
        return sum(each.video.duration - each.video.start for each in self.passes)


def planned(questions: Sequence[Question], clips: Mapping[str, Video], sampler: Sampler, cache: RelevanceCache) -> Plan:
    """Look up every question of which something is known of its video.

    Args:
        questions: all of the run.
        clips: clips by question id.
        sampler: that would score them.
        cache: where scores are kept.

    Raises:
        InputError: the sampler cannot score these questions.
        ConfigError: a model of the sampler is to be shown more than it reads at once.
        CheckpointError: the sampler's checkpoint cannot be found.
    """
    if isinstance(sampler, ChecksQuestions):
        sampler.check(questions)
    identity = identity_of(sampler)
    left: dict[Video, list[Question]] = {}
    cached = 0
    for question in questions:
        clip = clips.get(question.id)
        if clip is not None:
            key = relevance_key(clip.fingerprint, sampler.query(question), identity)
            if cache.find(key, question.id) is None:
                left.setdefault(clip, []).append(question)
            else:
                cached += 1
    if isinstance(sampler, ChecksWindows):
        for clip, asked in left.items():
            sampler.check_windows(clip, asked)
    reads_frames = not isinstance(sampler, WithoutPictures)
    return Plan(
        passes=tuple(Pass(clip, tuple(asked), _windows(sampler, clip, asked)) for clip, asked in left.items()),
        cached=cached,
        reads_frames=reads_frames,
    )


def _windows(sampler: Sampler, video: Video, questions: Sequence[Question]) -> int | None:
    if isinstance(sampler, WithoutPictures):
        return 0
    return sampler.windows(video, questions) if isinstance(sampler, PlansWindows) else None
