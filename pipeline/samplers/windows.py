"""Cutting a stream of candidate frames into the windows that a model sees one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from pipeline.errors import ConfigError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Windowing:
    """How long windows are, in candidate frames."""

    frames: int
    """The most that one window holds."""
    overlap: int
    """How many of them are the last ones of the window before."""
    on_out_of_memory: Literal["fail", "halve"]
    """Whether a window that does not fit in memory is lost, or seen as two, which changes its scores."""
    smallest_half: int
    """The fewest frames that halving may leave in a window."""

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ConfigError(
                f"A window of {self.frames} frames shows nothing.",
                "Set sampler.window.frames=256, or any number above 0.",
            )
        if not 0 <= self.overlap < self.frames:
            raise ConfigError(
                f"Windows of {self.frames} frames cannot overlap by {self.overlap}.",
                f"Set sampler.window.overlap to a number from 0 to {self.frames - 1}.",
            )
        if self.smallest_half < 1:
            raise ConfigError(
                f"Halves of {self.smallest_half} frames show nothing.",
                "Set sampler.window.smallest_half=8, or any number above 0.",
            )


@dataclass(frozen=True)
class Window(Generic[Item]):
    """Consecutive candidates."""

    first: int
    """Position of the first candidate in the whole stream, from 0."""
    items: tuple[Item, ...]


def windows(stream: Iterable[Item], windowing: Windowing) -> Iterator[Window[Item]]:
    """Cut ``stream`` while it runs: no more than one window is held.

    The last window is shorter where the stream ends. An end that falls on the end of a window makes no further one out
    of the overlap alone, so that every window but the first brings at least one new candidate.
    """
    held: list[Item] = []
    first = 0
    fresh = 0
    for item in stream:
        if len(held) == windowing.frames:
            yield Window(first, tuple(held))
            first += windowing.frames - windowing.overlap
            held = held[windowing.frames - windowing.overlap :]
            fresh = 0
        held.append(item)
        fresh += 1
    if fresh:
        yield Window(first, tuple(held))


def count_windows(items: int, windowing: Windowing) -> int:
    """How many :func:`windows` cuts out of a stream of ``items``."""
    if items <= windowing.frames:
        return min(items, 1)
    return 1 + -(-(items - windowing.frames) // (windowing.frames - windowing.overlap))


def halves(window: Window[Item], windowing: Windowing) -> tuple[Window[Item], ...]:
    """The two windows that one becomes which does not fit in memory; None where it is to be left at that."""
    middle = len(window.items) // 2
    if windowing.on_out_of_memory == "fail" or middle < windowing.smallest_half:
        return ()
    return (
        Window(window.first, window.items[:middle]),
        Window(window.first + middle, window.items[middle:]),
    )
