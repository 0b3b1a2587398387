"""Rows like those of GenS-Video-150K (arXiv 2503.09146): a video, a question, an answer and frames with scores.

The paper describes the data, but the names of its JSON fields are not published, so they are settings. The scored
frames are an object, or its text, of seconds and scores 0 to 5 on a grid of 5 s: ``{"30s-35s": 5, "25s": 4}``. Spans
scored ``evidence_from`` or more are the evidence, by which ``gens recall`` measures a sampler. The answers are free
text, the references of their questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artefacts.entries import Entry, checked, read_entries
from pipeline.benchmarks.annotations import OVERRIDE, Annotated, AnnotatedBenchmark, of_each
from pipeline.benchmarks.places import VideoFolder, folder
from pipeline.domain import Question, Span
from pipeline.errors import ConfigError, InputError
from pipeline.identity import Label
from pipeline.wellformed import loaded


@dataclass(frozen=True)
class Fields:
    """Names of the rows' fields."""

    video: str
    question: str
    frames: str
    id: str | None
    """None: the id is the row's number, from 1."""
    answer: str | None
    """None: the rows have none."""


@dataclass(frozen=True)
class _Row:
    video: str
    question: str
    frames: dict[str, float] | str
    id: str | int | None = None
    answer: str | None = None


@dataclass(frozen=True)
class GenSVideo(AnnotatedBenchmark):
    """The rows of one file, JSON or parquet."""

    fields: Fields
    evidence_from: Label[float]
    """The lowest score of a frame that counts as evidence."""

    def __post_init__(self) -> None:
        """Check the range of scores.

        Raises:
            ConfigError: no frame could have such a score.
        """
        if not 0 < self.evidence_from <= 5:
            raise ConfigError(
                f"benchmark.evidence_from={self.evidence_from}: scores go from 0, not relevant, to 5",
                "set benchmark.evidence_from=4",
            )

    def read(self, file: Path) -> Iterator[Annotated]:
        """Every row."""
        videos = VideoFolder(folder(self.video_root, file.parent, "videos"))

        def made(entry: Entry) -> list[Annotated]:
            row = checked(_Row, self._renamed(entry.value, entry.where), entry.where)
            scores = _scores(row.frames, entry.where)
            evidence = tuple(span for span, score in scores if score >= self.evidence_from)
            question = Question(
                id=str(row.id) if row.id is not None else str(numbers[entry.where]),
                video=videos.find(row.video),
                text=row.question.strip(),
                evidence=evidence or None,
                reference=(row.answer or "").strip(),
            )
            return [Annotated(question, None)]

        entries = read_entries(file, OVERRIDE)
        numbers = {entry.where: number for number, entry in enumerate(entries, start=1)}
        return of_each(entries, made)

    def _renamed(self, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: not an object", "each row needs a video, a question and scored frames")
        names = {"video": self.fields.video, "question": self.fields.question, "frames": self.fields.frames}
        named = {"id": self.fields.id, "answer": self.fields.answer}
        names |= {own: theirs for own, theirs in named.items() if theirs is not None}
        for own, theirs in names.items():
            if theirs not in value:
                raise InputError(
                    f"{where}: there is no field {theirs!r}; there are {', '.join(map(str, value))}",
                    f"say what the rows call it: benchmark.fields.{own}=...",
                )
        return {own: value[theirs] for own, theirs in names.items()}


def _scores(frames: dict[str, float] | str, where: str) -> list[tuple[Span, float]]:
    try:
        listed = loaded(frames) if isinstance(frames, str) else frames
        return [(_span(str(key)), float(score)) for key, score in listed.items()]
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{where}: the scored frames cannot be read: {error}",
            'they must look like {"30s-35s": 5, "25s": 4}; the field is benchmark.fields.frames=...',
        ) from error


def _span(key: str) -> Span:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*s?(?:\s*-\s*(\d+(?:\.\d+)?)\s*s?)?", key.strip())
    if found is None:
        raise ValueError(f"{key!r} is neither a second nor a span of seconds")
    start = float(found.group(1))
    end = float(found.group(2)) if found.group(2) else start
    if end < start:
        raise ValueError(f"{key!r} ends before it begins")
    return Span(start, end)
