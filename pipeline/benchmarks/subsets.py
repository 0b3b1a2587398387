"""A part of a benchmark, named by a list of ids: the v-centric questions of LongVideoBench and MLVU, for instance.

The lists are their authors' and not shipped here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.artefacts.entries import read_json, read_text
from pipeline.domain import Question
from pipeline.errors import InputError


def read_ids(file: Path, override: str) -> frozenset[str]:
    """The ids in a file: a JSON list, or one a line.

    Raises:
        InputError: no such file, it is not text, or it holds no id.
    """
    text = read_text(file, override)
    if text.lstrip().startswith("["):
        entries = read_json(file, override)
    else:
        entries = [line.strip() for line in text.split("\n") if line.strip()]
    ids = frozenset(str(entry) for entry in entries if isinstance(entry, str | int))
    if not ids or len(ids) < len(entries):
        raise InputError(
            f"{file} is not a list of ids, each once", f"it needs one id a line, or a JSON list of ids: {override}=..."
        )
    return ids


def limited_to(questions: Sequence[Question], ids: Collection[str]) -> tuple[Question, ...]:
    """The questions with these ids, such as a benchmark's v-centric ones, in their order.

    Raises:
        InputError: an id is of no question.
    """
    unknown = sorted(set(ids) - {question.id for question in questions})
    if unknown:
        raise InputError(
            f"{len(unknown)} of {len(set(ids))} ids in the subset are of no question here, {unknown[0]!r} for one",
            "name a list that was made for this benchmark: subset=...",
        )
    return tuple(question for question in questions if question.id in ids)
