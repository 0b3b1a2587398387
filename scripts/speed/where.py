"""Where the time of a command goes: what its thread and its workers did, and what it did while the GPU was idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.spans import MAIN, WORKER, Span, recording

_BEGINNING, _END, _BETWEEN = "until the first of these", "after the last of these", "between these"


@dataclass(frozen=True)
class Row:
    """One kind of work."""

    name: str
    count: int
    seconds: float
    idle: float | None
    """Of these, seconds in which no kernel ran; None where that was not measured, and for workers."""
    first: float
    """Seconds from the start of the command to the end of the first piece."""
    last: float
    """To the end of the last one."""


class Traced:
    """A piece of work whose spans are kept.

    Args:
        work: done by the command's thread.
        device: that it leaves work to.
    """

    def __init__(self, work: Callable[[], Any], device: str) -> None:
        self._work = work
        self._device = device
        self._spans: list[Span] = []
        self._start = self._end = 0.0

    def run(self) -> None:
        """Do the work. What was kept of an earlier time is dropped."""
        with recording() as self._spans:
            self._start = time.monotonic()
            self._work()
            if self._device != "cpu":
                torch.cuda.synchronize()
            self._end = time.monotonic()

    def where(self, kernels: Sequence[tuple[float, float]] | None = None) -> tuple[Row, ...]:
        """What took the time of the last run, with its kernels where they were recorded."""
        return where(self._spans, self._start, self._end, kernels)

    def idle(self, kernels: Sequence[tuple[float, float]]) -> float:
        """The share of the last run in which none of its kernels ran."""
        return self._idle_from(self._start, kernels)

    def idle_once_begun(self, kernels: Sequence[tuple[float, float]]) -> float:
        """The same from the first kernel on."""
        return self._idle_from(
            min((first for first, _ in kernels if first > self._start), default=self._start), kernels
        )

    def _idle_from(self, start: float, kernels: Sequence[tuple[float, float]]) -> float:
        return sum(last - first for first, last in _gaps(kernels, start, self._end)) / (self._end - start)


def where(
    spans: Sequence[Span], start: float, end: float, kernels: Sequence[tuple[float, float]] | None
) -> tuple[Row, ...]:
    """Rows for the command's thread, which add up to all of the time, then for its workers.

    Args:
        spans: recorded between ``start`` and ``end``.
        start: of the command, by the monotonic clock.
        end: likewise.
        kernels: start and end of each kernel by the same clock; None where they were not recorded.
    """
    mine = sorted((span for span in spans if span.place == MAIN), key=lambda span: (span.start, -span.end))
    gaps = None if kernels is None else _gaps(kernels, start, end)
    pieces = _innermost(mine, start, end)
    rows = []
    for name in dict.fromkeys(name for name, _, _ in pieces):
        own = [(first, last) for each, first, last in pieces if each == name]
        ends = [span.end for span in mine if span.name == name] or [last for _, last in own]
        idle = None if gaps is None else _overlap(own, gaps)
        rows.append(
            Row(name, len(ends), sum(last - first for first, last in own), idle, min(ends) - start, max(ends) - start)
        )
    by_workers = [span for span in spans if span.place.startswith(WORKER)]
    for name in dict.fromkeys(span.name for span in by_workers):
        theirs = [span for span in by_workers if span.name == name]
        ends = [span.end for span in theirs]
        spent = sum(span.end - span.start for span in theirs)
        rows.append(Row(f"{WORKER}: {name}", len(theirs), spent, None, min(ends) - start, max(ends) - start))
    return tuple(rows)


def busy(kernels: Sequence[tuple[float, float]]) -> float:
    """Seconds that the kernels cover together: those of several streams may overlap."""
    covered, end = 0.0, 0.0
    for first, last in sorted(kernels):
        covered += max(0.0, last - max(first, end))
        end = max(end, last)
    return covered


def _innermost(spans: Sequence[Span], start: float, end: float) -> list[tuple[str, float, float]]:
    """What the thread did at each time: of spans within each other, the inner one."""
    found: list[tuple[str, float, float]] = []
    opened: list[Span] = []
    at = start

    def until(moment: float) -> None:
        nonlocal at
        if moment > at:
            name = opened[-1].name if opened else _BETWEEN if found else _BEGINNING
            found.append((name, at, moment))
            at = moment

    for span in spans:
        while opened and opened[-1].end <= span.start:
            until(opened[-1].end)
            opened.pop()
        until(span.start)
        opened.append(span)
    while opened:
        until(opened[-1].end)
        opened.pop()
    if end > at:
        found.append((_END if found else _BEGINNING, at, end))
    return found


def _gaps(kernels: Sequence[tuple[float, float]], start: float, end: float) -> list[tuple[float, float]]:
    """When no kernel ran."""
    found, at = [], start
    for first, last in sorted(kernels):
        if first >= end:
            break
        if first > at:
            found.append((at, first))
        at = max(at, last)
    if at < end:
        found.append((at, end))
    return found


def _overlap(pieces: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]) -> float:
    """Seconds that are in both; each is sorted and does not overlap itself."""
    total, place = 0.0, 0
    for first, last in pieces:
        while place < len(others) and others[place][1] <= first:
            place += 1
        at = place
        while at < len(others) and others[at][0] < last:
            total += min(last, others[at][1]) - max(first, others[at][0])
            at += 1
    return total
