"""What the tests of the server answerer share: it is made from its YAML as users make it, and asked about a video."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from misbehaving import Answering, Received, misbehaving

from pipeline.answerers import AnswerRequest
from pipeline.answerers.openai import OpenAICompatible
from pipeline.config import build, conf_dir
from pipeline.domain import Answer, Frame, Question, Video

VIDEO = Video("clip.mp4", "f", 100.0, 25.0, 2500, 64, 36)
KEY_NAME = "TESTS_OF_GENS_KEY"
KEY = "sk-proj-0123456789abcdef"


def made(url: str, *overrides: str, name: str = "openai") -> OpenAICompatible:
    """The answerer of a YAML at this address; replies are not kept."""
    if any(override.startswith("answerer.base_url") for override in overrides):
        return _composed(name, *overrides)
    return replace(_composed(name, "answerer.base_url=http://localhost/v1", *overrides), base_url=url)


@lru_cache
def _composed(name: str, *overrides: str) -> OpenAICompatible:
    settings = ["answerer.model=m", "answerer.response_store=null"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(f"answerer/{name}", overrides=[*settings, *overrides])
    answerer = build(config.answerer, "answerer")
    assert isinstance(answerer, OpenAICompatible)
    return answerer


def frames_at(*times: float, width: int = 64, height: int = 36) -> tuple[Frame, ...]:
    """Noise, as JPEG likes it least."""
    pixels = np.random.default_rng(0).integers(0, 256, (len(times), height, width, 3), dtype=np.uint8)
    return tuple(Frame(time, round(25 * time), picture) for time, picture in zip(times, pixels, strict=True))


def asked(number: int = 0, *times: float, **more: Any) -> AnswerRequest:
    """A question with three options about the frames at these seconds."""
    fields = {"text": f"Which colour is {number}?", "options": ("red", "green", "blue"), **more}
    return AnswerRequest(Question(f"q{number}", VIDEO.path, **fields), VIDEO, frames_at(*(times or (2.0, 12.48))))


def ask(script: list[Answering], *overrides: str, **more: Any) -> tuple[Answer, Received]:
    """The answer to one question, and what the server heard."""
    with misbehaving(script) as (url, heard):
        answerer = made(url, "answerer.retries=1", *overrides)
        try:
            (answer,) = answerer.answer([asked(**more)], 1)
        finally:
            answerer.close()
    return answer, heard


def twice(folder: Path, script: list[Answering]) -> tuple[Answer, Answer, int]:
    """The answers of two runs that keep their replies, and how many requests both took."""
    prices = "answerer.prices={input: 1.0, output: 1.0}"
    with misbehaving(script) as (url, heard):
        first, second = (
            next(made(url, f"answerer.response_store={folder}", "answerer.retries=0", prices).answer([asked()], 1))
            for _ in range(2)
        )
    return first, second, len(heard.bodies)
