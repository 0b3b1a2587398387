"""Moves questions, scores and frames from one stage to the next. The one module that knows both stages.

Each stage writes a row as soon as it is finished and passes over the rows that stand already, so that the same command
goes on where it was interrupted. Failures of one question or one video are rows too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.artefacts.cache import RelevanceCache, relevance_key
from pipeline.artefacts.folder import ANSWERS_FILE, RELEVANCE_FILE, SELECTIONS_FILE
from pipeline.artefacts.journal import Journal
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.config import digest
from pipeline.domain import Answer, Frame, Question, Relevance, Selection, Status, Video
from pipeline.errors import VideoError
from pipeline.progress import track
from pipeline.samplers import ChecksQuestions, Sampler
from pipeline.selection import SelectionPolicy
from pipeline.video import Reader


def sample(
    questions: Sequence[Question], sampler: Sampler, reader: Reader, cache: RelevanceCache, folder: Path
) -> list[RelevanceRow]:
    """Stage 1: the relevance of every question, video by video, from the cache where it has been computed before.

    The sampler's model is loaded only if some question of some video is not in the cache.

    Raises:
        InputError: the sampler cannot score these questions, found before anything is scored.
    """
    if isinstance(sampler, ChecksQuestions):
        sampler.check(questions)
    identity = sampler.identity()
    rows: dict[str, RelevanceRow] = {}
    videos = _by_video(questions)
    with Journal(RelevanceRow, folder / RELEVANCE_FILE) as journal, track("sampling", len(questions)) as advance:
        for path, asked in videos.items():
            try:
                video = reader.probe(path)
            except VideoError as error:
                found = [_unread(question, sampler, error) for question in asked]
            else:
                keys = [relevance_key(video.fingerprint, sampler.query(question), identity) for question in asked]
                found = _relevances(video, asked, keys, sampler, reader, cache)
            for row in found:
                if journal.find(row.question.id, row.key) != row:
                    journal.append(row)
                rows[row.question.id] = row
            advance(len(asked))
    return [rows[question.id] for question in questions]


def select(relevances: Sequence[RelevanceRow], policy: SelectionPolicy, folder: Path) -> list[SelectionRow]:
    """Cut a selection from every relevance; cheap enough to be done anew each time."""
    identity = policy.identity()
    rows: list[SelectionRow] = []
    with Journal(SelectionRow, folder / SELECTIONS_FILE) as journal:
        for given in relevances:
            if given.video is None:
                selection = Selection(
                    question_id=given.question.id,
                    frames=(),
                    policy=policy.name,
                    budget=policy.budget,
                    status=given.relevance.status,
                    detail=given.relevance.detail,
                )
            else:
                selection = policy.select(given.relevance, given.video)
            key = digest({"relevance": given.key, "policy": identity})
            row = SelectionRow(key, given.sampler, given.question, given.video, selection)
            if journal.find(row.question.id, key) != row:
                journal.append(row)
            rows.append(row)
    return rows


def take(selections: Sequence[SelectionRow], folder: Path) -> None:
    """Copy the selections of another run into this one's folder, which is thereby complete in itself."""
    with Journal(SelectionRow, folder / SELECTIONS_FILE) as journal:
        for row in selections:
            if journal.find(row.question.id, row.key) != row:
                journal.append(row)


def answer(
    selections: Sequence[SelectionRow], answerer: Answerer, reader: Reader, batch: int, folder: Path
) -> list[AnswerRow]:
    """Stage 2: an answer to every question from its selected frames alone, ``batch`` questions at a time."""
    identity = answerer.identity()
    done: dict[str, AnswerRow] = {}
    open_rows: list[tuple[str, SelectionRow]] = []
    with Journal(AnswerRow, folder / ANSWERS_FILE) as journal, track("answering", len(selections)) as advance:
        for row in selections:
            key = _answer_key(row, identity)
            kept = journal.find(row.question.id, key)
            if kept is not None and kept.answer.status.is_final:
                done[row.question.id] = kept
                advance(1)
            else:
                open_rows.append((key, row))
        # Questions of one video next to each other: it is decoded once for those of a batch.
        first_seen = {row.question.video: place for place, row in reversed(list(enumerate(selections)))}
        open_rows.sort(key=lambda item: first_seen[item[1].question.video])
        for start in range(0, len(open_rows), batch):
            part = open_rows[start : start + batch]
            answers = _answers([row for _, row in part], answerer, reader)
            for (key, row), given in zip(part, answers, strict=True):
                finished = AnswerRow(key, row.sampler, answerer.name, row.question, given)
                journal.append(finished)
                done[row.question.id] = finished
            advance(len(part))
    return [done[row.question.id] for row in selections]


def _by_video(questions: Iterable[Question]) -> dict[str, list[Question]]:
    videos: dict[str, list[Question]] = {}
    for question in questions:
        videos.setdefault(question.video, []).append(question)
    return videos


def _relevances(
    video: Video,
    questions: Sequence[Question],
    keys: Sequence[str],
    sampler: Sampler,
    reader: Reader,
    cache: RelevanceCache,
) -> list[RelevanceRow]:
    known = [cache.find(key, question.id) for key, question in zip(keys, questions, strict=True)]
    missing = [index for index, relevance in enumerate(known) if relevance is None]
    if missing:
        asked = [questions[index] for index in missing]
        try:
            with reader.open(video.path) as frames:
                scored = sampler.score(video, frames, asked)
        except VideoError as error:
            scored = [_failed(question, error) for question in asked]
        for index, relevance in zip(missing, scored, strict=True):
            cache.keep(keys[index], relevance)
            known[index] = relevance
    return [
        RelevanceRow(key, sampler.name, question, video, relevance)
        for key, question, relevance in zip(keys, questions, known, strict=True)
        if relevance is not None
    ]


def _failed(question: Question, error: VideoError) -> Relevance:
    return Relevance(question.id, (), (), status=error.status, detail=str(error))


def _unread(question: Question, sampler: Sampler, error: VideoError) -> RelevanceRow:
    return RelevanceRow(digest({"video": question.video}), sampler.name, question, None, _failed(question, error))


def _answer_key(row: SelectionRow, identity: object) -> str:
    shown = [(frame.time, frame.index) for frame in row.selection.frames]
    asked = (row.question.text, row.question.options)
    fingerprint = None if row.video is None else row.video.fingerprint
    return digest({"video": fingerprint, "frames": shown, "question": asked, "answerer": identity})


def _answers(rows: Sequence[SelectionRow], answerer: Answerer, reader: Reader) -> list[Answer]:
    """The answers of one batch; rows without frames, and videos that fail now, never reach the model."""
    answers: dict[str, Answer] = {}
    requests: list[AnswerRequest] = []
    shown: dict[str, tuple[Frame, ...]] = {}
    for path, same_video in _rows_by_video(rows).items():
        try:
            shown.update(_frames(path, same_video, reader))
        except VideoError as error:
            for row in same_video:
                answers[row.question.id] = Answer(row.question.id, "", status=error.status, detail=str(error))
    for row in rows:
        question = row.question
        if row.video is None or not row.selection.frames:
            status = row.selection.status if row.selection.status is not Status.OK else Status.NO_FRAMES
            answers[question.id] = Answer(question.id, "", status=status, detail=row.selection.detail)
        elif question.id not in answers:
            requests.append(AnswerRequest(question, row.video, shown[question.id]))
    if requests:
        for given in answerer.answer(requests):
            answers[given.question_id] = given
    return [answers[row.question.id] for row in rows]


def _rows_by_video(rows: Iterable[SelectionRow]) -> dict[str, list[SelectionRow]]:
    videos: dict[str, list[SelectionRow]] = {}
    for row in rows:
        if row.video is not None and row.selection.frames:
            videos.setdefault(row.video.path, []).append(row)
    return videos


def _frames(path: str, rows: Sequence[SelectionRow], reader: Reader) -> dict[str, tuple[Frame, ...]]:
    """The selected frames of several questions from one pass over their video."""
    wanted = sorted({frame.time for row in rows for frame in row.selection.frames})
    with reader.open(path) as source:
        at = dict(zip(wanted, source.frames_at(wanted), strict=True))
    return {row.question.id: tuple(at[frame.time] for frame in row.selection.frames) for row in rows}
