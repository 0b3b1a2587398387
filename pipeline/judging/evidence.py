"""The frames of a question's evidence, which a judge may be shown."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.domain import Frame, Question, Span
from pipeline.video import Reader


def evidence_frames(question: Question, reader: Reader, most: int) -> list[Frame]:
    """Frames of the evidence, ascending, at most one for each second asked for.

    Raises:
        VideoError: the video cannot be read.
    """
    with reader.open(question.video) as video:
        about = video.video
        last = about.start + (about.duration - about.start) * (1 - 1e-9)
        seconds = evidence_seconds(question.evidence or (), most, about.fps)
        inside = sorted({min(max(second, about.start), last) for second in seconds})
        return list({frame.index: frame for frame in video.frames_at(inside)}.values())


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
