"""Samplers inside another sampler: what they cost, and how their settings are called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline.domain import Cost, Question, Video
from pipeline.errors import PipelineError
from pipeline.samplers import PlansWindows, Sampler


def planned(sampler: Sampler, video: Video, questions: Sequence[Question]) -> int:
    """Calls of a sampler's models, as far as it can tell."""
    return sampler.windows(video, questions) if isinstance(sampler, PlansWindows) else 0


def cost_of_both(one: Cost, other: Cost) -> Cost:
    """The sum of two costs."""
    return Cost(
        one.seconds + other.seconds,
        one.prompt_tokens + other.prompt_tokens,
        one.output_tokens + other.output_tokens,
        one.dollars + other.dollars,
        {name: one.more.get(name, 0) + other.more.get(name, 0) for name in {**one.more, **other.more}},
    )


@contextmanager
def overrides_under(part: str) -> Iterator[None]:
    """Errors of a part name its settings by their keys in this sampler."""
    try:
        yield
    except PipelineError as error:
        raise type(error)(error.problem, under(part, error.remedy)) from error


def under(part: str, advice: str) -> str:
    """An advice in which the settings of a part have their keys in the sampler that holds it.

    ``sampler.window.frames`` of a sampler at ``localised`` is ``sampler.localised.window.frames``.
    """
    return re.sub(r"\bsampler\.(?=\w)", f"sampler.{part}.", advice)
