"""``gens demo``: every sampler with every answerer of conf/demo.yaml over made videos, one table, one page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.checks.admission import admit
from pipeline.commands.questions import load_questions
from pipeline.commands.record import record, record_end, typed
from pipeline.commands.run import both_stages, exit_code, run_context, run_folder, run_to_check
from pipeline.config import build
from pipeline.domain import Status
from pipeline.errors import PipelineError
from pipeline.reports.page import report_on
from pipeline.terminal import tell

SHARED = ("benchmark", "limit", "over_limit", "selection", "reader", "execution", "paths", "plugins")


def run(config: DictConfig) -> int:
    """Run the matrix; the second answerer of a sampler finds its relevance in the cache."""
    context = run_context(config)
    policy = build(config.selection, "selection", config.plugins)
    questions = load_questions(config)
    pairs = list(product(config.samplers, config.answerers))
    for keys in pairs:
        sampler, answerer, settings = _pair(config, *keys)
        with _own_overrides(*keys):
            admit(run_to_check(settings, context, questions, sampler=sampler, policy=policy, answerer=answerer))
    statuses: list[Status] = []
    with run_folder(config) as folder:
        for keys in pairs:
            sampler, answerer, settings = _pair(config, *keys)
            place = folder / f"{sampler.name}-{answerer.name}"
            tell(f"{sampler.name} -> {answerer.name}")
            record(settings, place, typed())
            with _own_overrides(*keys):
                answers = both_stages(settings, questions, sampler, policy, answerer, context, place)
            record_end(place)
            statuses.extend(row.answer.status for row in answers)
        code = exit_code(statuses)
        report_on([folder], context.reader, folder)
    return code


def _pair(config: DictConfig, sampler: str, answerer: str) -> tuple[Any, Any, DictConfig]:
    """A sampler, an answerer, and the settings of a run of the two."""
    nodes = {"sampler": config.samplers[sampler], "answerer": config.answerers[answerer]}
    return (
        build(nodes["sampler"], f"samplers.{sampler}", config.plugins),
        build(nodes["answerer"], f"answerers.{answerer}", config.plugins),
        OmegaConf.create({**nodes, **{key: config[key] for key in SHARED}}),
    )


@contextmanager
def _own_overrides(sampler: str, answerer: str) -> Iterator[None]:
    """Errors name the settings of a pair by their keys in this command."""
    try:
        yield
    except PipelineError as error:
        texts = [error.problem, error.remedy]
        for group, key in (("sampler", sampler), ("answerer", answerer)):
            texts = [re.sub(rf"\b{group}\.(?=[a-z])", f"{group}s.{key}.", text) for text in texts]
            texts = [re.sub(rf"\b{group}=", f"{group}@{group}s.{key}=", text) for text in texts]
        raise type(error)(*texts) from error
