"""Measured speeds, each with its machine and conditions."""

from __future__ import annotations

from dataclasses import dataclass
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

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ConfigError(f"speed: {self.part} takes {self.seconds} s", "give what was measured, above 0")


@dataclass(frozen=True)
class SpeedTable:
    """All measurements."""

    name: str
    rates: tuple[Rate, ...]

    def of(self, part: str) -> Rate | None:
        """The first measurement of a part, if there is one."""
        return next((rate for rate in self.rates if rate.part == part), None)
