"""Every question of every run as one row: ``questions.csv`` beside a page, and a table for notebooks."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from pipeline.artefacts.rows import AnswerRow, SelectionRow
from pipeline.artefacts.stored import LastNotes
from pipeline.domain import Question, Status, option_letter
from pipeline.ledger import Stage, figures_of
from pipeline.paths import local_path
from pipeline.reports.briefs import QuestionBrief, Took, took
from pipeline.reports.judged import labelled
from pipeline.reports.runs import RunArtefacts, collect, notes_of

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


def question_rows(
    runs: Sequence[RunArtefacts], nested: Callable[[Any], Any] = lambda value: value
) -> Iterator[tuple[Any, ...]]:
    """One row a run and question, with values in the order of :func:`columns`; None for what is not known.

    ``nested`` gives the values of lists and dicts; runs with the same question or selection have one value.
    """
    judges = _judges(runs)
    asked: Sequence[Question] = ()
    told: list[tuple[tuple[Any, ...], Any]] = []
    last = LastNotes[tuple[Any, ...]]()

    def frames_of(row: SelectionRow) -> tuple[Any, ...]:
        frames = row.selection.frames
        scales = [frame.scale for frame in frames]
        is_scaled = any(scale is not None for scale in scales)
        return len(frames), nested([frame.time for frame in frames]), nested(scales) if is_scaled else None

    for run in runs:
        if run.questions is not asked:  # runs that are read together hold one tuple of those that they have alike
            asked, last = run.questions, LastNotes()
            told = [(_asked(question, nested), nested(dict(question.groups))) for question in asked]
        of_run = (run.name, run.benchmark, run.sampler, run.selection, run.budget, run.answerer)
        grades = labelled(run.grades)
        ids = [question.id for question in asked]
        selections = notes_of(run.selections, ids, frames_of, last)
        answers = notes_of(run.answers, ids, lambda row: row)
        for question, (of_question, groups), frames, row in zip(asked, told, selections, answers, strict=True):
            briefs = [grades[label].briefs.get(question.id) if label in grades else None for label in judges]
            graded: list[tuple[Any, Any]] = [
                (brief.score, brief.status.value) if brief else (None, None) for brief in briefs
            ]
            yield (
                *of_run,
                *of_question,
                *_answered(question, row),
                *_shown(run.briefs.of.get(question.id), frames),
                groups,
                *_costs(run.briefs.sampled.took(question.id), "sampler"),
                *_costs(took(row.answer, "answerer") if row else None, "answerer"),
                *chain(*graded),
            )


def questions_csv(runs: Sequence[RunArtefacts]) -> Iterator[str]:
    """The lines of a table for other programs, with lists and labels as JSON."""
    writer = csv.writer(_Lines(), lineterminator="\n")
    yield writer.writerow(columns(runs))
    yield from map(writer.writerow, question_rows(runs, json.JSONEncoder(ensure_ascii=False).encode))


def load_runs(folder: str | os.PathLike[str]) -> DataFrame:
    """The questions of every run at or below a folder: one row a run and question, with the columns of
    ``questions.csv``. Rows of the same question or selection have one list.

    A run that cannot be read is left out and named on standard error.

    Raises:
        InputError: there is no run, or none that can be used.
    """
    from pandas import DataFrame

    runs = collect([local_path(folder)])
    return DataFrame.from_records(list(question_rows(runs)), columns=list(columns(runs)))


def _asked(question: Question, nested: Callable[[Any], Any]) -> tuple[Any, ...]:
    options = None if question.options is None else nested(list(question.options))
    return question.id, question.video, question.text, options, _letter(question.correct)


def _costs(of_stage: Took | None, stage: Stage) -> tuple[Any, ...]:
    if of_stage is None:
        return (None,) * len(cost_columns(stage))
    return (*of_stage.alone, *of_stage.spent, of_stage.device or None, of_stage.cached)


def _answered(question: Question, given: AnswerRow | None) -> tuple[Any, ...]:
    if given is None:
        return (None, None, "missing", "", None)
    said = given.answer
    option = said.option if said.status is Status.OK and question.options else None
    return _letter(option), given.correct, said.status.value, said.detail, said.text


def _shown(brief: QuestionBrief | None, frames: tuple[Any, ...] | None) -> tuple[Any, ...]:
    return (
        brief.relevance.status.value if brief and brief.relevance else None,
        *(frames or (None, None, None)),
        brief.selection.recall if brief and brief.selection else None,
        brief.answer.ious[0] if brief and brief.answer and brief.answer.ious else None,
    )


def _letter(option: int | None) -> str | None:
    return None if option is None else option_letter(option)


class _Lines:
    """Gives each line of a csv writer back: ``writerow`` returns what ``write`` returns."""

    def write(self, line: str) -> str:
        return line
