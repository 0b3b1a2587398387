"""Grades the free answers of a run, and a judge by answers whose grade is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artefacts.grades import Calibration, GradedBy, graded_digest, is_graded, write_judge
from pipeline.artefacts.journal import Journal
from pipeline.artefacts.rows import AnswerRow, GradeRow
from pipeline.domain import Grade, Question, Status
from pipeline.errors import with_remedy
from pipeline.identity import digest
from pipeline.judging import GivenAnswer, Judge
from pipeline.progress import track
from pipeline.thoughts import split_thoughts
from pipeline.video import Reader

LISTED = "A, B, C or D"
"""An answer that decides for nothing."""


@dataclass(frozen=True)
class Graded:
    """What a run of the judge did."""

    statuses: tuple[Status, ...]
    """Of all grades."""
    asked: int
    """Answers that the judge was given. The others had a grade, or need none."""
    left: int
    """Answers beyond the limit."""


def free_questions(questions: Sequence[Question]) -> list[Question]:
    """Those that are answered in free text."""
    return [question for question in questions if is_graded(question)]


def graded_by(judge: Judge, notes: Sequence[str]) -> GradedBy:
    """What a run folder says of the judge; ``notes`` are those of the run."""
    return GradedBy(
        label=judge.label,
        lowest=judge.scale.lowest,
        highest=judge.scale.highest,
        mean_over=judge.mean_over,
        notes=(*judge.notes, *notes),
        settings=judge.identity(),
    )


def grade_run(
    questions: Sequence[Question],
    answer_of: Callable[[str], AnswerRow | None],
    judge: Judge,
    by: GradedBy,
    reader: Reader,
    folder: Path,
    limit: int | None,
) -> Graded:
    """Grade the answers of a run folder that have no grade by this judge yet.

    An answer that failed or says nothing gets the lowest score, and a question without a reference ``not_judged``; of
    neither is the judge asked. The others come in the order of their keys, which has nothing to do with their samplers.

    Raises:
        PipelineError: the judge can grade no answer, or the folder cannot be written.
    """
    write_judge(by, folder)
    identity = judge.identity()
    statuses: dict[str, Status] = {}
    waiting: dict[str, tuple[str, str, GivenAnswer]] = {}
    """By question: the key, the digest of the answer, and the answer as the judge is given it."""
    with Journal(GradeRow, by.rows(folder)) as rows:
        for question in free_questions(questions):
            answer = answer_of(question.id)
            if answer is None:
                continue
            made = _given(question, answer, judge)
            key = made.key(identity) if isinstance(made, GivenAnswer) else _key_without(identity, made)
            of = graded_digest(question, answer.answer)
            known = rows.find(question, key)
            if isinstance(made, Grade):
                statuses[question.id] = made.status
                rows.keep(GradeRow(key, question, of, made))
            elif known is not None and known.grade.status is Status.OK:
                statuses[question.id] = Status.OK
                rows.keep(replace(known, of=of))  # the same words after another thought
            else:
                waiting[question.id] = (key, of, made)
        chosen = sorted(waiting, key=lambda id_: (waiting[id_][0], id_))[:limit]
        with track("judging", len(chosen)) as advance:
            for grade in judge.grade((waiting[id_][2] for id_ in chosen), reader):
                key, of, given = waiting[grade.question_id]
                rows.append(GradeRow(key, given.question, of, grade))
                statuses[grade.question_id] = grade.status
                advance(1)
    return Graded(tuple(statuses.values()), len(chosen), len(waiting) - len(chosen))


def _given(question: Question, row: AnswerRow, judge: Judge) -> GivenAnswer | Grade:
    """What the judge is given, or the grade of an answer of which it is not asked."""
    lacking = judge.lacks(question)
    if lacking is not None:
        detail = with_remedy(
            f"the question has no {lacking.removeprefix('a ')}",
            "give it one, or leave it out of the figure: it counts as not judged",
        )
        return Grade(question.id, None, status=Status.NOT_JUDGED, detail=detail)
    said = row.answer
    text = split_thoughts(said.text).answer.strip()
    if said.status is not Status.OK:
        return Grade(question.id, judge.scale.lowest, detail=f"the answer failed: {said.status}")
    if not text:
        return Grade(question.id, judge.scale.lowest, detail="the answer is empty")
    return GivenAnswer(question, text)


def _key_without(identity: object, grade: Grade) -> str:
    """The key of a grade for which the judge is not asked."""
    return digest({"judge": identity, "grade": [grade.score, grade.status, grade.detail]})


def calibrated(judge: Judge, questions: Sequence[Question], reader: Reader, most: int) -> Calibration:
    """Have the judge grade answers whose grade is known: references, references of other questions, and no decision.

    Args:
        judge: who is calibrated.
        questions: of a run.
        reader: for rubrics that show the video.
        most: questions of which answers are made, chosen by the digest of their text.

    Raises:
        PipelineError: the judge can grade no answer.
    """
    asked = [each for each in free_questions(questions) if each.reference.strip() and judge.lacks(each) is None]
    asked = sorted(asked, key=lambda each: digest([each.text, each.reference]))[:most]
    answers = {
        "gold": {each.id: each.reference for each in asked},
        "shuffled": dict(_shuffled(asked)),
        "listed": {each.id: LISTED for each in asked},
    }
    shares: dict[str, float | None] = {}
    failed = 0
    with track("calibrating", sum(map(len, answers.values()))) as advance:
        for kind, texts in answers.items():
            given = [GivenAnswer(each, texts[each.id]) for each in asked if each.id in texts]
            scores: list[float] = []
            for grade in judge.grade(given, reader):
                advance(1)
                if grade.score is None:
                    failed += 1
                else:
                    scores.append(_share(grade.score, judge))
            shares[kind] = sum(scores) / len(scores) if scores else None
    return Calibration(len(asked), shares["gold"], shares["shuffled"], shares["listed"], failed)


def _share(score: float, judge: Judge) -> float:
    lowest, highest = judge.scale.lowest, judge.scale.highest
    return (score - lowest) / (highest - lowest)


def _shuffled(questions: Sequence[Question]) -> Iterator[tuple[str, str]]:
    """For each question the next reference that is another one; none where all are equal."""
    for place, question in enumerate(questions):
        others = (*questions[place + 1 :], *questions[:place])
        other = next((each for each in others if _differ(each.reference, question.reference)), None)
        if other is not None:
            yield question.id, other.reference


def _differ(one: str, other: str) -> bool:
    return one.split() != other.split() and one.casefold().split() != other.casefold().split()
