"""What the loaders of published benchmarks have in common: rows checked one by one, ids unique, lengths grouped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.domain import Question
from pipeline.errors import InputError

HALF_HOUR = 1800.0


@dataclass(frozen=True)
class Annotated:
    """A question with what its row says of the video."""

    question: Question
    duration: float | None
    """Of the whole video in seconds; none where the row does not say."""


def unique(rows: Iterable[Annotated], file: Path) -> tuple[Annotated, ...]:
    """The rows, none of which may have another's id.

    Raises:
        InputError: an id stands twice, or there is no row.
    """
    kept: dict[str, Annotated] = {}
    for row in rows:
        if row.question.id in kept:
            raise InputError(f"{file}: the id {row.question.id!r} stands twice", "fetch the annotations again")
        kept[row.question.id] = row
    if not kept:
        raise InputError(f"{file} holds no question", "check the file and what the settings leave out of it")
    return tuple(kept.values())


def durations(rows: Iterable[Annotated]) -> dict[str, float]:
    """Seconds by path of the video, where the annotations say."""
    return {row.question.video: row.duration for row in rows if row.duration is not None}


def video_file(root: str | None, file: Path, name: str) -> str:
    """The path of a video: in ``root``, or else in the folder ``videos`` beside the annotation file."""
    folder = Path(root).expanduser() if root is not None else file.parent / "videos"
    return str((folder / name).absolute())


def chosen(options: Sequence[str], correct: int | None, where: str) -> int | None:
    """``correct`` if it is an index into ``options``, or if it is not known.

    Raises:
        InputError: it is another number.
    """
    if correct is not None and not 0 <= correct < len(options):
        raise InputError(f"{where}: option {correct} of {len(options)} is right", "fetch the annotations again")
    return correct


def half_hours(seconds: float) -> str:
    """The group of a video that lasts so long, for benchmarks that have no groups of their own: ``30-60 min``."""
    start = int(seconds // HALF_HOUR) * 30
    return f"{start}-{start + 30} min"
