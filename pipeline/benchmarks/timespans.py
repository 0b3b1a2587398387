"""Intervals of time as annotations list them: ``[[start, end], ...]`` in seconds."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.domain import LONGEST, Span
from pipeline.errors import InputError


def spans_of(pairs: Sequence[Sequence[float]], field: str, where: str) -> tuple[Span, ...]:
    """The intervals in order of time. They may overlap.

    Raises:
        InputError: one of them is no interval of a video.
    """
    for pair in pairs:
        if len(pair) != 2 or not 0 <= pair[0] <= pair[1] <= LONGEST:
            raise InputError(
                f"{where}: {field}: {list(pair)} is not an interval [start, end] in seconds",
                "correct the row, or fetch the annotations again",
            )
    return tuple(Span(*pair) for pair in sorted((float(start), float(end)) for start, end in pairs))
