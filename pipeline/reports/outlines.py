"""What is told of every question without its card: what failed, and whether anything went wrong.

A page has cards of some questions, and these figures are of all, so they are made from notes (:mod:`.briefs`) and read
no row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.domain import Question, Status
from pipeline.reports.briefs import QuestionBrief, RelevanceBrief, SelectionBrief
from pipeline.reports.runs import RunArtefacts
from pipeline.reports.views import Note, Verdict


class Told(Protocol):
    """The end of one stage for one question: a result, or what was noted of it."""

    @property
    def status(self) -> Status:
        """How it ended."""

    @property
    def detail(self) -> str:
        """For a failure, what happened and what to do."""


class Read(Told, Protocol):
    """An answer, or what was noted of it."""

    @property
    def option(self) -> int | None:
        """The option read."""


@dataclass(frozen=True)
class Outline:
    """One question over all runs."""

    number: int
    """Of its card."""
    question: Question
    is_marked: bool
    """Whether a filter other than ``all`` shows its card."""
    notes: tuple[Note, ...]
    """All failures, in the order of its card."""


def asked_by(runs: Sequence[RunArtefacts]) -> list[tuple[Question, list[int]]]:
    """Every question of any run, with the places of the runs that ask it.

    Questions of two benchmarks that share an id stay apart.
    """
    asked: dict[tuple[str, str, str], tuple[Question, list[int]]] = {}
    for place, run in enumerate(runs):
        for question in run.questions:
            asked.setdefault((question.id, question.video, question.text), (question, []))[1].append(place)
    return list(asked.values())


def outlines(runs: Sequence[RunArtefacts]) -> Iterator[Outline]:
    """The outline of every question, in the order of the cards."""
    for number, (question, places) in enumerate(asked_by(runs), start=1):
        yield _outline(number, question, [runs[place] for place in places])


def verdict(question: Question, answer: Read | None) -> Verdict:
    """The verdict on an answer, or on none."""
    if answer is None:
        return Verdict.MISSING
    if answer.status is not Status.OK:
        return Verdict.FAILED
    if question.correct is None:
        return Verdict.UNGRADED
    return Verdict.RIGHT if answer.option == question.correct else Verdict.WRONG


def outcome(answer: Read) -> object:
    """What must be the same for two answers to agree."""
    return answer.option if answer.status is Status.OK else answer.status


def stage_notes(relevance: Told | None, selection: Told | None) -> tuple[Note, ...]:
    """The failures of a first stage."""
    notes: list[Note] = []
    if relevance and relevance.status is not Status.OK:
        notes.append(Note("sampler", words(relevance.status), relevance.detail))
    if selection and selection.status is not Status.OK:
        note = Note("selection", words(selection.status), selection.detail)
        # The selection keeps its sampler's failure, which is shown once.
        if not _is_repeated(note, notes):
            notes.append(note)
    return tuple(notes)


def answer_note(answer: Told, has_frames: bool, before: Sequence[Note]) -> Note | None:
    """The failure of an answer; None for a success, and for want of frames where ``before`` says why there are none."""
    if answer.status is Status.OK:
        return None
    note = Note("answerer", words(answer.status), answer.detail)
    return None if not has_frames and _is_repeated(note, before) else note


def words(status: Status) -> str:
    """``no_evidence`` is ``no evidence``."""
    return status.value.replace("_", " ")


def _is_repeated(note: Note, before: Sequence[Note]) -> bool:
    return any(note.status == earlier.status and note.detail in ("", earlier.detail) for earlier in before)


_NOTHING = QuestionBrief()
_FirstStage = tuple[str, SelectionBrief | None, RelevanceBrief | None]


def _outline(number: int, question: Question, runs: Sequence[RunArtefacts]) -> Outline:
    is_marked = False
    outcomes: set[object] = set()
    failed: dict[_FirstStage, list[QuestionBrief]] = {}
    """What has a failure, by first stage: runs of one share its failures."""
    for run in runs:
        brief = run.briefs.of.get(question.id, _NOTHING)
        relevance, chosen, answer = brief
        if answer is not None:
            outcomes.add(outcome(answer))
        found = verdict(question, answer) if run.answerer else Verdict.UNGRADED
        is_marked |= found not in (Verdict.RIGHT, Verdict.UNGRADED)
        is_marked |= chosen is not None and chosen.recall is not None and chosen.recall < 1
        if any(said is not None and said.status is not Status.OK for said in brief):
            failed.setdefault((run.sampler, chosen, relevance), []).append(brief if run.answerer else _NOTHING)
    notes: list[Note] = []
    answered: list[Note] = []
    for (_, chosen, relevance), briefs in failed.items():
        of_stage = stage_notes(relevance, chosen)
        notes += of_stage
        for brief in briefs:
            note = brief.answer and answer_note(brief.answer, bool(chosen and chosen.frames), of_stage)
            answered += [note] if note else []
    is_marked |= bool(notes) or (bool(question.options) and len(outcomes) > 1)
    return Outline(number, question, is_marked, (*notes, *answered))
