"""``gens demo``: every sampler with every answerer of conf/demo.yaml over made videos, one table, one page."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from pipeline.commands.questions import asked
from pipeline.commands.run import exit_code, first_stage, record, run_context, run_folder, second_stage
from pipeline.config import build
from pipeline.domain import Status
from pipeline.reports.page import report_on
from pipeline.terminal import tell

SHARED = ("benchmark", "limit", "over_limit", "selection", "reader", "execution", "paths")


def run(config: DictConfig) -> int:
    """Run the matrix; the second answerer of a sampler finds its relevance in the cache."""
    context = run_context(config)
    policy = build(config.selection, "selection", config.plugins)
    questions = asked(config)
    statuses: list[Status] = []
    with run_folder(config) as folder:
        for sampler_key, sampler_node in config.samplers.items():
            for answerer_key, answerer_node in config.answerers.items():
                sampler = build(sampler_node, f"samplers.{sampler_key}", config.plugins)
                answerer = build(answerer_node, f"answerers.{answerer_key}", config.plugins)
                place = folder / f"{sampler.name}-{answerer.name}"
                tell(f"{sampler.name} -> {answerer.name}")
                pair = {"sampler": sampler_node, "answerer": answerer_node, **{key: config[key] for key in SHARED}}
                record(OmegaConf.create(pair), place)
                selections = first_stage(questions, sampler, policy, context, place)
                answers = second_stage(selections, answerer, context, place)
                statuses.extend(row.answer.status for row in answers)
        code = exit_code(statuses)
        report_on([folder], context.reader, folder)
    return code
