"""``gens joint long=RUN clue=RUN intervals=RUN``: the figures of several runs over the same questions.

Loads no model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.artefacts.folder import ANSWERS_FILE
from pipeline.artefacts.writing import write_whole
from pipeline.benchmarks.grounding import Grounding
from pipeline.benchmarks.joint import JointFigures, Values, joint_figures
from pipeline.benchmarks.metrics import Accuracy
from pipeline.domain import AnswerForm
from pipeline.errors import ConfigError, InputError
from pipeline.paths import local_path, shown
from pipeline.reports.results import share
from pipeline.reports.runs import read_run
from pipeline.reports.scoreboard import RunScore, score
from pipeline.terminal import draw, styled, tell

JOINT_FILE = "joint.json"
SCHEMA = "gens/joint/1"
_HEADINGS = {
    "long_acc": "long-acc",
    "clue_acc": "clue-acc",
    "crr": "CRR",
    "miou": "mIoU",
    "rec_at_iou": "rec@IoU",
    "rec_above_iou": "rec@IoU (>)",
    "acc_at_iou": "acc@IoU",
    "acc_above_iou": "acc@IoU (>)",
}


def run(config: DictConfig) -> int:
    """Print the table and write joint.json."""
    if config.clue is None and config.intervals is None:
        raise ConfigError(
            "one run alone has no joint figures", "name a second one: clue=runs/... or intervals=runs/..., or both"
        )
    long = _run(config.long, "long")
    clue = None if config.clue is None else _run(config.clue, "clue")
    intervals = None if config.intervals is None else _run(config.intervals, "intervals")
    _check(long, clue, intervals)
    found = {"strict": _strict(long, clue, intervals)}
    if long.official and (intervals is None or len(intervals.grounding) > 1):
        found[long.official[0].rule.name] = _official(long, clue, intervals)
    _show(found)
    for key, each in (("long", long), ("clue", clue), ("intervals", intervals)):
        if each is not None and each.unanswered:
            tell(f"{key} is unfinished: {each.unanswered} without an answer yet, which count as wrong")
    file = local_path(config.target or HydraConfig.get().runtime.output_dir) / JOINT_FILE
    runs = {key: config[key] for key in ("long", "clue", "intervals")}
    content = {"schema": SCHEMA, "runs": runs, "figures": {rule: asdict(figures) for rule, figures in found.items()}}
    write_whole(f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode(), file, "target=...")
    tell(f"joint figures of {long.questions} questions: {shown(file)}")
    return 0


def _run(path: str, key: str) -> RunScore:
    folder: Path = local_path(path)
    found = read_run(folder, str(folder))
    if not found.answers:
        raise InputError(
            f"{folder} holds no answers ({ANSWERS_FILE})",
            f"name a run folder that gens evaluate or gens answer has written: {key}=runs/evaluate-...",
        )
    return score(found)


def _check(long: RunScore, clue: RunScore | None, intervals: RunScore | None) -> None:
    """Check that the runs ask the same questions, each in its way.

    Raises:
        InputError: they do not.
    """
    asked = {question.id: question.text for question in long.run.questions}
    for key, other in (("clue", clue), ("intervals", intervals)):
        if other is not None and {question.id: question.text for question in other.run.questions} != asked:
            raise InputError(
                f"{key} asks {other.questions} questions, and long {long.questions}, which are not the same",
                "name runs over the same questions of a benchmark, with the same limit and ids",
            )
    ways = (
        ("long", long, AnswerForm.WORDS, "benchmark.task=choice"),
        ("clue", clue, AnswerForm.WORDS, "benchmark.task=choice sampler=clues"),
        ("intervals", intervals, AnswerForm.INTERVALS, "benchmark.task=intervals"),
    )
    for key, each, form, words in ways:
        if each is not None and any(question.answer_form is not form for question in each.run.questions):
            raise InputError(
                f"the questions of {each.run.name} are not answered with {'options' if key != 'intervals' else key}",
                f"name a run of another task as {key}: gens evaluate benchmark=cgbench {words}",
            )


def _strict(long: RunScore, clue: RunScore | None, intervals: RunScore | None) -> JointFigures:
    return joint_figures(
        _worth(long.accuracy),
        None if clue is None else _worth(clue.accuracy),
        None if intervals is None else _ious(intervals.grounding[0]),
    )


def _official(long: RunScore, clue: RunScore | None, intervals: RunScore | None) -> JointFigures:
    """As the benchmark's own rules, the first of those of others, read and count."""
    return joint_figures(
        _worth(long.official[0].accuracy),
        None if clue is None else _worth(clue.official[0].accuracy),
        None if intervals is None else _ious(intervals.grounding[1]),
    )


def _worth(counted: Accuracy | None) -> Values:
    return {} if counted is None else {credit.question.id: credit.value for credit in counted.credits}


def _ious(grounding: Grounding) -> Values:
    return {credit.question.id: credit.iou for credit in grounding.credits}


def _show(found: dict[str, JointFigures]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for rule in found:
        table.add_column(styled(rule), justify="right", no_wrap=True)
    figures: Sequence[JointFigures] = list(found.values())
    for field, heading in _HEADINGS.items():
        if any(getattr(each, field) is not None for each in figures):
            table.add_row(heading, *(share(getattr(each, field)) for each in figures))
    draw(table)
