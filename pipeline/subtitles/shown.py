"""Which lines go with a question: none, those on screen at the frames that are shown, or all.

Source of ``at_frames``: Video-MME (arXiv 2405.21075) gives a model the subtitles at its sampled frames; in lmms-eval's
``videomme/utils.py`` a line is on screen from its start until before its end, and stands once however many frames show
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pipeline.domain import SubtitleLine

SubtitleChoice = Literal["none", "at_frames", "full"]


def at_times(lines: Iterable[SubtitleLine], times: Sequence[float]) -> tuple[SubtitleLine, ...]:
    """The lines on screen at one of the ``times``, each once, in their order."""
    return tuple(line for line in lines if any(line.start <= time < line.end for time in times))


def within(lines: Iterable[SubtitleLine], start: float, end: float) -> tuple[SubtitleLine, ...]:
    """The lines of which something is said between two seconds."""
    return tuple(line for line in lines if line.end > start and line.start < end)
