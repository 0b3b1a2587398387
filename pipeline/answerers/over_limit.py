"""What happens to a selection of more frames than the answerer can take: one declared rule, and it is in the record."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pipeline.domain import SelectedFrame
from pipeline.selection.ranking import best_first


class OverLimit(StrEnum):
    """The rule."""

    REFUSE = "refuse"
    """The question fails with ``context_exceeded``, and its detail names the budget that fits."""
    KEEP_BEST = "keep_best"
    """As many frames as fit are shown, by their scores; of equal or missing scores, those farthest apart in time."""


def best(frames: Sequence[SelectedFrame], count: int) -> list[int]:
    """Positions of the ``count`` frames that are kept, ascending.

    A frame that was not chosen for its score comes after all that were.
    """
    scores = [float("-inf") if frame.score is None else frame.score for frame in frames]
    return sorted(best_first([frame.time for frame in frames], scores, count, "spread"))
