"""Make an answerer from its YAML and ask it: frames of random pixels, requests about them, answers in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from hydra import compose, initialize_config_dir

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.config import build, conf_dir
from pipeline.domain import Answer, Frame, Question, Video
from pipeline.generation.limits import OutputLimits
from pipeline.generation.texts import Generated, Outcome, Work

VIDEO = Video("clip.mp4", "f", 100.0, 25.0, 2500, 160, 90)
SMALL = Video("clip.mp4", "0f", 60.0, 10.0, 600, 80, 45)
Kind = TypeVar("Kind")


def configured(kind: type[Kind], name: str, *overrides: str) -> Kind:
    """The answerer of a YAML, with values that a test needs."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(f"answerer/{name}", overrides=list(overrides))
    answerer = build(config.answerer, "answerer")
    assert isinstance(answerer, kind)
    return answerer


def frames(*times: float, seed: int = 0, height: int = 90, width: int = 160) -> tuple[Frame, ...]:
    """Of :data:`VIDEO`."""
    dice = np.random.default_rng(seed)
    return tuple(Frame(time, round(time * 25), dice.integers(0, 256, (height, width, 3), np.uint8)) for time in times)


def request(text: str, shown: tuple[Frame, ...], options: tuple[str, ...] | None = None) -> AnswerRequest:
    """A question about frames of :data:`VIDEO`."""
    return AnswerRequest(Question("q", VIDEO.path, text, options), VIDEO, shown)


def request_of(
    count: int, text: str = "Which colour?", options: tuple[str, ...] | None = ("red", "blue"), video: Video = SMALL
) -> AnswerRequest:
    """A question about so many frames of a small video, whose pixels depend on their number."""
    pixels = np.random.default_rng(count).integers(0, 255, (count, 45, 80, 3), dtype=np.uint8)
    shown = tuple(Frame(1.25 * place, int(12.5 * place), pixels[place]) for place in range(count))
    return AnswerRequest(Question(f"q{count}", video.path, text, options), video, shown)


def answered(answerer: Answerer, requests: Sequence[AnswerRequest], batch: int = 8) -> list[Answer]:
    """Requests may share a question's id here: they are numbered, since a run's ids differ."""
    numbered = [
        replace(request, question=replace(request.question, id=f"{request.question.id}#{place}"))
        for place, request in enumerate(requests)
    ]
    found = {answer.question_id: answer for answer in answerer.answer(numbered, batch)}
    return [
        replace(found[one.question.id], question_id=request.question.id)
        for one, request in zip(numbered, requests, strict=True)
    ]


def written(writer: Any, prompts: Sequence[Any]) -> list[Any]:
    """What a writer makes of prompts that come all at once, in their order: texts, or errors."""
    for place, prompt in enumerate(prompts):
        writer.add(place, prompt)
    found = {}
    while len(writer):
        found |= {place: outcome.result for place, outcome in writer.step()}
    return [found[place] for place in range(len(prompts))]


class Saying:
    """A writer that says the same to each prompt, for as long as its limits allow."""

    def __init__(self, tokenizer: Any, said: str, limits: OutputLimits) -> None:
        words = tokenizer(said, add_special_tokens=False).input_ids
        until = next((count for count in range(1, len(words) + 1) if limits.are_reached(words[:count])), None)
        tokens = tuple(words[:until])
        self._said = Generated(tokenizer.decode(tokens, skip_special_tokens=True), tokens, until is None)
        self._keys: list[str] = []

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str, prompt: Any) -> None:
        self._keys.append(key)

    def step(self) -> list[tuple[str, Outcome]]:
        keys, self._keys = self._keys, []
        return [(key, Outcome(self._said, Work())) for key in keys]

    def finished(self) -> list[tuple[str, Outcome]]:
        return []
