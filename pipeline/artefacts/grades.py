"""The grades of free answers in a run folder: for each judge a file of rows, and one that says who it is.

``grades-LABEL-DIGEST.jsonl`` and ``.json``. The digest is of the judge's identity, so that another judge, or the same
one with other settings, is another pair of files and another column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from pipeline.artefacts.writing import write_whole
from pipeline.domain import Answer, AnswerForm, Question
from pipeline.errors import InputError
from pipeline.identity import digest
from pipeline.wellformed import dumped

_PREFIX = "grades-"


@dataclass(frozen=True)
class Calibration:
    """How a judge grades answers whose grade is known, as shares of the way from its lowest score to its highest."""

    questions: int
    gold: float | None
    """The reference as its own answer; 1 would be right. None: no grade came."""
    shuffled: float | None
    """The reference of another question; 0 would be right."""
    listed: float | None
    """``A, B, C or D``; 0 would be right."""
    failed: int
    """Of all answers, those without a grade. They are in no share."""


@dataclass(frozen=True)
class GradedBy:
    """Who has graded, and on which scale."""

    label: str
    """The column's name."""
    lowest: float
    highest: float
    mean_over: str | None
    """The label of the questions over whose values the figure is a mean; None: all answers are pooled."""
    notes: tuple[str, ...]
    """What readers should know, a sentence each."""
    settings: Mapping[str, Any]
    """The judge's identity."""
    calibration: Calibration | None = None
    schema: Literal["gens/grades/1"] = "gens/grades/1"

    @property
    def stem(self) -> str:
        """The stem of both files' names."""
        name = re.sub(r"[^A-Za-z0-9._]+", "-", self.label).strip("-.")[:60]
        return f"{_PREFIX}{name}-{digest(self.settings)[:8]}"

    def rows(self, folder: Path) -> Path:
        """The file of the grades."""
        return folder / f"{self.stem}.jsonl"


_ADAPTER = TypeAdapter(GradedBy)


def is_graded(question: Question) -> bool:
    """Whether its answer is in free text, of which only a judge knows whether it is right."""
    return question.options is None and question.answer_form is AnswerForm.WORDS and not question.fault


def graded_digest(question: Question, answer: Answer) -> str:
    """Digest of an answer and of what it is graded against, by which a grade is known to be of this answer."""
    evidence = [[span.start, span.end] for span in question.evidence or ()]
    against = [question.reference, list(question.scoring_points), evidence]
    return digest([question.text, against, answer.status.value, answer.text])[:16]


def write_judge(judge: GradedBy, folder: Path) -> GradedBy:
    """Say in a run folder who grades. A calibration that is known there stays, unless ``judge`` brings one.

    Raises:
        InputError: the judge's file there is damaged.
        StorageError: it cannot be written.
    """
    path = folder / f"{judge.stem}.json"
    known = read_judge(path) if path.is_file() else None
    if judge.calibration is None and known is not None:
        judge = replace(judge, calibration=known.calibration)
    if judge != known:
        write_whole(dumped(_ADAPTER, judge) + b"\n", path, "paths.runs=...")
    return judge


def judge_files(folder: Path) -> Sequence[Path]:
    """The files in a run folder that say who has graded."""
    return sorted(folder.glob(f"{_PREFIX}*.json"))


def read_judge(path: Path) -> GradedBy:
    """Who has graded, as one of these files says.

    Raises:
        InputError: the file is none that a judge has written.
    """
    try:
        found = _ADAPTER.validate_json(path.read_bytes())
    except ValidationError:
        found = None
    if found is None or not found.lowest < found.highest < math.inf:
        raise InputError(f"{path} does not say who has graded", "move it away, and run gens judge again")
    return found
