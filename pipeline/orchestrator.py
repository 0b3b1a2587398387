"""Moves questions, scores and frames from one stage to the next. The one module that knows both stages.

Each stage writes a row as soon as it is finished and skips the rows that are there already, so that the same command
continues where it was interrupted. Failures of one question or one video are rows too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.answer_requests import OverLimit, Requests, key_content, question_input
from pipeline.answerers import Answerer, Repeats
from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.artefacts.folder import ANSWERS_FILE, RELEVANCE_FILE, SELECTIONS_FILE
from pipeline.artefacts.journal import Journal
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.artefacts.stored import StoredRows
from pipeline.domain import Answer, FrameSource, Question, Relevance, SelectedFrame, Selection, Status, Video
from pipeline.errors import ClipError, VideoError
from pipeline.execution.events import following
from pipeline.identity import answer_key, digest, identity_of, relevance_key
from pipeline.samplers import ChecksQuestions, Sampler, ScoresStreams, Work
from pipeline.selection import SelectionPolicy
from pipeline.selection.native import native_index
from pipeline.subtitles import SubtitleChoice, SubtitleFinder
from pipeline.terminal import remark
from pipeline.validation import checked_answer, checked_relevances, checked_selection
from pipeline.video import Reader
from pipeline.video.clip import ClipFrames, by_span, clip_of


def sample(
    questions: Sequence[Question],
    sampler: Sampler,
    reader: Reader,
    cache: RelevanceCache,
    folder: Path,
) -> Iterator[RelevanceRow]:
    """Stage 1: the relevance of every question, video by video, from the cache where it has been computed before.

    Yields rows in the order of the videos and holds those of one video at a time. The sampler's model is loaded only if
    some question is not in the cache. Questions that may see different clips of a video are scored separately.

    Raises:
        InputError: the sampler cannot score these questions, found before anything is scored.
    """
    if isinstance(sampler, ChecksQuestions):
        sampler.check(questions)
    identity = identity_of(sampler)
    videos = _by_video(question for question in questions if not question.fault)
    reader.expect(list(videos))
    with Journal(RelevanceRow, folder / RELEVANCE_FILE) as journal:
        _report_outdated(journal)
        with following("sampling", len(questions), cache) as finished:
            for row in [_invalid(question, sampler) for question in questions if question.fault]:
                finished(row.relevance.status, kept=journal.keep(row))
                yield row
            parts = (
                part for path, asked in videos.items() for part in _parts(path, asked, identity, sampler, reader, cache)
            )
            for part in _scored_parts(parts, sampler, reader, cache):
                for row in part.rows(sampler):
                    finished(row.relevance.status, kept=journal.keep(row))
                    yield row


def select(
    relevances: Iterable[RelevanceRow],
    policy: SelectionPolicy,
    reader: Reader,
    folder: Path,
) -> StoredRows[SelectionRow]:
    """Select frames by every relevance as it comes. This is cheap, so it is done again in every run.

    Returns the rows in the order of the relevances; they stay on the disk.
    """
    identity = identity_of(policy)
    asked: dict[str, Question] = {}
    with Journal(SelectionRow, folder / SELECTIONS_FILE) as journal:
        _report_outdated(journal)
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
            asked[row.question.id] = row.question
    return StoredRows(SelectionRow, folder / SELECTIONS_FILE, asked).in_order(asked)


def copy_selections(selections: Sequence[SelectionRow], folder: Path) -> StoredRows[SelectionRow]:
    """Copy the selections of another run into this run's folder, so that the folder is complete in itself.

    Returns the copies, which stay on the disk.
    """
    with Journal(SelectionRow, folder / SELECTIONS_FILE) as journal:
        for row in selections:
            journal.keep(replace(row, schema=SelectionRow.schema))
    asked = {row.question.id: row.question for row in selections}
    return StoredRows(SelectionRow, folder / SELECTIONS_FILE, asked).in_order(asked)


def answer(
    selections: Sequence[SelectionRow],
    answerer: Answerer,
    reader: Reader,
    cache: AnswerCache,
    over_limit: OverLimit,
    subtitles: SubtitleChoice,
    batch: int,
    folder: Path,
) -> StoredRows[AnswerRow]:
    """Stage 2: an answer to every question from its selected frames, ``batch`` questions at a time.

    Answers of this run are kept, and so are those of any other run if the answerer is repeatable. They are joined with
    the question as it is now. Selections are read from ``selections`` as they are needed, and the rows that are
    returned, in their order, stay on the disk.
    """
    identity = {**identity_of(answerer), "over_limit": over_limit.value}
    shared = cache if isinstance(answerer, Repeats) and answerer.is_repeatable else None
    asked: dict[str, Question] = {}
    waiting: dict[str, tuple[str, int]] = {}
    """By question: the key of its answer, and the place of its selection."""
    finder = SubtitleFinder(subtitles)
    with Journal(AnswerRow, folder / ANSWERS_FILE) as journal:
        _report_outdated(journal)
        with following("answering", len(selections), cache) as finished:

            def finish(given: Answer) -> None:
                key, place = waiting.pop(given.question_id)
                row = selections[place]
                journal.append(AnswerRow(key, row.sampler, answerer.name, row.question, given))
                if shared is not None:
                    shared.keep(key, given)
                finished(given.status)

            by_video: dict[tuple[str, str], list[int]] = {}
            for place, row in enumerate(selections):
                asked[row.question.id] = row.question
                given = question_input(row, finder)
                key = answer_key(identity, key_content(row, given, subtitles, over_limit))
                kept = journal.find(row.question, key)
                if kept is not None and kept.answer.is_final:
                    finished(kept.answer.status, kept=True)
                    continue
                waiting[row.question.id] = (key, place)
                known = shared.find(key, row.question.id) if shared is not None else None
                if known is not None:
                    finish(known)
                elif isinstance(given, Answer):
                    finish(given)
                else:
                    # A file may have been replaced between two selections.
                    by_video.setdefault(given.file, []).append(place)
            inputs = ([question_input(selections[place], finder) for place in places] for places in by_video.values())
            requests = Requests(inputs, answerer, reader, over_limit, batch)
            with closing(answerer.answer(iter(requests), batch)) as answers:
                for given in answers:
                    finish(requests.recorded(checked_answer(given, asked[given.question_id], answerer.name)))
                    for failed in requests.failures():
                        finish(failed)
            for failed in requests.failures():
                finish(failed)
    return StoredRows(AnswerRow, folder / ANSWERS_FILE, asked).in_order(asked)


def unanswered(
    selections: Iterable[SelectionRow],
    answerer: Answerer,
    cache: AnswerCache,
    over_limit: OverLimit,
    subtitles: SubtitleChoice,
) -> Iterator[SelectionRow]:
    """The selections whose answers are not cached, for which stage 2 would ask its model."""
    identity = {**identity_of(answerer), "over_limit": over_limit.value}
    is_shared = isinstance(answerer, Repeats) and answerer.is_repeatable
    finder = SubtitleFinder(subtitles)
    for row in selections:
        given = question_input(row, finder)
        if isinstance(given, Answer):
            continue
        key = answer_key(identity, key_content(row, given, subtitles, over_limit))
        if not is_shared or cache.find(key, row.question.id) is None:
            yield row


def _report_outdated(journal: Journal[Any]) -> None:
    """Report how many rows of an earlier version stay in the file and are computed again."""
    if journal.outdated:
        remark(
            f"{journal.path}: {journal.outdated} rows of an earlier version are kept, and their questions are computed "
            "again"
        )


def _selected(
    relevance: Relevance, question: Question, video: Video, policy: SelectionPolicy, reader: Reader
) -> Selection:
    """Select from the question's clip, with the frame numbers of the whole video."""
    clip = clip_of(video, question.span)
    first = 0 if clip is video else native_index(clip.start, video)
    if relevance.indices is not None and first:
        local = replace(relevance, indices=tuple(index - first for index in relevance.indices))
    else:
        local = relevance
    selection = checked_selection(policy.select(local, clip), question, policy.budget, policy.name)
    frames = [replace(frame, index=frame.index + first) for frame in selection.frames] if first else selection.frames
    if not video.is_even and relevance.status not in (Status.MISSING_VIDEO, Status.UNREADABLE_VIDEO):
        frames = _at_real_frames(frames, set(relevance.times), clip is video, reader.times(video.path))
    return replace(selection, frames=tuple(frames))


def _at_real_frames(
    frames: Iterable[SelectedFrame], decoded: Collection[float], whole: bool, times: npt.NDArray[np.float64]
) -> list[SelectedFrame]:
    """Replace frames that were never decoded by real ones, each once, where frames are not evenly spaced.

    Frames that were spread over the whole video (``whole``) are found by their index, others by their time.
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


def _invalid(question: Question, sampler: Sampler) -> RelevanceRow:
    """The row of a question that cannot be asked, because its benchmark's row cannot be used."""
    relevance = Relevance(question.id, (), (), status=Status.INVALID_QUESTION, detail=question.fault)
    return RelevanceRow(digest({"fault": question.fault}), sampler.name, question, None, relevance)


def _by_video(questions: Iterable[Question]) -> dict[str, list[Question]]:
    videos: dict[str, list[Question]] = {}
    for question in questions:
        videos.setdefault(question.video, []).append(question)
    return videos


@dataclass(eq=False)
class _Part:
    """Questions that may all see the same clip of a video, with what is known of each."""

    questions: Sequence[Question]
    video: Video | None
    """None where it cannot be read."""
    clip: Video | None
    keys: Sequence[str]
    relevances: list[Relevance | None]

    @property
    def missing(self) -> list[int]:
        """Places of the questions that are not scored yet."""
        return [place for place, relevance in enumerate(self.relevances) if relevance is None]

    @property
    def asked(self) -> list[Question]:
        """Those questions."""
        return [self.questions[place] for place in self.missing]

    def rows(self, sampler: Sampler) -> list[RelevanceRow]:
        """One row a question."""
        return [
            RelevanceRow(key, sampler.name, question, self.video, relevance)
            for key, question, relevance in zip(self.keys, self.questions, self.relevances, strict=True)
            if relevance is not None
        ]

    def fill(self, scored: Sequence[Relevance], cache: RelevanceCache) -> None:
        """Take the relevances of the missing ones, and cache them."""
        for place, relevance in zip(self.missing, scored, strict=True):
            cache.keep(self.keys[place], relevance)
            self.relevances[place] = relevance


def _parts(
    path: str,
    questions: Sequence[Question],
    identity: Mapping[str, Any],
    sampler: Sampler,
    reader: Reader,
    cache: RelevanceCache,
) -> Iterator[_Part]:
    """The parts of one video, with what the cache knows."""
    try:
        video = reader.probe(path)
    except VideoError as error:
        yield _unreadable(questions, error)
        return
    for same_span in by_span(questions).values():
        try:
            clip = clip_of(video, same_span[0].span)
        except ClipError as error:
            yield _unreadable(same_span, error)
            continue
        keys = [relevance_key(clip.fingerprint, sampler.query(question), identity) for question in same_span]
        known = [cache.find(key, question.id) for key, question in zip(keys, same_span, strict=True)]
        yield _Part(same_span, video, clip, keys, known)


_CACHED_IN_A_ROW = 16
"""So many parts that are known wait for one that is scored before them; their rows are in memory meanwhile."""


def _scored_parts(parts: Iterator[_Part], sampler: Sampler, reader: Reader, cache: RelevanceCache) -> Iterator[_Part]:
    """The parts in their order, each with the relevances of all its questions."""
    for part in parts:
        if not part.missing:
            yield part
        elif isinstance(sampler, ScoresStreams):
            with closing(_Stream(reader, cache, chain([part], parts))) as stream:
                yield from stream.scored(sampler, sampler.score_stream(stream.works()))
        else:
            with closing(_Stream(reader, cache, iter([part]))) as stream:
                given = (_scored_alone(sampler, work) for work in stream.works())
                yield from stream.scored(sampler, given)


def _scored_alone(sampler: Sampler, work: Work) -> list[Relevance] | VideoError:
    try:
        return sampler.score(work.video, work.frames, work.questions)
    except VideoError as error:
        return error


class _Stream:
    """Parts on their way through a sampler; each video is open from when it is drawn until it is scored."""

    def __init__(self, reader: Reader, cache: RelevanceCache, parts: Iterator[_Part]) -> None:
        self._reader = reader
        self._cache = cache
        self._parts = parts
        self._begun: deque[tuple[_Part, FrameSource | None, ExitStack]] = deque()

    def works(self) -> Iterator[Work]:
        """What is to be scored, drawn as the sampler asks for it."""
        known = 0
        while known < _CACHED_IN_A_ROW and (part := next(self._parts, None)) is not None:
            files = ExitStack()
            frames: FrameSource | None = None
            if part.missing and part.video is not None and part.clip is not None:
                try:
                    source = files.enter_context(self._reader.open(part.video.path))
                    frames = source if part.clip is part.video else ClipFrames(part.clip, source)
                except VideoError as error:
                    part.fill([_failed(question, error) for question in part.asked], self._cache)
            self._begun.append((part, frames, files))
            known = known + 1 if frames is None else 0
            if frames is not None and part.clip is not None:
                yield Work(part.clip, frames, part.asked)

    def scored(self, sampler: Sampler, given: Iterator[list[Relevance] | VideoError]) -> Iterator[_Part]:
        """The parts in order, with the relevances that are given for the works."""
        for found in given:
            while self._begun[0][1] is None:
                yield self._finished(found, sampler)
            yield self._finished(found, sampler)
        while self._begun:  # works for which nothing was given fail by name
            yield self._finished([], sampler)

    def _finished(self, found: list[Relevance] | VideoError, sampler: Sampler) -> _Part:
        """The next part, with what was found if it was to be scored."""
        part, frames, files = self._begun.popleft()
        if frames is not None:
            with files:
                part.fill(_checked(found, part, frames, sampler), self._cache)
        return part

    def close(self) -> None:
        """Close the videos that are open."""
        for _, _, files in self._begun:
            files.close()


def _checked(
    given: list[Relevance] | VideoError, part: _Part, frames: FrameSource, sampler: Sampler
) -> list[Relevance]:
    """The sampler's relevances after validation, each candidate with the native index of its frame."""
    assert part.clip is not None
    try:
        if isinstance(given, VideoError):
            raise given
        return [
            relevance
            if relevance.indices is not None
            else replace(relevance, indices=tuple(frames.indices_at(relevance.times)))
            for relevance in checked_relevances(given, part.asked, part.clip, sampler.name)
        ]
    except VideoError as error:
        return [_failed(question, error) for question in part.asked]


def _failed(question: Question, error: VideoError) -> Relevance:
    return Relevance(question.id, (), (), status=error.status, detail=str(error))


def _unreadable(questions: Sequence[Question], error: VideoError) -> _Part:
    keys = [digest({"video": question.video}) for question in questions]
    return _Part(questions, None, None, keys, [_failed(question, error) for question in questions])
