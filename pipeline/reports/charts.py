"""Figures against the number of frames or a cost, laid out as shapes to draw.

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
_MOST_TICKS = 12
_DODGE = 5.0
"""Pixels between the intervals of two lines at one number of frames."""


@dataclass(frozen=True)
class Value:
    """One figure of a series."""

    frames: float
    """K, the largest number of frames a question; or a cost."""
    share: float
    """0..1."""
    low: float | None = None
    high: float | None = None
    """Ends of its interval, where there is one."""


@dataclass(frozen=True)
class Series:
    """Figures that differ only in the number of frames, and in what follows from it."""

    name: str
    values: tuple[Value, ...]
    """Frames ascending."""
    style: int | None = None
    """Of its line; None: by its place among the series."""

    def at(self, frames: float) -> Value | None:
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
    axis: str
    """What lies across."""
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
    frames: tuple[float, ...]
    series: tuple[Series, ...]


def chart(title: str, series: Sequence[Series], width: int = 560, height: int = 300) -> Chart | None:
    """Lay out shares against the number of frames; None where no series has two numbers of frames to be compared."""
    if not any(len(each.values) > 1 for each in series):
        return None
    ticks = sorted({value.frames for each in series for value in each.values})
    ends = (ticks[0], ticks[-1])
    return _laid_out(
        Axis("frames a question, at most", "K={:g}", [(each, f"{each:g}") for each in ticks], ends),
        title,
        series,
        width,
        height,
        dodge=_DODGE,
    )


def cost_chart(title: str, axis: str, told: str, series: Sequence[Series]) -> Chart | None:
    """Lay out shares against a cost; None where no cost is known.

    Args:
        title: of the drawing.
        axis: what lies across.
        told: a cost in words, ``{:,.0f} tokens``.
        series: costs above 0.
    """
    costs = sorted({value.frames for each in series for value in each.values})
    if not costs:
        return None
    low, high = math.floor(math.log10(costs[0]) - 1e-9), math.ceil(math.log10(costs[-1]))
    marks = [digit * 10.0**power for power in range(low, high + 1) for digit in (1, 2, 5)]
    first = max(mark for mark in marks if mark <= costs[0])
    marks.append(10.0 ** (high + 1))
    last = min(mark for mark in marks if mark >= costs[-1] and mark > first)
    inside = [mark for mark in marks if first <= mark <= last]
    shown = inside if len(inside) <= _MOST_TICKS else [each for each in inside if math.log10(each) % 1 < 1e-9]
    return _laid_out(Axis(axis, told, [(each, _short(each)) for each in shown], (first, last)), title, series, 620, 320)


@dataclass(frozen=True)
class Axis:
    """What lies across."""

    name: str
    told: str
    """A place on it in words, as a format of a number."""
    ticks: Sequence[tuple[float, str]]
    ends: tuple[float, float]


def _laid_out(axis: Axis, title: str, series: Sequence[Series], width: int, height: int, dodge: float = 0.0) -> Chart:
    bottom, top = _range([value for each in series for value in each.values])
    foot, right = height - _BOTTOM, width - _RIGHT

    first, last = axis.ends

    def across(count: float) -> float:
        # K grows by doubling, and costs with it: equal steps of their logarithms.
        share = math.log(count / first) / math.log(last / first)
        return round(_LEFT + 16 + share * (right - _LEFT - 32), 1)

    def up(share: float) -> float:
        return round(foot - (share - bottom) / (top - bottom) * (foot - _TOP), 1)

    lines: list[Line] = []
    for at, each in enumerate(series):
        aside = (at - (len(series) - 1) / 2) * min(dodge, 24 / len(series))
        points = tuple(
            Point(
                round(across(value.frames) + aside, 1),
                up(value.share),
                None if value.low is None else up(max(value.low, bottom)),
                None if value.high is None else up(min(value.high, top)),
                f"{each.name}, {axis.told.format(value.frames)}: {_tooltip(value)}",
            )
            for value in each.values
        )
        path = "M" + "L".join(f"{point.x:g} {point.y:g}" for point in points)
        style = at if each.style is None else each.style
        lines.append(Line(each.name, style % LINE_STYLES, path, points))
    step = 0.05 if top - bottom <= 0.3 else 0.1 if top - bottom <= 0.6 else 0.2
    marks = [bottom + step * count for count in range(round((top - bottom) / step) + 1)]
    return Chart(
        title=title,
        axis=axis.name,
        summary=_summary(series, axis.told),
        width=width,
        height=height,
        left=_LEFT,
        right=right,
        top=_TOP,
        foot=foot,
        across=tuple(Tick(across(count), label) for count, label in axis.ticks),
        up=tuple(Tick(up(mark), f"{100 * mark:.0f} %") for mark in marks),
        lines=tuple(lines),
        frames=tuple(sorted({value.frames for each in series for value in each.values})),
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


def _summary(series: Sequence[Series], told: str) -> str:
    return " ".join(
        f"{each.name}: " + ", ".join(f"{told.format(value.frames)} {_tooltip(value)}" for value in each.values) + "."
        for each in series
    )


def _short(number: float) -> str:
    """``20k`` for 20,000."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{sign}"
    return f"{number:g}"
