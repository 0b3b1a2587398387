"""What stands in a run folder, by name, and the questions that the run was given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.artefacts.journal import read_rows
from pipeline.artefacts.rows import QuestionRow, to_line
from pipeline.domain import Question

QUESTIONS_FILE = "questions.jsonl"
RELEVANCE_FILE = "relevance.jsonl"
SELECTIONS_FILE = "selections.jsonl"
ANSWERS_FILE = "answers.jsonl"
CONFIG_FILE = "config.yaml"
"""The resolved configuration."""
RUN_FILE = "run.json"
"""The command, ``versions: {package: version}``, and what else the run says of itself."""
REPORT_FILE = "report.html"


def write_questions(questions: Sequence[Question], folder: Path) -> None:
    """Write down what the run is asked, so that an unfinished run is counted over all of it."""
    temporary = folder / f".{QUESTIONS_FILE}.part"
    temporary.write_bytes(b"".join(to_line(QuestionRow(question)) for question in questions))
    os.replace(temporary, folder / QUESTIONS_FILE)


def read_questions(folder: Path) -> tuple[Question, ...]:
    """The questions of a run; empty where it was interrupted before it knew them."""
    path = folder / QUESTIONS_FILE
    return tuple(row.question for row in read_rows(QuestionRow, path)) if path.is_file() else ()
