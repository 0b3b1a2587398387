"""Moves questions, scores and frames from one stage to the next. The one module that knows both stages.

Each stage writes a row as soon as it is finished and passes over the rows that stand already, so that the same command
goes on where it was interrupted. Failures of one question or one video are rows too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.answerers import Answerer, AnswerRequest, Repeats
from pipeline.answerers.over_limit import OverLimit, best
from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.artefacts.folder import ANSWERS_FILE, RELEVANCE_FILE, SELECTIONS_FILE
from pipeline.artefacts.journal import Journal
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.domain import Answer, Frame, Question, Relevance, SelectedFrame, Selection, Status, Video
from pipeline.errors import ChangedVideoError, StretchError, VideoError
from pipeline.identity import answer_key, digest, identity_of, relevance_key
from pipeline.material import Material, asked_of, material
from pipeline.progress import track
from pipeline.samplers import ChecksQuestions, Sampler
from pipeline.selection import SelectionPolicy
from pipeline.selection.native import native_index
from pipeline.subtitles import Listener, Said, SubtitleChoice
from pipeline.terminal import remark
from pipeline.validation import checked_answer, checked_relevances, checked_selection
from pipeline.video import Reader
from pipeline.video.stretch import StretchFrames, by_span, stretch

_DECODED_BYTES = 2**30
"""Of frames that wait to be prepared: 16 questions of 64 frames each in 4K would be 25 GB."""


def sample(
    questions: Sequence[Question],
    sampler: Sampler,
    reader: Reader,
    cache: RelevanceCache,
    folder: Path,
) -> Iterator[RelevanceRow]:
    """Stage 1: the relevance of every question, video by video, from the cache where it has been computed before.

    A stream in the order of the videos: no more than the rows of one video are in memory. The sampler's model is loaded
    only if some question of some video is not in the cache. Questions that may see different stretches of a video are
    scored apart, each over its own stretch.

    Raises:
        InputError: the sampler cannot score these questions, found before anything is scored.
    """
    if isinstance(sampler, ChecksQuestions):
        sampler.check(questions)
    identity = identity_of(sampler)
    videos = _by_video(question for question in questions if not question.fault)
    with Journal(RelevanceRow, folder / RELEVANCE_FILE) as journal:
        _tell_outdated(journal)
        with track("sampling", len(questions)) as advance:
            for row in [_unasked(question, sampler) for question in questions if question.fault]:
                journal.keep(row)
                yield row
                advance(1)
            for path, same_video in videos.items():
                try:
                    video = reader.probe(path)
                except VideoError as error:
                    found = [_unread(question, sampler, error) for question in same_video]
                else:
                    found = [
                        row
                        for same_span in by_span(same_video).values()
                        for row in _relevances(video, same_span, identity, sampler, reader, cache)
                    ]
                for row in found:
                    journal.keep(row)
                    yield row
                advance(len(same_video))


def select(
    relevances: Iterable[RelevanceRow],
    policy: SelectionPolicy,
    reader: Reader,
    folder: Path,
) -> list[SelectionRow]:
    """Cut a selection from every relevance as it comes; cheap enough to be done anew each time."""
    identity = identity_of(policy)
    rows: list[SelectionRow] = []
    with Journal(SelectionRow, folder / SELECTIONS_FILE) as journal:
        _tell_outdated(journal)
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
                selection = _selected(given.relevance, given.question, given.video, policy, reader)
            key = digest({"relevance": given.key, "policy": identity})
            row = SelectionRow(key, given.sampler, given.question, given.video, selection)
            journal.keep(row)
            rows.append(row)
    return rows


def take(selections: Sequence[SelectionRow], folder: Path) -> None:
    """Copy the selections of another run into this one's folder, which is thereby complete in itself."""
    with Journal(SelectionRow, folder / SELECTIONS_FILE) as journal:
        for row in selections:
            journal.keep(replace(row, schema=SelectionRow.schema))


def answer(
    selections: Sequence[SelectionRow],
    answerer: Answerer,
    reader: Reader,
    cache: AnswerCache,
    over_limit: OverLimit,
    subtitles: SubtitleChoice,
    batch: int,
    folder: Path,
) -> list[AnswerRow]:
    """Stage 2: an answer to every question from its selected frames, ``batch`` questions at a time.

    The lines of subtitles that go with the frames are given to the answerer where they are asked for. An answer that
    this run or, for an answerer that repeats itself, any run has given stands; it is joined with the question as it is
    now.
    """
    identity = {**identity_of(answerer), "over_limit": over_limit.value}
    shared = cache if isinstance(answerer, Repeats) and answerer.is_repeatable else None
    done: dict[str, AnswerRow] = {}
    waiting: dict[str, tuple[str, SelectionRow]] = {}
    open_ones: list[Material] = []
    listener = Listener(subtitles)
    with Journal(AnswerRow, folder / ANSWERS_FILE) as journal:
        _tell_outdated(journal)
        with track("answering", len(selections)) as advance:

            def finish(given: Answer) -> None:
                key, row = waiting.pop(given.question_id)
                finished = AnswerRow(key, row.sampler, answerer.name, row.question, given)
                journal.append(finished)
                if shared is not None:
                    shared.keep(key, given)
                done[given.question_id] = finished
                advance(1)

            for row in selections:
                given = material(row, listener)
                key = answer_key(identity, asked_of(row, given, subtitles, over_limit))
                kept = journal.find(row.question, key)
                if kept is not None and kept.answer.is_final:
                    done[row.question.id] = kept
                    advance(1)
                    continue
                waiting[row.question.id] = (key, row)
                known = shared.find(key, row.question.id) if shared is not None else None
                if known is not None:
                    finish(known)
                elif isinstance(given, Answer):
                    finish(given)
                else:
                    open_ones.append(given)
            shown = _Shown(open_ones, answerer, reader, over_limit, batch)
            with closing(answerer.answer(shown.requests(), batch)) as answers:
                for given in answers:
                    question = waiting[given.question_id][1].question
                    finish(shown.told(checked_answer(given, question, answerer.name)))
                    for failed in shown.failures():
                        finish(failed)
            for failed in shown.failures():
                finish(failed)
    return [done[row.question.id] for row in selections]


def unanswered(
    selections: Sequence[SelectionRow],
    answerer: Answerer,
    cache: AnswerCache,
    over_limit: OverLimit,
    subtitles: SubtitleChoice,
) -> list[SelectionRow]:
    """The selections for which stage 2 would ask its model: no earlier run has given their answer."""
    identity = {**identity_of(answerer), "over_limit": over_limit.value}
    is_shared = isinstance(answerer, Repeats) and answerer.is_repeatable
    listener = Listener(subtitles)
    left = []
    for row in selections:
        given = material(row, listener)
        if isinstance(given, Answer):
            continue
        key = answer_key(identity, asked_of(row, given, subtitles, over_limit))
        if not is_shared or cache.find(key, row.question.id) is None:
            left.append(row)
    return left


def _tell_outdated(journal: Journal[Any]) -> None:
    """Rows of an earlier version stay in the file; what they say is computed again and appended."""
    if journal.outdated:
        remark(
            f"{journal.path}: {journal.outdated} rows of an earlier version are kept, and their questions are computed "
            "again"
        )


def _selected(
    relevance: Relevance, question: Question, video: Video, policy: SelectionPolicy, reader: Reader
) -> Selection:
    """Cut from what the question may see of the video, with the frame numbers of the whole."""
    view = stretch(video, question.span)
    first = 0 if view is video else native_index(view.start, video)
    if relevance.indices is not None and first:
        local = replace(relevance, indices=tuple(index - first for index in relevance.indices))
    else:
        local = relevance
    selection = checked_selection(policy.select(local, view), question, policy.budget, policy.name)
    frames = [replace(frame, index=frame.index + first) for frame in selection.frames] if first else selection.frames
    if not video.is_even and relevance.status not in (Status.MISSING_VIDEO, Status.UNREADABLE_VIDEO):
        frames = _on_the_real_clock(frames, set(relevance.times), view is video, reader.times(video.path))
    return replace(selection, frames=tuple(frames))


def _on_the_real_clock(
    frames: Iterable[SelectedFrame], decoded: Collection[float], whole: bool, times: npt.NDArray[np.float64]
) -> list[SelectedFrame]:
    """Moments at which nothing was decoded yet, where frames are not evenly spaced: each real frame once.

    Frames that were spread over the whole video have the index that they are to have; the others a second.
    """
    found: dict[int, SelectedFrame] = {}
    for frame in frames:
        if frame.time not in decoded:
            last = len(times) - 1
            place = frame.index if whole else int(np.searchsorted(times, frame.time + 1e-3, side="right")) - 1
            place = min(max(place, 0), last)
            real = replace(frame, index=place, time=float(times[place]))
        else:
            real = frame
        found.setdefault(real.index, real)
    return [found[index] for index in sorted(found)]


def _unasked(question: Question, sampler: Sampler) -> RelevanceRow:
    """Of a question that cannot be asked: its benchmark's row cannot be used."""
    relevance = Relevance(question.id, (), (), status=Status.INVALID_QUESTION, detail=question.fault)
    return RelevanceRow(digest({"fault": question.fault}), sampler.name, question, None, relevance)


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
        scored = _scored(video, view, [questions[index] for index in missing], sampler, reader)
        for index, relevance in zip(missing, scored, strict=True):
            cache.keep(keys[index], relevance)
            known[index] = relevance
    return [
        RelevanceRow(key, sampler.name, question, video, relevance)
        for key, question, relevance in zip(keys, questions, known, strict=True)
        if relevance is not None
    ]


def _scored(
    video: Video, view: Video, questions: Sequence[Question], sampler: Sampler, reader: Reader
) -> list[Relevance]:
    """What the sampler says, checked, each candidate with the native index of its frame."""
    try:
        with reader.open(video.path) as frames:
            given = sampler.score(view, frames if view is video else StretchFrames(view, frames), questions)
            return [
                relevance
                if relevance.indices is not None
                else replace(relevance, indices=tuple(frames.indices_at(relevance.times)))
                for relevance in checked_relevances(given, questions, view, sampler.name)
            ]
    except VideoError as error:
        return [_failed(question, error) for question in questions]


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
        for (path, fingerprint), same_video in _rows_by_video(each.row for each in self._materials.values()).items():
            for rows in _passes(same_video, self._batch):
                try:
                    _check_unchanged(path, fingerprint, self._reader)
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


def _rows_by_video(rows: Iterable[SelectionRow]) -> dict[tuple[str, str], list[SelectionRow]]:
    """By path and fingerprint: a file may have been replaced between two selections."""
    videos: dict[tuple[str, str], list[SelectionRow]] = {}
    for row in rows:
        assert row.video is not None
        videos.setdefault((row.video.path, row.video.fingerprint), []).append(row)
    return videos


def _check_unchanged(path: str, fingerprint: str, reader: Reader) -> None:
    """Raise where the file at ``path`` is not the one that frames were selected from."""
    if reader.probe(path).fingerprint != fingerprint:
        raise ChangedVideoError(
            f"{path} is not the file that the frames were selected from: its content has changed",
            "select again with gens sample or gens evaluate, or put the old file back",
        )


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
