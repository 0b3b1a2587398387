"""``gens answer selections=FILE``: stage 2 only, from a selection file."""

from __future__ import annotations

from omegaconf import DictConfig

from pipeline.artefacts.folder import ANSWERS_FILE, write_questions
from pipeline.artefacts.selections import read_selections
from pipeline.checks.admission import admit
from pipeline.commands.questions import check_limit
from pipeline.commands.run import exit_code, report_run, run_context, run_folder, run_to_check, second_stage
from pipeline.config import build
from pipeline.orchestrator import copy_selections
from pipeline.paths import local_path, shown
from pipeline.terminal import tell


def run(config: DictConfig) -> int:
    """Answer the questions of the selection file."""
    check_limit(config.limit)
    context = run_context(config)
    answerer = build(config.answerer, "answerer", config.plugins)
    rows = read_selections(local_path(config.selections), config.limit)
    admit(run_to_check(config, context, [row.question for row in rows], answerer=answerer, selections=rows))
    with run_folder(config) as folder:
        write_questions([row.question for row in rows], folder)
        copies = copy_selections(rows, folder)
        answers = second_stage(config, copies, answerer, context, folder)
        code = exit_code([row.answer.status for row in answers])
        tell(f"answers to {len(answers)} questions: {shown(folder / ANSWERS_FILE)}")
        report_run(folder, context)
    return code
