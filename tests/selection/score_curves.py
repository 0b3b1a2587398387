"""Made relevances and videos for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.domain import Relevance, Selection, Video
from pipeline.selection.choice import Choice, Curve
from pipeline.selection.policy import Policy


def video(seconds: float = 100, fps: float = 10) -> Video:
    return Video("v.mp4", "f", seconds, fps, round(seconds * fps), 64, 48)


def relevance(scores: Sequence[float], **settings: Any) -> Relevance:
    """One candidate a second; as GenS scores, unless ``named_above=None`` makes them cosines."""
    return Relevance("q", tuple(float(second) for second in range(len(scores))), tuple(scores), **settings)


def curve(scores: Sequence[float], ties: Any = "spread", named_above: float | None = None, **settings: Any) -> Curve:
    """One candidate a second; all named unless ``named_above`` says which."""
    values = np.asarray(scores, dtype=np.float64)
    named = np.ones(len(values), dtype=np.bool_) if named_above is None else values > named_above
    features = settings.get("features")
    return Curve(np.arange(len(values), dtype=np.float64), values, named, ties, features)


def seconds(choice: Choice, budget: int, scores: Sequence[float], **settings: Any) -> list[int]:
    """What a policy with this choice selects from a video of that length, all of it chosen for its score."""
    policy = Policy("mine", budget, choice, "spread", "named", "none", "none", "linspace")
    selection: Selection = policy.select(relevance(scores, **settings), video(len(scores)))
    return [round(frame.time) for frame in selection.frames]
