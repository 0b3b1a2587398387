"""What a judge may be shown of the video: frames of a question's evidence, and the subtitles on screen at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.domain import Frame, Question, Span, SubtitleLine
from pipeline.subtitles import read
from pipeline.video import Reader


@dataclass(frozen=True)
class Evidence:
    """What a judge sees, as CG-Bench (arXiv 2412.12075; github.com/CG-Bench/CG-Bench, run/utils.py) shows clues."""

    frames: Sequence[Frame]
    """In the order of the spans, which need not be that of time."""
    lines: Sequence[SubtitleLine]
    """On screen at one of the frames, each once, in the order of the frames."""


def evidence_of(question: Question, reader: Reader, most: int, *, with_subtitles: bool) -> Evidence:
    """Frames of the evidence, about ``most``, and the subtitles at them.

    Raises:
        VideoError: the video cannot be read.
        SubtitlesError: the question's subtitles are asked for, and missing or unreadable.
    """
    with reader.open(question.video) as video:
        about = video.video
        last = about.start + (about.duration - about.start) * (1 - 1e-9)
        seconds = evidence_seconds(question.evidence or (), most, about.fps)
        inside = [min(max(second, about.start), last) for second in seconds]
        ascending = sorted(set(inside))
        shown = dict(zip(ascending, video.frames_at(ascending), strict=True))
        frames = [shown[second] for second in inside]
    if not with_subtitles or question.subtitles is None:
        return Evidence(frames, ())
    lines = read(question.subtitles, about.duration).lines
    at_frames = [line for frame in frames for line in lines if line.start < frame.time < line.end]
    return Evidence(frames, tuple(dict.fromkeys(at_frames)))


def evidence_seconds(spans: Sequence[Span], most: int, fps: float) -> list[float]:
    """Where to look in the evidence: its frames one by one where they are few, else the middles of equal parts.

    As CG-Bench (arXiv 2412.12075) samples clues: span i gets the whole part of ``most * length_i / length``, and at
    least 1. So many short spans may together get more than ``most``.
    """
    frames = [max(0, round(span.end * fps) - round(span.start * fps)) for span in spans]
    total = sum(frames)
    found: list[float] = []
    for span, count in zip(spans, frames, strict=True):
        parts = count if most >= total else int(most * count / total)
        parts = max(1, parts)
        length = (span.end - span.start) / parts
        found += [span.start + length * (part + 0.5) for part in range(parts)]
    return found
