from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Cost, Frame, FrameOrigin, Question, Relevance, Status, Video
from pipeline.errors import ConfigError, InputError
from pipeline.identity import relevance_key
from pipeline.samplers import Sampler
from pipeline.samplers.route import Classifier, Keywords, RouteSampler
from pipeline.samplers.uniform import UniformSampler

VIDEO = Video("v.mp4", "f", 10, 10, 100, 64, 48)
QUESTIONS = [
    Question("moment", "v.mp4", "What does she pick up after the break?"),
    Question("whole", "v.mp4", "Which option best summarizes the video?"),
    Question("other moment", "v.mp4", "What colour is the car at the start?"),
]


class Unopened:
    """A video of which nobody here needs a frame."""

    video = VIDEO

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        raise AssertionError("decoded")


@dataclass
class Recorder:
    """A sampler that keeps account of what it is asked, and gives each question what it is told to."""

    name: str = "recorder"
    given: dict[str, Relevance] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    closed: int = 0

    def identity(self) -> Mapping[str, Any]:
        return {"sampler": "recorder"}

    def query(self, question: Question) -> str:
        return question.text

    def check(self, questions: Sequence[Question]) -> None:
        self.checked += [question.id for question in questions]

    def score(self, video: Video, frames: Any, questions: Sequence[Question]) -> list[Relevance]:
        self.asked.append([question.id for question in questions])
        return [self.given.get(question.id, Relevance(question.id, (1.0,), (5.0,))) for question in questions]

    def close(self) -> None:
        self.closed += 1


def classifier() -> Keywords:
    built = made("classifier")
    assert isinstance(built, Keywords)
    return built


def made(part: str | None = None, *overrides: str) -> Any:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("evaluate", ["sampler=route", *overrides])
    return build(config.sampler, "sampler") if part is None else build(config.sampler[part], f"sampler.{part}")


def route(inner: Recorder, **settings: Any) -> RouteSampler:
    parts = {"classifier": classifier(), "whole": UniformSampler("uniform", "midpoint"), "localised": inner}
    return RouteSampler(name="route", **(parts | settings))


def test_only_localised_questions_reach_the_inner_sampler_and_order_is_kept() -> None:
    inner = Recorder()
    found = route(inner).score(VIDEO, Unopened(), QUESTIONS)
    assert inner.asked == [["moment", "other moment"]]
    assert [relevance.question_id for relevance in found] == ["moment", "whole", "other moment"]
    assert [relevance.spread for relevance in found] == [None, "midpoint", None]


def test_a_video_with_global_questions_alone_needs_no_inner_sampler() -> None:
    inner = Recorder()
    route(inner).score(VIDEO, Unopened(), QUESTIONS[1:2])
    assert inner.asked == []


def test_cost_status_and_embeddings_of_the_inner_sampler_stand() -> None:
    failed = Relevance("moment", (), (), status=Status.TRUNCATED_OUTPUT, cost=Cost(2.0, 100, 5))
    scored = Relevance("other moment", (1.0,), (0.3,), named_above=None, features="key", cost=Cost(1.0, 10, 0))
    found = route(Recorder(given={"moment": failed, "other moment": scored})).score(VIDEO, Unopened(), QUESTIONS)
    assert [found[0], found[2]] == [failed, scored]


def test_remedies_name_the_override_where_it_stands() -> None:
    cut = "were cut at 256 new tokens: raise it with sampler.max_new_tokens=512. See the sampler."
    failed = Relevance("moment", (), (), status=Status.TRUNCATED_OUTPUT, detail=cut)
    found = route(Recorder(given={"moment": failed})).score(VIDEO, Unopened(), QUESTIONS[:1])
    assert "with sampler.localised.max_new_tokens=512. See the sampler." in found[0].detail
    assert made(None, "sampler.localised.max_new_tokens=512").localised.max_new_tokens == 512


def test_each_side_checks_its_own_questions_and_is_named_where_it_refuses_them() -> None:
    inner = Recorder()
    route(inner).check(QUESTIONS)
    assert inner.checked == ["moment", "other moment"]

    class Refuses(Recorder):
        def check(self, questions: Sequence[Question]) -> None:
            raise InputError("a row is missing", "record it: sampler.missing=record")

    with pytest.raises(InputError, match=r"sampler\.localised\.missing=record"):
        route(Refuses()).check(QUESTIONS)


def test_closing_frees_both_sides() -> None:
    inner, whole = Recorder(), Recorder()
    route(inner, whole=whole).close()
    assert (inner.closed, whole.closed) == (1, 1)


def test_a_change_of_the_words_recomputes_only_questions_that_change_sides() -> None:
    first = route(Recorder())
    second = replace(first, classifier=Keywords((*classifier().patterns, "after the break")))

    def key(sampler: RouteSampler, question: Question) -> str:
        return relevance_key("f", sampler.query(question), sampler.identity())

    assert [key(first, question) == key(second, question) for question in QUESTIONS] == [False, True, True]


def test_a_change_of_either_side_recomputes() -> None:
    first = route(Recorder())
    assert replace(first, whole=UniformSampler("uniform", "stride")).identity() != first.identity()
    assert replace(first, name="mine").identity() == first.identity()


@pytest.mark.parametrize(
    "text",
    [
        "What is the main idea of the video?",
        "Which of the following best summarises what happens?",
        "Write a summary.",
        "What is this documentary about?",
        "What is the video mainly about?",
        "What is the overall mood?",
        "What is the GENRE of this short film?",
        "How does his attitude change throughout the video?",
        "What kind of video is this?",
    ],
)
def test_questions_about_the_whole_video(text: str) -> None:
    assert classifier().is_global(Question("q", "v.mp4", text))


@pytest.mark.parametrize(
    "text",
    [
        "What colour are the overalls of the mechanic?",
        "What is the main ingredient of the soup?",
        "Who is the main character talking to at the door?",
        "What kind of fruit does she cut?",
        "When the title of the book is shown, what lies beside it?",
        "What happens after the summer party?",
        "Is the whole cake eaten?",
        "",
    ],
)
def test_questions_about_a_moment(text: str) -> None:
    assert not classifier().is_global(Question("q", "v.mp4", text))


def test_options_do_not_make_a_question_global() -> None:
    assert not classifier().is_global(Question("q", "v.mp4", "What does he hold?", ("a summary", "a cup")))


def test_a_broken_pattern_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"'\(main'"):
        made(None, "sampler.classifier.patterns=['(main']")


def test_parts_come_from_the_configuration() -> None:
    sampler = made(None, "sampler@sampler.localised=gens_micro", "sampler.whole.spread=interior")
    assert isinstance(sampler, Sampler)
    assert isinstance(sampler.classifier, Classifier)
    assert sampler.localised.name == "gens_micro"
    assert sampler.whole.spread == "interior"
    found = sampler.score(VIDEO, Unopened(), QUESTIONS[1:2])
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("evaluate", ["sampler=route", "selection=binmax", "selection.budget=4"])
    frames = build(config.selection, "selection").select(found[0], VIDEO).frames
    assert [frame.index for frame in frames] == [20, 40, 60, 80]
    assert {frame.source for frame in frames} == {FrameOrigin.UNIFORM}
