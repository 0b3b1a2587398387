"""What the tests of a server's judge share: it is made from its YAML as users make it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from hydra import compose, initialize_config_dir

from pipeline.config import build, conf_dir
from pipeline.domain import Grade, Question
from pipeline.judging import GivenAnswer
from pipeline.judging.server import ServerJudge
from pipeline.video import Reader

READER = Reader(name="default", backend="auto", threads=1, image_fps=1.0)
RIGHT, WRONG = '{"reason": "r", "correct": true}', '{"reason": "r", "correct": false}'


def made(url: str, rubric: str = "general", **settings: Any) -> ServerJudge:
    """The judge of ``judge=openai`` at this address; replies are not kept, and requests are not made again."""
    return replace(_composed(rubric), base_url=url, **settings)


@lru_cache
def _composed(rubric: str) -> ServerJudge:
    usual = {"judge.model": "m", "judge.reply_store": "null", "judge.retries": "0", "judge.base_url": "http://h/v1"}
    settings = [f"{key}={value}" for key, value in usual.items()]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("judge/openai", overrides=[*settings, f"judge/rubric={rubric}"])
    judge = build(config.judge, "judge")
    assert isinstance(judge, ServerJudge)
    return judge


def given(text: str = "a dog", **more: Any) -> GivenAnswer:
    fields = {"text": "Who barks?", "reference": "the dog", **more}
    return GivenAnswer(Question(fields.pop("id", "q"), fields.pop("video", "v.mp4"), **fields), text)


def graded(judge: ServerJudge, *answers: GivenAnswer) -> list[Grade]:
    """The grades in the order of the answers."""
    try:
        found = {grade.question_id: grade for grade in judge.grade(answers or [given()], READER)}
    finally:
        judge.close()
    return [found[each.question.id] for each in answers or [given()]]
