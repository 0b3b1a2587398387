"""The files of a run folder by name, and the questions of the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.artefacts.journal import read_rows, rows_of
from pipeline.artefacts.rows import QuestionRow, SelectionRow, is_same_question, to_line
from pipeline.artefacts.writing import write_whole
from pipeline.domain import Question
from pipeline.errors import InputError

QUESTIONS_FILE = "questions.jsonl"
RELEVANCE_FILE = "relevance.jsonl"
SELECTIONS_FILE = "selections.jsonl"
ANSWERS_FILE = "answers.jsonl"
CONFIG_FILE = "config.yaml"
"""The resolved configuration."""
RUN_FILE = "run.json"
"""The command, ``versions: {package: version}``, and other facts about the run."""
REPORT_FILE = "report.html"


def write_questions(questions: Sequence[Question], folder: Path) -> None:
    """Add to the questions of the run, so that an unfinished run is counted over all of them.

    A question that the file already has gets its current labels, groups and evidence. A question that could not be
    asked is dropped: its row may have been corrected, and then has another text or another id.

    Raises:
        InputError: the id of a question has another text or other options in this folder.
        StorageError: it cannot be written.
    """
    asked = {question.id: question for question in read_questions(folder) if not question.fault}
    for question in questions:
        known = asked.get(question.id, question)
        if not is_same_question(known, question):
            raise InputError(
                f"the question {question.id!r} is {known.text!r} with the options {known.options} in {folder}, and "
                f"now {question.text!r} with the options {question.options}",
                "give the new question an id of its own, or start a run elsewhere: paths.runs=...",
            )
        asked[question.id] = question
    content = b"".join(to_line(QuestionRow(question)) for question in asked.values())
    write_whole(content, folder / QUESTIONS_FILE, "paths.runs=...")


def read_questions(folder: Path) -> tuple[Question, ...]:
    """The questions of a run; empty where it was interrupted before it knew them."""
    path = folder / QUESTIONS_FILE
    return tuple(row.question for row in read_rows(QuestionRow, path, {})) if path.is_file() else ()


def sibling_questions(file: Path) -> dict[str, Question]:
    """The questions of the run that an artefact file belongs to, by id; empty for a file outside a run folder.

    Without ``questions.jsonl`` they come from the selections. A file of that name which no run has written, such as a
    user's own benchmark, is ignored.
    """
    asked = read_questions(file.parent) if is_of_a_run(file.parent / QUESTIONS_FILE) else ()
    selections = file.parent / SELECTIONS_FILE
    if not asked and selections.is_file() and selections.name != file.name:
        return {row.question.id: row.question for _, _, _, row in rows_of(SelectionRow, selections, {})}
    return {question.id: question for question in asked}


def is_of_a_run(path: Path) -> bool:
    """Whether a run has written the file, by its first row."""
    try:
        with path.open("rb") as file:
            return b'"gens/question/' in file.readline()
    except OSError:
        return False
