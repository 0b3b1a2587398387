"""Figures against the number of frames, laid out as shapes to draw.

A chart is drawn beside a table with the same figures, so that no information is in the drawing alone. Lines differ in
colour, dash and marker, so that none is in colour alone either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LINE_STYLES = 8
"""Number of distinct line styles; further lines repeat them."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 14.0, 12.0, 40.0
_DODGE = 5.0
"""Pixels between the intervals of two lines at one number of frames."""


@dataclass(frozen=True)
class Value:
    """One figure of a series."""

    frames: int
    """K: the largest number of frames a question."""
    share: float
    """0..1."""
    low: float | None = None
    high: float | None = None
    """Ends of its interval, where there is one."""


@dataclass(frozen=True)
class Series:
    """Figures that differ only in the number of frames."""

    name: str
    values: tuple[Value, ...]
    """Frames ascending."""

    def at(self, frames: int) -> Value | None:
        """The figure at this number of frames."""
        return next((value for value in self.values if value.frames == frames), None)


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in pixels."""

    place: float
    label: str


@dataclass(frozen=True)
class Point:
    """A figure, in pixels; ``low`` and ``high`` are the ends of its interval."""

    x: float
    y: float
    low: float | None
    high: float | None
    title: str


@dataclass(frozen=True)
class Line:
    """One series."""

    name: str
    style: int
    """0 to :data:`LINE_STYLES` - 1."""
    path: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """All that is drawn, with the same figures for the table."""

    title: str
    summary: str
    """The drawing in words."""
    width: int
    height: int
    left: float
    right: float
    top: float
    foot: float
    """Edges of the field inside the axes."""
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    lines: tuple[Line, ...]
    frames: tuple[int, ...]
    series: tuple[Series, ...]


def chart(title: str, series: Sequence[Series], width: int = 560, height: int = 300) -> Chart | None:
    """Lay out shares against the number of frames; None where no series has two numbers of frames to be compared."""
    if not any(len(each.values) > 1 for each in series):
        return None
    frames = sorted({value.frames for each in series for value in each.values})
    bottom, top = _range([value for each in series for value in each.values])
    foot, right = height - _BOTTOM, width - _RIGHT

    def across(count: int) -> float:
        # K grows by doubling: equal steps of its logarithm.
        share = math.log(count / frames[0]) / math.log(frames[-1] / frames[0])
        return round(_LEFT + 16 + share * (right - _LEFT - 32), 1)

    def up(share: float) -> float:
        return round(foot - (share - bottom) / (top - bottom) * (foot - _TOP), 1)

    lines: list[Line] = []
    for at, each in enumerate(series):
        aside = (at - (len(series) - 1) / 2) * min(_DODGE, 24 / len(series))
        points = tuple(
            Point(
                round(across(value.frames) + aside, 1),
                up(value.share),
                None if value.low is None else up(max(value.low, bottom)),
                None if value.high is None else up(min(value.high, top)),
                f"{each.name}, K={value.frames}: {_tooltip(value)}",
            )
            for value in each.values
        )
        path = "M" + "L".join(f"{point.x:g} {point.y:g}" for point in points)
        lines.append(Line(each.name, at % LINE_STYLES, path, points))
    step = 0.05 if top - bottom <= 0.3 else 0.1 if top - bottom <= 0.6 else 0.2
    marks = [bottom + step * count for count in range(round((top - bottom) / step) + 1)]
    return Chart(
        title=title,
        summary=_summary(series),
        width=width,
        height=height,
        left=_LEFT,
        right=right,
        top=_TOP,
        foot=foot,
        across=tuple(Tick(across(count), str(count)) for count in frames),
        up=tuple(Tick(up(mark), f"{100 * mark:.0f} %") for mark in marks),
        lines=tuple(lines),
        frames=tuple(frames),
        series=tuple(series),
    )


def _range(values: Sequence[Value]) -> tuple[float, float]:
    """The part of 0..1 that is drawn, on whole tenths, wide enough to show that a small difference is small."""
    least = min(value.share if value.low is None else value.low for value in values)
    most = max(value.share if value.high is None else value.high for value in values)
    bottom, top = math.floor(least * 10 + 1e-9) / 10, math.ceil(most * 10 - 1e-9) / 10
    while top - bottom < 0.2 - 1e-9:
        bottom, top = max(0.0, bottom - 0.1), min(1.0, top + 0.1)
    return round(bottom, 1), round(top, 1)


def _tooltip(value: Value) -> str:
    span = "" if value.low is None or value.high is None else f" ({100 * value.low:.1f} to {100 * value.high:.1f})"
    return f"{100 * value.share:.1f} %{span}"


def _summary(series: Sequence[Series]) -> str:
    return " ".join(
        f"{each.name}: " + ", ".join(f"K={value.frames} {_tooltip(value)}" for value in each.values) + "."
        for each in series
    )
