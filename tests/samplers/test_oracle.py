from __future__ import annotations

import pytest

from pipeline.domain import Question, Relevance, Span, Status, Video
from pipeline.samplers import Sampler, WithoutPictures
from pipeline.samplers.oracle import OracleSampler
from pipeline.selection.policy import Policy
from pipeline.selection.topk import TopK
from pipeline.video.unseen import UnseenFrames

VIDEO = Video("v.mp4", "f", 10.0, 25.0, 250, 64, 48)


def scored(*spans: Span, fps: float = 1.0) -> Relevance:
    question = Question("q", "v.mp4", "What?", evidence=spans or None)
    (relevance,) = OracleSampler("oracle", fps).score(VIDEO, UnseenFrames(VIDEO), [question])
    return relevance


def named(relevance: Relevance) -> list[float]:
    return [time for time, score in zip(relevance.times, relevance.scores, strict=True) if score == 5]


def test_candidates_inside_the_evidence_score_five_and_others_nothing() -> None:
    relevance = scored(Span(2, 4), Span(7, 7))
    assert relevance.times == tuple(range(10))
    assert named(relevance) == [2, 3, 4, 7]
    assert set(relevance.scores) == {0, 5}
    assert isinstance(OracleSampler("oracle", 1.0), Sampler)
    assert isinstance(OracleSampler("oracle", 1.0), WithoutPictures)


def test_evidence_between_two_candidates_is_itself_one() -> None:
    relevance = scored(Span(3.4, 3.6), Span(3.9, 4.1))
    assert named(relevance) == [3.5, 4]
    assert list(relevance.times) == sorted(relevance.times)


def test_evidence_at_the_very_end_is_the_last_frame() -> None:
    assert named(scored(Span(9.99, 10.0))) == [pytest.approx(9.96)]


def test_the_selection_shows_every_stretch_first() -> None:
    policy = Policy("topk", 2, TopK(), ties="spread", fits="all", fill="none", fallback="none", uniform="linspace")
    selection = policy.select(scored(Span(1, 3), Span(8, 8.5)), VIDEO)
    assert [frame.time for frame in selection.frames] == [1, 8]


@pytest.mark.parametrize(("spans", "why"), [((), "does not say where"), ((Span(60, 61),), "outside of")])
def test_a_question_without_usable_evidence_has_a_status_that_says_so(spans: tuple[Span, ...], why: str) -> None:
    relevance = scored(*spans)
    assert relevance.status is Status.NO_EVIDENCE
    assert why in relevance.detail
    assert relevance.times == ()


def test_other_evidence_is_another_query() -> None:
    made = OracleSampler("oracle", 1.0)
    one, two = (Question("q", "v.mp4", "What?", evidence=(Span(0, end),)) for end in (1, 2))
    assert made.query(one) != made.query(two)
