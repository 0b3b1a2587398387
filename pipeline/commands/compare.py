"""``gens compare first=RUN second=RUN``: compares two runs question by question. Loads no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.artefacts.folder import ANSWERS_FILE
from pipeline.benchmarks.comparison import common_questions, compare, same_questions
from pipeline.benchmarks.subsets import read_ids
from pipeline.config import build, nearest
from pipeline.domain import Question
from pipeline.errors import ConfigError, InputError
from pipeline.foreign.lmms_eval_samples import read_samples
from pipeline.paths import local_path, shown
from pipeline.reports.comparison import COMPARISON_FILE, ComparedRuns, show, write
from pipeline.reports.paired import report_on_pair
from pipeline.reports.runs import RunArtefacts, read_run
from pipeline.terminal import tell

CHOICES = {"same": same_questions, "common": common_questions}


def run(config: DictConfig) -> int:
    """Print the table and write the file and the page."""
    if config.questions not in CHOICES:
        raise ConfigError(
            f"questions={config.questions} is not a choice.{nearest(str(config.questions), CHOICES)}",
            f"one of {', '.join(CHOICES)}",
        )
    first, second = _runs(config)
    questions = CHOICES[config.questions](first.questions, second.questions)
    left = len(first.questions) + len(second.questions) - 2 * len(questions)
    if config.subset is not None:
        ids = read_ids(local_path(config.subset), "subset", {question.id for question in questions})
        questions = tuple(question for question in questions if question.id in ids)
    sides = ComparedRuns(_label(first), _label(second), compare(first.answers, second.answers, questions))
    group = _group(config.group, sides.labels)
    show(sides, group)
    if left:
        tell(f"{left} questions are in only one of the two, and not compared")
    folder = local_path(config.target or HydraConfig.get().runtime.output_dir)
    write(sides, folder / COMPARISON_FILE)
    tell(f"comparison of {sides.comparison.questions} questions: {shown(folder / COMPARISON_FILE)}")
    reader = build(config.reader, "reader", config.plugins)
    tell(f"report: {shown(report_on_pair(first, second, sides.comparison, reader, folder))}")
    return 0


def _runs(config: DictConfig) -> tuple[RunArtefacts, RunArtefacts]:
    paths = {key: local_path(config[key]) for key in ("first", "second")}
    runs = {key: _of_folder(path, key) for key, path in paths.items() if not path.is_file()}
    if not runs:
        raise InputError(
            "both sides are samples files of lmms-eval, which do not hold the questions",
            "name a run folder of the same benchmark as one of them: first=runs/...",
        )
    known = next(iter(runs.values())).questions
    first, second = (
        runs[key] if key in runs else _of_samples(path, known, key, config.questions) for key, path in paths.items()
    )
    return first, second


def _of_folder(folder: Path, key: str) -> RunArtefacts:
    found = read_run(folder, str(folder))
    if not found.answers:
        raise InputError(
            f"{folder} holds no answers ({ANSWERS_FILE})",
            f"name a run folder that gens evaluate or gens answer has written: {key}=runs/evaluate-...",
        )
    return found


def _of_samples(file: Path, questions: Sequence[Question], key: str, choice: str) -> RunArtefacts:
    found = read_samples(file, questions, key)
    if found.unmatched and choice == "same":
        raise InputError(
            f"{len(found.unmatched)} rows of {len(found.unmatched) + len(found.rows)} are of no question of the run,"
            f" {found.unmatched[0]} for one; the run has {len(questions)} questions",
            "compare over those in both with questions=common, or name a run over the same benchmark and limit",
        )
    if found.unclear and choice == "same":
        raise InputError(
            f"{len(found.unclear)} rows may be of several questions, which have the same words: {found.unclear[0]},"
            " for one",
            "compare with a run over the file that lmms-eval read, whole and in its order (for MLVU the re-pack"
            " sy1998/MLVU_dev), so that the row's number tells; or leave them out with questions=common",
        )
    return RunArtefacts(str(file), answers=found.rows, asked=tuple(row.question for row in found.rows))


def _label(run: RunArtefacts) -> str:
    return f"{run.sampler} + {run.answerer}{f', {run.selection}' if run.selection else ''} ({run.name})"


def _group(wanted: str | None, labels: Sequence[str]) -> str | None:
    if wanted is not None and wanted not in labels:
        raise ConfigError(
            f"group={wanted}: the questions have no such label.{nearest(wanted, labels)}",
            f"one of {', '.join(labels)}" if labels else "leave out group=",
        )
    return wanted if wanted is not None else next(iter(labels), None)
