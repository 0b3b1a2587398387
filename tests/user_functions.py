"""Functions as a user writes them, for the options named function."""

from __future__ import annotations

from typing import Any


def score(question: str, frames: list[Any], model: Any = None, **settings: Any) -> list[float]:
    return [float(pixels.std()) for _, pixels in frames]


def answer(question: str, frames: list[Any], model: Any = None, **settings: Any) -> str:
    return "A"


def choose(times: Any, scores: Any, count: int, **settings: Any) -> list[int]:
    return list(range(count))


def load() -> Any:
    return "model"


# Others of the same kind.


def score_X(question: str, frames: list[Any], model: Any = None, **settings: Any) -> list[float]:
    return [0.0 for _ in frames]


def answer_X(question: str, frames: list[Any], model: Any = None, **settings: Any) -> str:
    return "B"


def choose_X(times: Any, scores: Any, count: int, **settings: Any) -> list[int]:
    return []


def load_X() -> Any:
    return "another model"
