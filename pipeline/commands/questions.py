"""Loads the benchmark's questions for a command."""

from __future__ import annotations

from omegaconf import DictConfig

from pipeline.benchmarks import Benchmark
from pipeline.config import build
from pipeline.domain import Question
from pipeline.errors import ConfigError, InputError
from pipeline.terminal import remark

MOST_REPORTED = 5
"""Number of questions that cannot be asked of which each is reported; of more, only the number."""


def load_questions(config: DictConfig) -> list[Question]:
    """The first ``limit`` questions of ``benchmark``, or all.

    Raises:
        ConfigError, InputError: nothing can be asked.
    """
    return questions_of(build(config.benchmark, "benchmark", config.plugins), config.limit)


def questions_of(benchmark: Benchmark, limit: int | None) -> list[Question]:
    """The first ``limit`` questions of a benchmark, or all; those that cannot be asked are reported on standard error.

    Raises:
        ConfigError, InputError: nothing can be asked.
    """
    check_limit(limit)
    questions = list(benchmark.questions())[:limit]
    if not questions:
        raise InputError(f"benchmark {benchmark.name} holds no question", "check its files and settings")
    faults = [question.fault for question in questions if question.fault]
    for fault in faults[:MOST_REPORTED]:
        remark(f"cannot be asked: {fault}")
    if len(faults) > MOST_REPORTED:
        remark(f"and {len(faults) - MOST_REPORTED} more of {len(questions)} questions cannot be asked")
    return questions


def check_limit(limit: object) -> None:
    """Raise ConfigError unless ``limit`` is None or a number of questions."""
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ConfigError(f"limit={limit} asks nothing", "set limit=1 or more, or limit=null for all questions")
