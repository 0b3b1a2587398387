"""The benchmark's questions as a command asks for them."""

from __future__ import annotations

from omegaconf import DictConfig

from pipeline.config import build
from pipeline.domain import Question
from pipeline.errors import ConfigError, InputError


def asked(config: DictConfig) -> list[Question]:
    """The first ``limit`` questions of ``benchmark``, or all.

    Raises:
        ConfigError, InputError: nothing can be asked.
    """
    if config.limit is not None and config.limit < 1:
        raise ConfigError(f"limit={config.limit} asks nothing", "set limit=1 or more, or limit=null for all questions")
    benchmark = build(config.benchmark, "benchmark", config.plugins)
    questions = list(benchmark.questions())[: config.limit]
    if not questions:
        raise InputError(f"benchmark {benchmark.name} holds no question", "check its files and settings")
    return questions
