"""Moves questions, scores and frames from one stage to the next. The one module that knows both stages.

Each stage writes a row as soon as it is finished and passes over the rows that stand already, so that the same command
goes on where it was interrupted. Failures of one question or one video are rows too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.answerers.over_limit import OverLimit, best
from pipeline.artefacts.cache import RelevanceCache, relevance_key
from pipeline.artefacts.folder import ANSWERS_FILE, RELEVANCE_FILE, SELECTIONS_FILE
from pipeline.artefacts.journal import Journal
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.config import digest
from pipeline.domain import Answer, Frame, Question, Relevance, Selection, Video
from pipeline.errors import StretchError, VideoError
from pipeline.material import Material, answer_key, material
from pipeline.progress import track
from pipeline.samplers import ChecksQuestions, Sampler
from pipeline.selection import SelectionPolicy
from pipeline.selection.native import native_index
from pipeline.subtitles import Listener, Said, SubtitleChoice
from pipeline.video import Reader
from pipeline.video.stretch import StretchFrames, by_span, stretch

_DECODED_BYTES = 2**30
"""Of frames that wait to be prepared: 16 questions of 64 frames each in 4K would be 25 GB."""


def sample(
    questions: Sequence[Question], sampler: Sampler, reader: Reader, cache: RelevanceCache, folder: Path
) -> list[RelevanceRow]:
    """Stage 1: the relevance of every question, video by video, from the cache where it has been computed before.

    The sampler's model is loaded only if some question of some video is not in the cache. Questions that may see
    different stretches of a video are scored apart, each over its own stretch.

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
                found = [
                    row
                    for same in by_span(asked).values()
                    for row in _relevances(video, same, identity, sampler, reader, cache)
                ]
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
                selection = _selected(given.relevance, given.question, given.video, policy)
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
    selections: Sequence[SelectionRow],
    answerer: Answerer,
    reader: Reader,
    over_limit: OverLimit,
    subtitles: SubtitleChoice,
    batch: int,
    folder: Path,
) -> list[AnswerRow]:
    """Stage 2: an answer to every question from its selected frames, ``batch`` questions at a time.

    Beside them stand the lines of subtitles that go with them, where they are asked for.
    """
    identity = {**answerer.identity(), "over_limit": over_limit.value}
    done: dict[str, AnswerRow] = {}
    asked: dict[str, tuple[str, SelectionRow]] = {}
    open_ones: list[Material] = []
    listener = Listener(subtitles)
    with Journal(AnswerRow, folder / ANSWERS_FILE) as journal, track("answering", len(selections)) as advance:

        def finish(given: Answer) -> None:
            key, row = asked.pop(given.question_id)
            finished = AnswerRow(key, row.sampler, answerer.name, row.question, given)
            journal.append(finished)
            done[given.question_id] = finished
            advance(1)

        for row in selections:
            given = material(row, listener)
            key = answer_key(row, given, subtitles, identity)
            kept = journal.find(row.question.id, key)
            if kept is not None and kept.answer.status.is_final:
                done[row.question.id] = kept
                advance(1)
                continue
            asked[row.question.id] = (key, row)
            if isinstance(given, Answer):
                finish(given)
            else:
                open_ones.append(given)
        shown = _Shown(open_ones, answerer, reader, over_limit, batch)
        with closing(answerer.answer(shown.requests(), batch)) as answers:
            for given in answers:
                finish(shown.told(given))
                for failed in shown.failures():
                    finish(failed)
        for failed in shown.failures():
            finish(failed)
    return [done[row.question.id] for row in selections]


def _selected(relevance: Relevance, question: Question, video: Video, policy: SelectionPolicy) -> Selection:
    """Cut from what the question may see of the video, with the frame numbers of the whole."""
    view = stretch(video, question.span)
    selection = policy.select(relevance, view)
    if view is video:
        return selection
    frames = (replace(frame, index=native_index(frame.time, video)) for frame in selection.frames)
    return replace(selection, frames=tuple(frames))


def _by_video(questions: Iterable[Question]) -> dict[str, list[Question]]:
    videos: dict[str, list[Question]] = {}
    for question in questions:
        videos.setdefault(question.video, []).append(question)
    return videos


def _relevances(
    video: Video,
    questions: Sequence[Question],
    identity: Mapping[str, Any],
    sampler: Sampler,
    reader: Reader,
    cache: RelevanceCache,
) -> list[RelevanceRow]:
    """Of questions that may all see the same of the video."""
    try:
        view = stretch(video, questions[0].span)
    except StretchError as error:
        return [_unread(question, sampler, error) for question in questions]
    keys = [relevance_key(view.fingerprint, sampler.query(question), identity) for question in questions]
    known = [cache.find(key, question.id) for key, question in zip(keys, questions, strict=True)]
    missing = [index for index, relevance in enumerate(known) if relevance is None]
    if missing:
        asked = [questions[index] for index in missing]
        try:
            with reader.open(video.path) as frames:
                scored = sampler.score(view, frames if view is video else StretchFrames(view, frames), asked)
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


class _Shown:
    """The requests of a run, made as they are drawn, from whatever thread; and what did not become one.

    Questions of one video come next to each other, ``batch`` at a time at most from one pass over its frames.
    """

    def __init__(
        self, materials: Sequence[Material], answerer: Answerer, reader: Reader, over_limit: OverLimit, batch: int
    ) -> None:
        self._materials = {each.row.question.id: each for each in materials}
        self._answerer = answerer
        self._reader = reader
        self._over_limit = over_limit
        self._batch = batch
        self._failed: SimpleQueue[Answer] = SimpleQueue()
        self._left_out: dict[str, tuple[float, ...]] = {}
        self._said: dict[str, Said] = {}

    def requests(self) -> Iterator[AnswerRequest]:
        """One a question, except for those whose frames cannot be read now."""
        for path, same_video in _rows_by_video(each.row for each in self._materials.values()).items():
            for rows in _passes(same_video, self._batch):
                try:
                    frames = _frames(path, rows, self._reader)
                except VideoError as error:
                    for row in rows:
                        self._failed.put(Answer(row.question.id, "", status=error.status, detail=str(error)))
                    continue
                for row in rows:
                    yield self._within_limit(row, frames.pop(row.question.id))

    def failures(self) -> Iterator[Answer]:
        """The questions that did not become requests since this was last asked."""
        while not self._failed.empty():
            yield self._failed.get()

    def told(self, given: Answer) -> Answer:
        """The answer with the subtitles that went with it, and the frames that were left out of its request."""
        said = self._said.pop(given.question_id, self._materials[given.question_id].said).told()
        form = "; ".join(part for part in (given.form, said) if part)
        return replace(given, form=form, left_out=self._left_out.pop(given.question_id, ()))

    def _within_limit(self, row: SelectionRow, frames: Sequence[Frame]) -> AnswerRequest:
        given = self._materials[row.question.id]
        request = AnswerRequest(row.question, given.view, tuple(frames), given.said.lines)
        if self._over_limit is OverLimit.REFUSE:
            return request
        capacity = self._answerer.capacity(request)
        if capacity < len(frames) and given.said.lines:
            capacity = self._fitting_with_lines(row, request)
        if not 0 < capacity < len(frames):
            return request
        shown = self._best(row, request, capacity)
        self._said[row.question.id] = replace(given.said, lines=shown.subtitles)
        times = {frame.time for frame in shown.frames}
        self._left_out[row.question.id] = tuple(frame.time for frame in frames if frame.time not in times)
        return shown

    def _best(self, row: SelectionRow, request: AnswerRequest, count: int) -> AnswerRequest:
        """With so many frames alone, the best, and the lines that go with these."""
        kept = best(row.selection.frames, count)
        lines = self._materials[row.question.id].said.at([row.selection.frames[place].time for place in kept])
        return replace(request, frames=tuple(request.frames[place] for place in kept), subtitles=lines)

    def _fitting_with_lines(self, row: SelectionRow, request: AnswerRequest) -> int:
        """How many frames fit where each brings lines of its own, so that it depends on which they are."""
        fits, exceeds = 0, len(request.frames)
        while exceeds - fits > 1:
            count = (fits + exceeds) // 2
            if self._answerer.capacity(self._best(row, request, count)) == count:
                fits = count
            else:
                exceeds = count
        return fits


def _rows_by_video(rows: Iterable[SelectionRow]) -> dict[str, list[SelectionRow]]:
    videos: dict[str, list[SelectionRow]] = {}
    for row in rows:
        assert row.video is not None
        videos.setdefault(row.video.path, []).append(row)
    return videos


def _passes(rows: Sequence[SelectionRow], batch: int) -> Iterator[list[SelectionRow]]:
    """Questions of one video whose frames are decoded in one pass: as many as may be held at once, at least one."""
    together: list[SelectionRow] = []
    times: set[float] = set()
    for row in rows:
        assert row.video is not None
        wanted = times | {frame.time for frame in row.selection.frames}
        held = len(wanted) * row.video.width * row.video.height * 3
        if together and (len(together) == batch or held > _DECODED_BYTES):
            yield together
            together, wanted = [], {frame.time for frame in row.selection.frames}
        together.append(row)
        times = wanted
    if together:
        yield together


def _frames(path: str, rows: Sequence[SelectionRow], reader: Reader) -> dict[str, tuple[Frame, ...]]:
    """The selected frames of several questions from one pass over their video."""
    wanted = sorted({frame.time for row in rows for frame in row.selection.frames})
    with reader.open(path) as source:
        at = dict(zip(wanted, source.frames_at(wanted), strict=True))
    return {row.question.id: tuple(at[frame.time] for frame in row.selection.frames) for row in rows}
