"""Measured speeds, each with its machine and conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from pipeline.errors import ConfigError

Unit = Literal["window", "window_question", "frame", "question", "video_second"]


@dataclass(frozen=True)
class Rate:
    """One measurement."""

    part: str
    """Name of a sampler or an answerer, or ``reader BACKEND``."""
    per: Unit
    """``window_question``: a window, divided by the questions answered in it; ``frame``: shown to the answerer;
    ``video_second``: of a video that is read."""
    seconds: float
    machine: str
    conditions: str
    questions: int | None = None
    """Of a window: how many were answered in it; None where that was not told."""

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ConfigError(f"speed: {self.part} takes {self.seconds} s", "give what was measured, above 0")
        if self.questions is not None and self.questions < 1:
            raise ConfigError(f"speed: {self.part} answers {self.questions} questions", "give a number above 0")


@dataclass(frozen=True)
class SpeedTable:
    """All measurements."""

    name: str
    rates: tuple[Rate, ...]

    def of(self, part: str) -> Rate | None:
        """The first measurement of a part, if there is one."""
        return next((rate for rate in self.rates if rate.part == part), None)

    def of_windows(self, part: str) -> tuple[Rate, ...]:
        """The measurements of a part that tell how a window's time grows with its questions, by their number.

        Of several with one number of questions, the first counts.
        """
        found: dict[int, Rate] = {}
        for rate in self.rates:
            if rate.part == part and rate.per == "window" and rate.questions is not None:
                found.setdefault(rate.questions, rate)
        return tuple(found[questions] for questions in sorted(found))


def window_seconds(rates: Sequence[Rate], questions: int) -> float:
    """Seconds of a window with so many questions.

    Between two measurements it is a straight line, below the first it is the first, and beyond the last each question
    is taken to cost as much as the mean one there, which is too much rather than too little.

    Args:
        rates: at least one, from :meth:`SpeedTable.of_windows`.
        questions: answered in the window.
    """
    counts = [rate.questions or 1 for rate in rates]
    if questions <= counts[0]:
        return rates[0].seconds
    for (few, low), (many, high) in pairwise(zip(counts, rates, strict=True)):
        if questions <= many:
            return low.seconds + (high.seconds - low.seconds) * (questions - few) / (many - few)
    return rates[-1].seconds * questions / counts[-1]
