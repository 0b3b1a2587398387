"""Every question of every run as one row: ``questions.csv`` beside a page, and a table for notebooks."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from pipeline.artefacts.rows import AnswerRow
from pipeline.artefacts.stored import LastRead
from pipeline.domain import Question, Status, option_letter
from pipeline.ledger import Stage, figures_of
from pipeline.paths import local_path
from pipeline.reports.briefs import Took, took
from pipeline.reports.judged import labelled
from pipeline.reports.runs import RunArtefacts, collect

if TYPE_CHECKING:
    from pandas import DataFrame

QUESTIONS_TABLE = "questions.csv"
STAGES: tuple[Stage, ...] = ("sampler", "answerer")


def cost_columns(stage: Stage) -> list[str]:
    """The columns of what a stage took."""
    names = figures_of(stage)
    return [
        *(f"{stage}_{name}" for name in names),
        *(f"{stage}_{name}_spent" for name in names),
        f"{stage}_device",
        f"{stage}_cached",
    ]


COLUMNS = (
    "run",
    "benchmark",
    "sampler",
    "selection",
    "budget",
    "answerer",
    "id",
    "video",
    "question",
    "options",
    "correct",
    "option",
    "right",
    "status",
    "detail",
    "text",
    "sampler_status",
    "frames",
    "times",
    "scales",
    "evidence_recall",
    "iou",
    "groups",
    *(column for stage in STAGES for column in cost_columns(stage)),
)
"""``correct`` and ``option`` are letters; ``status`` is ``missing`` where there is no answer yet; ``times`` are those
of the selected frames, in seconds, and ``scales`` their factors on each side, empty where none is stated; ``iou`` is
that of an answer that is intervals, with the evidence. A figure of :mod:`pipeline.ledger` after a stage's name is what
the question takes alone, and with ``_spent`` what the run has spent on it. Each judge of free answers adds two columns,
``score: LABEL`` and ``verdict: LABEL``, the status of its grade."""


def columns(runs: Sequence[RunArtefacts]) -> tuple[str, ...]:
    """The columns of a table: :data:`COLUMNS` and those of all judges."""
    return (*COLUMNS, *(f"{part}: {label}" for label in _judges(runs) for part in ("score", "verdict")))


def _judges(runs: Sequence[RunArtefacts]) -> list[str]:
    return list(dict.fromkeys(label for run in runs for label in labelled(run.grades)))


def question_rows(runs: Sequence[RunArtefacts]) -> Iterator[tuple[Any, ...]]:
    """One row a run and question, with values in the order of :func:`columns`; None for what is not known."""
    judges = _judges(runs)
    for run in runs:
        of_run = (run.name, run.benchmark, run.sampler, run.selection, run.budget, run.answerer)
        grades = labelled(run.grades)
        for question in run.questions:
            briefs = [grades[label].briefs.get(question.id) if label in grades else None for label in judges]
            graded: list[tuple[Any, Any]] = [
                (brief.score, brief.status.value) if brief else (None, None) for brief in briefs
            ]
            answer = run.find[2](question.id, LastRead())
            yield (
                *of_run,
                *_asked(question),
                *_answered(run, question, answer),
                dict(question.groups),
                *_costs(run.briefs.sampled.get(question.id), "sampler"),
                *_costs(took(answer.answer, "answerer") if answer else None, "answerer"),
                *chain(*graded),
            )


def questions_csv(runs: Sequence[RunArtefacts]) -> str:
    """The rows as a table for other programs, with lists and labels as JSON."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(columns(runs))
    writer.writerows([_cell(value) for value in row] for row in question_rows(runs))
    return written.getvalue()


def load_runs(folder: str | os.PathLike[str]) -> DataFrame:
    """The questions of every run at or below a folder: one row a run and question, with the columns of
    ``questions.csv``.

    A run that cannot be read is left out and named on standard error.

    Raises:
        InputError: there is no run, or none that can be used.
    """
    from pandas import DataFrame

    runs = collect([local_path(folder)])
    return DataFrame.from_records(list(question_rows(runs)), columns=list(columns(runs)))


def _asked(question: Question) -> tuple[Any, ...]:
    options = None if question.options is None else list(question.options)
    return question.id, question.video, question.text, options, _letter(question.correct)


def _costs(of_stage: Took | None, stage: Stage) -> tuple[Any, ...]:
    names = figures_of(stage)
    if of_stage is None:
        return (None,) * (2 * len(names) + 2)
    spent, alone = of_stage.reckonings(stage)
    told = (*(alone.get(name) for name in names), *(spent.get(name) for name in names))
    return (*told, of_stage.device or None, of_stage.cached)


def _answered(run: RunArtefacts, question: Question, given: AnswerRow | None) -> tuple[Any, ...]:
    brief = run.briefs.of.get(question.id)
    _, selection, _ = run.find
    selected = selection(question.id, LastRead())
    frames = selected.selection.frames if selected else ()
    of_sampler = brief.relevance.status.value if brief and brief.relevance else None
    shown = (
        of_sampler,
        len(frames) if selected else None,
        [frame.time for frame in frames] if selected else None,
        [frame.scale for frame in frames] if any(frame.scale is not None for frame in frames) else None,
        brief.selection.recall if brief and brief.selection else None,
        brief.answer.ious[0] if brief and brief.answer and brief.answer.ious else None,
    )
    if given is None:
        return (None, None, "missing", "", None, *shown)
    said = given.answer
    option = said.option if said.status is Status.OK and question.options else None
    told = (_letter(option), given.correct, said.status.value, said.detail, said.text)
    return (*told, *shown)


def _letter(option: int | None) -> str | None:
    return None if option is None else option_letter(option)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
