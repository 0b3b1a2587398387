"""Rows of which no question can be made. Each becomes a question that fails by name, and the others are asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.domain import Question
from pipeline.errors import InputError

_ID_FIELDS = ("id", "question_id", "uid", "qid")


def unusable(value: Any, name: str, error: InputError) -> Question:
    """A question that stands for a row and carries what is wrong with it.

    Args:
        value: the row as far as it could be read; its id and its text are kept for people to find it by.
        name: what the question is called where the row has no id.
        error: what is wrong, with the place in the file.
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
