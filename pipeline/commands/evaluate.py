"""``gens evaluate``: both stages over a benchmark, with a table and a report page."""

from __future__ import annotations

from omegaconf import DictConfig

from pipeline.checks.admission import admit
from pipeline.commands.questions import load_questions
from pipeline.commands.run import both_stages, exit_code, report_run, run_context, run_folder, run_to_check
from pipeline.config import build


def run(config: DictConfig) -> int:
    """Answer the benchmark's questions from the frames that the sampler chooses."""
    context = run_context(config)
    sampler = build(config.sampler, "sampler", config.plugins)
    policy = build(config.selection, "selection", config.plugins)
    answerer = build(config.answerer, "answerer", config.plugins)
    questions = load_questions(config)
    admit(run_to_check(config, context, questions, sampler=sampler, policy=policy, answerer=answerer))
    with run_folder(config) as folder:
        answers = both_stages(config, questions, sampler, policy, answerer, context, folder)
        code = exit_code([row.answer.status for row in answers])
        report_run(folder, context)
    return code
