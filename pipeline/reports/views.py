"""The content of a card: texts and drawings of one question, as the templates read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import PurePath

from pipeline.domain import Question
from pipeline.reports.timeline import Timeline, span_words

_EACH = 400
"""About the characters of the marks around one frame, window, answer or verdict."""
_PACKED = 5
"""About how many characters are one byte when they are packed."""


class Verdict(StrEnum):
    """The verdict on an answer. In the accuracy all but ``right`` count as wrong; a card distinguishes them."""

    RIGHT = "right"
    WRONG = "wrong"
    FAILED = "failed"
    MISSING = "missing"
    UNGRADED = "ungraded"


@dataclass(frozen=True)
class Note:
    """A failure and what to do about it."""

    stage: str
    status: str
    detail: str


@dataclass(frozen=True)
class GradeView:
    """One judge's grade of an answer."""

    judge: str
    told: str
    """The score on its scale, or the status of a failure in words."""
    has_failed: bool
    detail: str
    replies: tuple[str, ...]
    """The judge's; of long ones the beginning and the end."""


@dataclass(frozen=True)
class AnswerView:
    """One answerer's answer from the frames."""

    label: str
    verdict: Verdict
    read_as: str
    """The letter of the option read, or the intervals; empty for free text and failures."""
    text: str
    note: Note | None
    seen: str
    """Which frames it saw and in what form."""
    cost: str
    thought: str = ""
    """The thoughts before the answer; of long ones the beginning and the end."""
    prompt: str = ""
    """The text that was sent; of one of many pages the beginning and the end."""
    grades: tuple[GradeView, ...] = ()
    """Of a free answer, by judges."""


@dataclass(frozen=True)
class FrameView:
    """One selected frame."""

    second: float
    clock: str
    score: str
    source: str
    scale: str
    """Factor on each side; empty where it is 1 or left to the answerer."""
    shows_evidence: bool


@dataclass(frozen=True)
class WindowView:
    """The sampler's own words on one window."""

    span: str
    status: str
    raw: str


@dataclass(frozen=True)
class Route:
    """One first stage with the answers that rest on its frames."""

    sampler: str
    selection: str
    notes: tuple[Note, ...]
    timeline: Timeline | None
    frames: tuple[FrameView, ...]
    windows: tuple[WindowView, ...]
    evidence_text: str
    """How much of the evidence the frames show; empty where none is known."""
    evidence_missed: bool
    cost: str
    answers: tuple[AnswerView, ...]
    runs: tuple[int, ...]
    """Places of the runs that took this first stage, among the runs of the page."""

    @property
    def weight(self) -> int:
        """About how many characters it takes before it is packed."""
        texts = [window.raw for window in self.windows]
        texts += [text for answer in self.answers for text in (answer.text, answer.thought, answer.prompt)]
        texts += [text for answer in self.answers for grade in answer.grades for text in (grade.detail, *grade.replies)]
        texts += [self.timeline.bars, self.timeline.chosen_bars] if self.timeline else []
        return sum(map(len, texts)) + _EACH * (1 + len(self.frames) + len(self.windows) + len(self.answers))


@dataclass(frozen=True)
class OptionView:
    """One option."""

    letter: str
    text: str
    correct: bool


@dataclass(frozen=True)
class MatrixCell:
    """How one run's answer came out."""

    verdict: Verdict
    letter: str
    """Of the option chosen; empty for free text and failures."""


@dataclass(frozen=True)
class MatrixRow:
    """One first stage."""

    name: str
    cells: tuple[MatrixCell | None, ...]
    """Parallel to the matrix's columns."""


@dataclass(frozen=True)
class Matrix:
    """The answers of several runs, sampler x answerer."""

    columns: tuple[str, ...]
    rows: tuple[MatrixRow, ...]


@dataclass(frozen=True)
class Card:
    """One question over all runs."""

    number: int
    question: Question
    options: tuple[OptionView, ...]
    routes: tuple[Route, ...]
    verdicts: tuple[tuple[int, str, Verdict], ...]
    """Place and label of each run that answers; the label is empty where there is one run."""
    disagree: bool
    matrix: Matrix | None
    """None where fewer than two runs answer."""

    @property
    def video_name(self) -> str:
        """The file's name without its folders."""
        return PurePath(self.question.video).name or self.question.video

    @property
    def evidence(self) -> str:
        """The evidence spans in words."""
        return ", ".join(span_words(span) for span in self.question.evidence or ())

    @property
    def may_see(self) -> str:
        """The part of the video that may be seen, in words; empty for the whole video."""
        return span_words(self.question.span) if self.question.span else ""

    @cached_property
    def marks(self) -> Mapping[str, tuple[int, ...]]:
        """The filters that let this card through, each with the places of the runs for which they do."""
        found = {
            "wrong": self._answered(Verdict.WRONG),
            "failed": {
                *self._answered(Verdict.FAILED),
                *(run for route in self.routes if route.notes for run in route.runs),
            },
            "disagree": {run for run, _, _ in self.verdicts} if self.disagree else set(),
            "missed": {run for route in self.routes if route.evidence_missed for run in route.runs},
            "unfinished": self._answered(Verdict.MISSING),
        }
        return {mark: tuple(sorted(runs)) for mark, runs in found.items() if runs}

    @property
    def notes(self) -> tuple[Note, ...]:
        """All failures on the card."""
        return (
            *(note for route in self.routes for note in route.notes),
            *(answer.note for route in self.routes for answer in route.answers if answer.note),
        )

    @property
    def search_text(self) -> str:
        """The answers and failures in one text, to be searched."""
        texts = [answer.text for route in self.routes for answer in route.answers]
        return "\n".join((*texts, *(f"{note.stage}: {note.status}. {note.detail}" for note in self.notes)))

    @property
    def weight(self) -> int:
        """About how many bytes the card takes on a page that packs it, without pictures."""
        packed = sum(route.weight for route in self.routes)
        return _EACH * (4 + len(self.verdicts)) + packed // _PACKED

    def _answered(self, verdict: Verdict) -> set[int]:
        return {run for run, _, found in self.verdicts if found is verdict}
