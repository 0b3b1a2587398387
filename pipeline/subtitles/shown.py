"""Which lines go with a question: none, those on screen at the frames that are shown, or all.

Source of ``at_frames``: Video-MME (arXiv 2405.21075) gives a model the subtitles at its sampled frames; in lmms-eval's
``videomme/utils.py`` a line is on screen from its start until before its end, and stands once however many frames show
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from pipeline.domain import Question, SubtitleLine, Video
from pipeline.subtitles.reading import read

_FILES_KEPT = 16
"""Questions of one video come near each other."""


class SubtitleChoice(StrEnum):
    """The rule."""

    NONE = "none"
    AT_FRAMES = "at_frames"
    """What is said while a selected frame is on screen."""
    FULL = "full"
    """What is said in the whole video, or in the stretch of it that the question may see."""


def at_times(lines: Iterable[SubtitleLine], times: Sequence[float]) -> tuple[SubtitleLine, ...]:
    """The lines on screen at one of the ``times``, each once, in their order."""
    return tuple(line for line in lines if any(line.start <= time < line.end for time in times))


def within(lines: Iterable[SubtitleLine], start: float, end: float) -> tuple[SubtitleLine, ...]:
    """The lines of which something is said between two seconds."""
    return tuple(line for line in lines if line.end > start and line.start < end)


@dataclass(frozen=True)
class Said:
    """The lines that go with a question."""

    choice: SubtitleChoice
    listed: bool
    """Whether the question names a file."""
    lines: tuple[SubtitleLine, ...]
    skipped: str = ""
    """How many cues of the file were left out and why, if any were."""

    def at(self, times: Sequence[float]) -> tuple[SubtitleLine, ...]:
        """What is left of them where only these frames are shown."""
        return at_times(self.lines, times) if self.choice is SubtitleChoice.AT_FRAMES else self.lines

    def told(self) -> str:
        """For the record, in one line."""
        if self.choice is SubtitleChoice.NONE:
            return ""
        lines = f"{len(self.lines)} line{'' if len(self.lines) == 1 else 's'}"
        skipped = f" ({self.skipped})" if self.skipped else ""
        return f"subtitles {self.choice}: {lines if self.listed else 'the question has none'}{skipped}"


class Listener:
    """Finds the lines of one question after the other; a file is read once for questions that are near each other."""

    def __init__(self, choice: SubtitleChoice) -> None:
        self.choice = choice
        self._read = lru_cache(_FILES_KEPT)(read)

    def said(self, question: Question, video: Video, view: Video, times: Sequence[float]) -> Said:
        """The lines that go with a question.

        Args:
            question: it may name no file, and then has no lines.
            video: the whole one.
            view: what the question may see of it.
            times: seconds of the selected frames.

        Raises:
            SubtitlesError: its file is missing or cannot be read.
        """
        if self.choice is SubtitleChoice.NONE or question.subtitles is None:
            return Said(self.choice, False, ())
        heard = self._read(question.subtitles, video.duration)
        said = Said(self.choice, True, within(heard.lines, view.start, view.duration), heard.told_skipped())
        return replace(said, lines=said.at(times))
