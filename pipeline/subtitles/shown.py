"""Chooses the lines that go with a question: none, those on screen at the frames that are shown, or all.

Source of ``at_frames``: Video-MME (arXiv 2405.21075) gives a model the subtitles at its sampled frames; in lmms-eval's
``videomme/utils.py`` a line is on screen from its start until before its end, and is given once, however many frames
show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from pipeline.domain import Question, SubtitleLine, Video
from pipeline.subtitles.reading import read

_FILES_KEPT = 16
"""Files kept in memory. Questions of one video are near each other."""


class SubtitleChoice(StrEnum):
    """Which lines are given."""

    NONE = "none"
    AT_FRAMES = "at_frames"
    """The lines on screen at a selected frame."""
    FULL = "full"
    """All lines of the video, or of the clip that the question may see."""


def at_times(lines: Iterable[SubtitleLine], times: Sequence[float]) -> tuple[SubtitleLine, ...]:
    """The lines on screen at one of the ``times``, each once, in their order."""
    return tuple(line for line in lines if any(line.start <= time < line.end for time in times))


def within(lines: Iterable[SubtitleLine], start: float, end: float) -> tuple[SubtitleLine, ...]:
    """The lines that overlap the time between two seconds."""
    return tuple(line for line in lines if line.end > start and line.start < end)


@dataclass(frozen=True)
class GivenSubtitles:
    """The lines that are given to the answerer with a question."""

    choice: SubtitleChoice
    listed: bool
    """Whether the question has a subtitle file."""
    lines: tuple[SubtitleLine, ...]
    skipped: str = ""
    """How many cues of the file were left out and why, if any were."""

    def at(self, times: Sequence[float]) -> tuple[SubtitleLine, ...]:
        """The lines to give where only the frames at these ``times`` are shown."""
        return at_times(self.lines, times) if self.choice is SubtitleChoice.AT_FRAMES else self.lines

    def summary(self) -> str:
        """The rule and the number of lines, for the answer's record; empty where none were asked for."""
        if self.choice is SubtitleChoice.NONE:
            return ""
        lines = f"{len(self.lines)} line{'' if len(self.lines) == 1 else 's'}"
        skipped = f" ({self.skipped})" if self.skipped else ""
        return f"subtitles {self.choice}: {lines if self.listed else 'the question has none'}{skipped}"


class SubtitleFinder:
    """Finds the lines of a question. The files of the last few questions are kept in memory."""

    def __init__(self, choice: SubtitleChoice) -> None:
        self.choice = choice
        self._read = lru_cache(_FILES_KEPT)(read)

    def find(self, question: Question, video: Video, clip: Video, times: Sequence[float]) -> GivenSubtitles:
        """The lines that go with a question.

        Args:
            question: has no lines where it names no file.
            video: the whole one.
            clip: the part of it that the question may see.
            times: seconds of the selected frames.

        Raises:
            SubtitlesError: its file is missing or cannot be read.
        """
        if self.choice is SubtitleChoice.NONE or question.subtitles is None:
            return GivenSubtitles(self.choice, False, ())
        file = self._read(question.subtitles, video.duration)
        lines = within(file.lines, clip.start, clip.duration)
        given = GivenSubtitles(self.choice, True, lines, file.skipped_summary())
        return replace(given, lines=given.at(times))
