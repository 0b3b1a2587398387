"""Stage 1 as units: which questions have no relevance yet, and the worker that scores them.

Questions that may see different clips of a video are scored separately.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import chain, takewhile

from pipeline.artefacts.cache import RelevanceCache
from pipeline.artefacts.rows import RelevanceRow
from pipeline.domain import Cost, FrameSource, Question, Relevance, Status, Video
from pipeline.errors import ClipError, VideoError
from pipeline.execution.units import Lost, SampleUnit, Unit
from pipeline.identity import digest, identity_of, relevance_key
from pipeline.ledger import added, alone, scaled
from pipeline.samplers import PAUSE, Sampler, ScoresStreams, Work
from pipeline.validation import checked_relevances
from pipeline.video import Reader
from pipeline.video.clip import ClipFrames, by_span, clip_of
from pipeline.video.metering import MeteredFrames

_CACHED_IN_A_ROW = 16
"""So many parts that are known wait for one that is scored before them; their rows are in memory meanwhile."""


class SampleWorker:
    """Scores the questions of units with a sampler, whose model is loaded when the first of them is not cached.

    Args:
        sampler: that scores.
        reader: that reads the videos.
        cache: of relevances, where new ones are kept.
    """

    def __init__(self, sampler: Sampler, reader: Reader, cache: RelevanceCache) -> None:
        self._sampler = sampler
        self._reader = reader
        self._cache = cache
        self._identity = identity_of(sampler)
        self._is_stopping = False

    def rows(self, units: Iterable[Unit | None]) -> Iterator[RelevanceRow]:
        """As :class:`pipeline.execution.units.Worker`; the rows of a video come in the order of its questions."""
        wanted = (unit for unit in units if unit is None or isinstance(unit, SampleUnit))
        parts = (part for unit in wanted for part in ((None,) if unit is None else self._parts(unit)))
        begun = takewhile(lambda _: not self._is_stopping, parts)
        for part in _scored_parts(begun, self._sampler, self._reader, self._cache):
            yield from part.rows(self._sampler)

    def stop(self) -> None:
        """As :class:`pipeline.execution.units.Worker`; videos that the sampler has drawn are scored."""
        self._is_stopping = True

    def known(self, unit: SampleUnit) -> tuple[list[RelevanceRow], SampleUnit]:
        """The rows that need no sampler, and what is left of the unit."""
        parts = list(self._parts(unit))
        missing = [question.id for part in parts for question in part.asked]
        return [row for part in parts for row in part.rows(self._sampler)], unit.only(missing)

    def lost(self, lost: Lost) -> list[RelevanceRow]:
        """The rows of a unit of which two workers died. They are kept, so that no other run tries them by itself."""
        assert isinstance(lost.unit, SampleUnit)
        rows = []
        for part in self._parts(lost.unit):
            failed = [Relevance(each.id, (), (), status=Status.CRASHED, detail=lost.detail) for each in part.asked]
            part.fill(failed, self._cache)
            rows += part.rows(self._sampler)
        return rows

    def close(self) -> None:
        """Free the sampler's model."""
        self._sampler.close()

    def _parts(self, unit: SampleUnit) -> Iterator[_Part]:
        """The parts of one video, with what the cache knows."""
        try:
            video = self._reader.probe(unit.video)
        except VideoError as error:
            yield _unreadable(unit.questions, error)
            return
        for same_span in by_span(unit.questions).values():
            try:
                clip = clip_of(video, same_span[0].span)
            except ClipError as error:
                yield _unreadable(same_span, error)
                continue
            keys = [relevance_key(clip.fingerprint, self._sampler.query(each), self._identity) for each in same_span]
            known = [self._cache.find(key, question.id) for key, question in zip(keys, same_span, strict=True)]
            yield _Part(same_span, video, clip, keys, known)


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


def _scored_parts(
    parts: Iterator[_Part | None], sampler: Sampler, reader: Reader, cache: RelevanceCache
) -> Iterator[_Part]:
    """The parts in their order, each with the relevances of all its questions."""
    for part in parts:
        if part is None:
            time.sleep(PAUSE)
        elif not part.missing:
            yield part
        elif isinstance(sampler, ScoresStreams):
            with closing(_Stream(reader, cache, chain([part], parts))) as stream:
                yield from stream.scored(sampler, sampler.score_stream(stream.works()))
        else:
            with closing(_Stream(reader, cache, iter([part]))) as stream:
                given = (_scored_alone(sampler, work) for work in stream.works() if work is not None)
                yield from stream.scored(sampler, given)


def _scored_alone(sampler: Sampler, work: Work) -> list[Relevance] | VideoError:
    try:
        return sampler.score(work.video, work.frames, work.questions)
    except VideoError as error:
        return error


class _Stream:
    """Parts on their way through a sampler; each video is open from when it is drawn until it is scored."""

    def __init__(self, reader: Reader, cache: RelevanceCache, parts: Iterator[_Part | None]) -> None:
        self._reader = reader
        self._cache = cache
        self._parts = parts
        self._begun: deque[tuple[_Part, MeteredFrames | None, ExitStack, float]] = deque()

    def works(self) -> Iterator[Work | None]:
        """What is to be scored, drawn as the sampler asks for it; None where there is nothing yet."""
        known = 0
        while known < _CACHED_IN_A_ROW:
            try:
                part = next(self._parts)
            except StopIteration:
                return
            if part is None:
                yield None
                continue
            files = ExitStack()
            frames: MeteredFrames | None = None
            begin = time.perf_counter()
            if part.missing and part.video is not None and part.clip is not None:
                try:
                    source = files.enter_context(self._reader.open(part.video.path))
                    frames = MeteredFrames(source if part.clip is part.video else ClipFrames(part.clip, source))
                except VideoError as error:
                    part.fill([_failed(question, error) for question in part.asked], self._cache)
            self._begun.append((part, frames, files, begin))
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
        part, frames, files, begin = self._begun.popleft()
        if frames is not None:
            with files:
                scored = _checked(found, part, frames, sampler)
                part.fill(_reckoned(scored, frames, time.perf_counter() - begin), self._cache)
        return part

    def close(self) -> None:
        """Close the videos that are open."""
        for _, _, files, _ in self._begun:
            files.close()


def _checked(
    given: list[Relevance] | VideoError, part: _Part, frames: FrameSource, sampler: Sampler
) -> list[Relevance]:
    """The sampler's relevances after validation, each candidate with the native index of its frame."""
    assert part.clip is not None
    try:
        if isinstance(given, VideoError):
            raise given
        return numbered(checked_relevances(given, part.asked, part.clip, sampler.name), frames)
    except VideoError as error:
        return [_failed(question, error) for question in part.asked]


def numbered(relevances: Sequence[Relevance], frames: FrameSource) -> list[Relevance]:
    """The relevances, each candidate with the native index of its frame."""
    return [
        each if each.indices is not None else replace(each, indices=tuple(frames.indices_at(each.times)))
        for each in relevances
    ]


def _reckoned(scored: Sequence[Relevance], frames: MeteredFrames, wall: float) -> list[Relevance]:
    """With the cost of their frames, which is divided among the questions that took anything."""
    shared, whole_of_frames = (frames.figures(), frames.alone()) if frames.frames else ({}, {})
    payers = sum(each.cost.seconds > 0 for each in scored)
    share = scaled(shared, 1 / (payers or len(scored) or 1))

    def reckoned(each: Relevance) -> Relevance:
        if not each.cost.seconds and (payers or not shared):
            return each
        cost = added(each.cost, {**share, "wall_seconds": wall})
        whole = added(alone(each), {**_of_a_whole(alone(each), whole_of_frames), "wall_seconds": wall})
        return replace(each, cost=_with_the_rest(cost), alone=_with_the_rest(whole))

    return list(map(reckoned, scored))


def _of_a_whole(before: Cost, frames: Mapping[str, float]) -> Mapping[str, float]:
    """Figures of frames, to be added to a cost: without ``frames_walked`` if it has frames of which that is unknown."""
    if "frames_decoded" not in before.more or "frames_walked" in before.more:
        return frames
    return {name: value for name, value in frames.items() if name != "frames_walked"}


def _with_the_rest(cost: Cost) -> Cost:
    """With ``score_seconds``, if the sampler does not tell them: those that are in no other part."""
    if not cost.seconds or "score_seconds" in cost.more:
        return cost
    parts = ("decode_seconds", "prefill_seconds", "generate_seconds")
    return added(cost, {"score_seconds": max(0.0, cost.seconds - sum(cost.more.get(name, 0.0) for name in parts))})


def _failed(question: Question, error: VideoError) -> Relevance:
    return Relevance(question.id, (), (), status=error.status, detail=str(error))


def _unreadable(questions: Sequence[Question], error: VideoError) -> _Part:
    keys = [digest({"video": question.video}) for question in questions]
    return _Part(questions, None, None, keys, [_failed(question, error) for question in questions])
