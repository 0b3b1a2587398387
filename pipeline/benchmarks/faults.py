"""Turns a row that cannot be used into a question that fails by name, so that the others are asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.domain import Question
from pipeline.errors import InputError

_ID_FIELDS = ("id", "question_id", "uid", "qid")


def unusable(value: Any, name: str, error: InputError) -> Question:
    """A placeholder for a row, with the row's fault.

    Args:
        value: the row as far as it could be read. Its id and text are kept, so that people can find it.
        name: the question's id if the row has none.
        error: the fault, with its place in the file.
    """
    row = value if isinstance(value, Mapping) else {}
    text = row.get("question")
    return Question(
        id=next((str(row[field]) for field in _ID_FIELDS if _is_id(row.get(field))), name),
        video="",
        text=text if isinstance(text, str) else "",
        fault=str(error),
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip() != ""
