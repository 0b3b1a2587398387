"""Which frames stay where not all can be shown."""

from __future__ import annotations

from pipeline.answer_requests import best
from pipeline.domain import FrameOrigin, SelectedFrame


def frames(*scores: float | None) -> list[SelectedFrame]:
    return [
        SelectedFrame(float(place), 25 * place, score, FrameOrigin.FILL if score is None else FrameOrigin.SAMPLER)
        for place, score in enumerate(scores)
    ]


def test_the_best_scores_stay_in_order_of_time() -> None:
    assert best(frames(1.0, 5.0, 2.0, 4.0), 2) == [1, 3]


def test_a_frame_that_filled_up_goes_before_one_that_was_named() -> None:
    assert best(frames(None, 1.0, None, 2.0), 2) == [1, 3]
    assert best(frames(None, 1.0, None, None), 2) == [1, 3]


def test_a_frame_without_a_score_goes_before_the_worst_cosine() -> None:
    assert best(frames(None, -0.9, None, -0.2), 2) == [1, 3]
    assert best(frames(None, -0.9, 0.0, None, -0.2), 4) == [0, 1, 2, 4]


def test_a_uniform_selection_stays_spread() -> None:
    assert best(frames(*[None] * 9), 3) == [0, 4, 8]
