"""``gens sample``: stage 1 only. Writes relevance.jsonl and selections.jsonl, which any answerer takes."""

from __future__ import annotations

from omegaconf import DictConfig

from pipeline.artefacts.folder import SELECTIONS_FILE
from pipeline.checks.admission import admit
from pipeline.commands.questions import load_questions
from pipeline.commands.run import Seen, exit_code, first_stage, run_context, run_folder, run_to_check
from pipeline.config import build
from pipeline.paths import shown
from pipeline.terminal import tell


def run(config: DictConfig) -> int:
    """Select frames for the benchmark's questions."""
    context = run_context(config)
    sampler = build(config.sampler, "sampler", config.plugins)
    policy = build(config.selection, "selection", config.plugins)
    questions = load_questions(config)
    admit(run_to_check(config, context, questions, sampler=sampler, policy=policy))
    with run_folder(config) as folder:
        seen = Seen()
        rows = first_stage(config, questions, sampler, policy, context, folder, seen)
        seen.tell()
        code = exit_code([row.selection.status for row in rows])
        tell(f"selections of {len(rows)} questions: {shown(folder / SELECTIONS_FILE)}")
    return code
