from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipeline.domain import Frame, Question, Status, Video
from pipeline.samplers import Sampler
from pipeline.samplers.uniform import UniformSampler
from pipeline.selection.policy import Policy
from pipeline.selection.topk import TopK

VIDEO = Video("v.mp4", "f", 10, 10, 100, 64, 48)


class Sealed:
    """A video that may not be decoded."""

    video = VIDEO

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        raise AssertionError("decoded")


def test_each_question_gets_the_same_frames_without_a_look_at_the_video() -> None:
    sampler = UniformSampler("uniform", "interior")
    assert isinstance(sampler, Sampler)
    questions = [Question("a", "v.mp4", "What?"), Question("b", "v.mp4", "Where?")]
    found = sampler.score(VIDEO, Sealed(), questions)
    assert [relevance.question_id for relevance in found] == ["a", "b"]
    assert all(relevance.status is Status.OK for relevance in found)
    policy = Policy("topk", 4, TopK(), "spread", "all", "none", "none", "linspace")
    for relevance in found:
        assert [frame.index for frame in policy.select(relevance, VIDEO).frames] == [20, 40, 60, 80]


def test_the_variant_decides_the_cache_key_and_the_name_does_not() -> None:
    sampler = UniformSampler("uniform", "interior")
    assert sampler.identity() != replace(sampler, spread="stride").identity()
    assert sampler.identity() == replace(sampler, name="baseline").identity()
