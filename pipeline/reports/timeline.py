"""A video's time axis as shapes to draw: evidence, scores, failed windows, selected frames, ticks.

Places along the axis are percentages of the duration, so that one drawing fits a phone and a desk while its text
keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.domain import Relevance, SelectedFrame, Span, Status

MAX_TICKS = 6
MAX_BARS = 400
"""More candidates than this share bars (each as high as its best), so that an hour at 1 fps stays a small drawing."""

_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
_LEAST_SHARE = 0.3
"""Percent of the axis. A moment of evidence in a long video would be thinner than a line."""


@dataclass(frozen=True)
class Band:
    """An interval of the axis."""

    left: float
    width: float
    title: str


@dataclass(frozen=True)
class Tick:
    """A labelled place on the axis."""

    left: float
    label: str
    anchor: str
    """``start``, ``middle`` or ``end``: the alignment of the label, so that it stays inside the drawing."""


@dataclass(frozen=True)
class Marker:
    """A selected frame."""

    left: float
    source: str
    title: str


@dataclass(frozen=True)
class Timeline:
    """All that is drawn; ``bars`` and ``chosen_bars`` are SVG path data in a box of 1000 x 100."""

    summary: str
    """The drawing in words."""
    ticks: tuple[Tick, ...]
    evidence: tuple[Band, ...]
    failed_windows: tuple[Band, ...]
    markers: tuple[Marker, ...]
    bars: str
    chosen_bars: str
    low: str
    high: str
    """The scores at the foot and the top of the bars; empty without scores."""


def clock(seconds: float) -> str:
    """``65.4`` is ``1:05.4``; whole seconds have no tenth, hours come in front when there are any."""
    tenths = round(max(seconds, 0.0) * 10)
    whole, tenth = divmod(tenths, 10)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
    return f"{text}.{tenth}" if tenth else text


def span_words(span: Span) -> str:
    """``1:05 to 1:08``, or one time where the span is a moment."""
    start, end = clock(span.start), clock(span.end)
    return start if start == end else f"{start} to {end}"


def number(score: float) -> str:
    """A score in its shortest form: ``5``, ``0.271``."""
    return str(int(score)) if score == int(score) else f"{score:.3g}"


def draw(
    duration: float,
    relevance: Relevance | None,
    frames: Sequence[SelectedFrame],
    evidence: Sequence[Span],
) -> Timeline:
    """Lay out one question's timeline; ``duration`` in seconds, above 0."""
    times, scores = (relevance.times, relevance.scores) if relevance else ((), ())
    low, high = _score_range(scores)
    bars, chosen_bars = _bars(times, scores, low, high, duration, [frame.time for frame in frames])
    return Timeline(
        summary=_summary(duration, relevance, frames, evidence),
        ticks=_ticks(duration),
        evidence=tuple(_band(span.start, span.end, duration, f"evidence {span_words(span)}") for span in evidence),
        failed_windows=tuple(
            _band(window.start, window.end, duration, f"window {clock(window.start)} to {clock(window.end)}: {word}")
            for window in (relevance.windows if relevance else ())
            if (word := window.status.value.replace("_", " ")) and window.status not in _UNDERSTOOD
        ),
        markers=tuple(
            Marker(
                left=_place(frame.time, duration),
                source=frame.source.value,
                title=clock(frame.time)
                + (f", score {number(frame.score)}" if frame.score is not None else "")
                + f", {frame.source.value}",
            )
            for frame in frames
        ),
        bars=bars,
        chosen_bars=chosen_bars,
        low=number(low) if scores else "",
        high=number(high) if scores else "",
    )


_UNDERSTOOD = (Status.OK, Status.NOTHING_RELEVANT)


def _place(seconds: float, duration: float) -> float:
    return round(100 * min(max(seconds / duration, 0.0), 1.0), 3)


def _band(start: float, end: float, duration: float, title: str) -> Band:
    left, right = _place(start, duration), _place(end, duration)
    width = max(right - left, _LEAST_SHARE)
    return Band(round(min(left, 100 - width), 3), round(width, 3), title)


def _ticks(duration: float) -> tuple[Tick, ...]:
    step = next((step for step in _STEPS if duration / step <= MAX_TICKS), math.ceil(duration / MAX_TICKS))
    seconds = [step * count for count in range(int(duration / step) + 1)]
    # The end of the video is always told; a round tick too near to it would run into its label.
    seconds = [second for second in seconds if duration - second > 0.55 * step] + [duration]
    last = len(seconds) - 1
    return tuple(
        Tick(_place(second, duration), clock(second), "start" if at == 0 else "end" if at == last else "middle")
        for at, second in enumerate(seconds)
    )


def _score_range(scores: Sequence[float]) -> tuple[float, float]:
    """GenS scores have their own scale of 0..5; others (cosines) fill the height between their least and best."""
    if not scores:
        return 0.0, 1.0
    if all(score >= 0 and score == int(score) for score in scores):
        return 0.0, max(5.0, *scores)
    low, high = min(scores), max(scores)
    return (low, high) if high > low else (low - 1.0, high)


def _bars(
    times: Sequence[float], scores: Sequence[float], low: float, high: float, duration: float, chosen: Sequence[float]
) -> tuple[str, str]:
    """Path data of the candidates' bars, and of those that were selected."""
    if not times:
        return "", ""
    between = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else duration
    seconds = np.asarray(times, dtype=float)
    first = np.arange(0, len(times), -(-len(times) // MAX_BARS))
    last = np.append(first[1:], len(times)) - 1
    tops = 100 - 100 * (np.maximum.reduceat(np.asarray(scores, dtype=float), first) - low) / (high - low)
    picked = np.logical_or.reduceat(np.isin(seconds.round(3), np.asarray(chosen, dtype=float).round(3)), first)
    # Around its candidate, so that the bar of a selected frame stands over the frame's marker.
    starts = 1000 * ((seconds[first] - between / 2) / duration).clip(0, 1)
    widths = 1000 * ((seconds[last] + between / 2) / duration).clip(0, 1) - starts
    # A hair of space lets single candidates be told apart; thin bars need all their width.
    widths = np.maximum(np.where(widths > 4, widths - 0.8, widths), 1.0)
    paths: dict[bool, list[str]] = {True: [], False: []}
    for is_picked, start, top, width in zip(
        picked.tolist(), starts.tolist(), tops.tolist(), widths.tolist(), strict=True
    ):
        if top < 100:
            paths[is_picked].append(f"M{start:.1f} 100V{top:.1f}h{width:.1f}V100z")
    return "".join(paths[False]), "".join(paths[True])


def _summary(
    duration: float, relevance: Relevance | None, frames: Sequence[SelectedFrame], evidence: Sequence[Span]
) -> str:
    parts = [f"Timeline of {clock(duration)}."]
    if evidence:
        parts.append(f"Evidence at {', '.join(span_words(span) for span in evidence)}.")
    if relevance and relevance.scores:
        best = max(relevance.scores)
        at = next(time for time, score in zip(relevance.times, relevance.scores, strict=True) if score == best)
        parts.append(f"{len(relevance.times)} candidate frames, highest score {number(best)}, first at {clock(at)}.")
    parts.append(f"{len(frames)} frames selected" + (":" if frames else "."))
    if frames:
        parts.append(", ".join(clock(frame.time) for frame in frames) + ".")
    return " ".join(parts)
