"""Moves questions, scores and frames from one stage to the next. The one module that knows both stages.

Each stage writes a row as soon as it is finished and skips the rows that are there already, so that the same command
continues where it was interrupted. Failures of one question or one video are rows too.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.answer_requests import OverLimit, key_content, question_input
from pipeline.answerers import Answerer, Repeats
from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.artefacts.results import Results, results_in
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.domain import Answer, Question, Relevance, SelectedFrame, Selection, Status, Video
from pipeline.execution.answering import Showing
from pipeline.execution.stages import AnswerStage, SampleStage, report_outdated
from pipeline.execution.units import AnswerUnit, Executor, InlineExecutor, OverlappingExecutor
from pipeline.identity import answer_key, digest, identity_of
from pipeline.samplers import PrefetchesPictures, Sampler
from pipeline.selection import SelectionPolicy
from pipeline.selection.native import native_index
from pipeline.subtitles import SubtitleChoice, SubtitleFinder
from pipeline.validation import checked_selection
from pipeline.video import Reader
from pipeline.video.clip import clip_of


def prefetch(questions: Sequence[Question], sampler: Sampler, reader: Reader) -> None:
    """Let the reader begin with the first video while a run is still checked, if the sampler can tell what it wants."""
    asked = [question for question in questions if not question.fault]
    if asked and isinstance(sampler, PrefetchesPictures):
        first = asked[0].video
        if all(question.span is None for question in asked if question.video == first):
            reader.prefetch(first, sampler.pictures)


def sample(
    questions: Sequence[Question],
    sampler: Sampler,
    reader: Reader,
    cache: RelevanceCache,
    into: Path | Results,
    executor: Executor | None = None,
) -> Generator[RelevanceRow, None, None]:
    """Stage 1: the relevance of every question, from the cache where it has been computed before.

    Yields first the rows that are known and then the others as they come, and holds those of one video at a time. The
    sampler's model is loaded only if some question is not in the cache.

    Args:
        questions: of the run; those that may see different clips of a video are scored separately.
        sampler: that scores them.
        reader: that reads the videos.
        cache: of relevances.
        into: takes the rows; a run folder, named by its path, is written here alone.
        executor: has what is missing scored; None: it is scored in this process, in the order of the videos.

    Raises:
        InputError: the sampler cannot score these questions, found before anything is scored.
    """
    if executor is not None:
        reader.prefetch(None, None)  # it has readers of its own
    with SampleStage(questions, sampler, reader, cache, into) as stage:
        yield from stage.known()
        with closing((executor or InlineExecutor(stage.worker)).run(stage.missing)) as results:
            for result in results:
                yield from stage.taken(result)


def select(
    relevances: Iterable[RelevanceRow],
    policy: SelectionPolicy,
    reader: Reader,
    into: Path | Results,
) -> Sequence[SelectionRow]:
    """Select frames by every relevance as it comes. This is cheap, so it is done again in every run.

    Returns the rows in the order of the relevances; those of a run folder stay on the disk.
    """
    with _Selecting(policy, reader, into) as selecting:
        for given in relevances:
            selecting.row(given)
    return selecting.rows()


class _Selecting:
    """Selects frames and hands on the selections of a run."""

    def __init__(self, policy: SelectionPolicy, reader: Reader, into: Path | Results) -> None:
        self._policy = policy
        self._reader = reader
        self._into = into
        self._identity = identity_of(policy)
        self._asked: dict[str, Question] = {}
        self._held = ExitStack()

    def __enter__(self) -> _Selecting:
        self._sink = self._held.enter_context(results_in(self._into).sink(SelectionRow))
        report_outdated(self._sink)
        return self

    def __exit__(self, *error: Any) -> None:
        self._held.__exit__(*error)

    def row(self, given: RelevanceRow) -> SelectionRow:
        """The selection by one relevance."""
        policy = self._policy
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
            begin = time.thread_time()  # which other work on the machine does not change
            selection = selected(given.relevance, given.question, given.video, policy, self._reader)
            selection = replace(selection, seconds=round(time.thread_time() - begin, 1))
        key = digest({"relevance": given.key, "policy": self._identity})
        row = SelectionRow(key, given.sampler, given.question, given.video, selection)
        self._sink.keep(row)
        self._asked[row.question.id] = row.question
        return row

    def again(self, question: Question, key: str) -> SelectionRow:
        """The row that was given before."""
        row = self._sink.find(question, key)
        assert row is not None
        return row

    def rows(self) -> Sequence[SelectionRow]:
        """All of them, in their order."""
        return results_in(self._into).rows(SelectionRow, self._asked)


def copy_selections(selections: Sequence[SelectionRow], into: Path | Results) -> Sequence[SelectionRow]:
    """Copy the selections of another run into this run's folder, so that the folder is complete in itself.

    Returns the copies; those of a run folder stay on the disk.
    """
    with results_in(into).sink(SelectionRow) as journal:
        for row in selections:
            journal.keep(replace(row, schema=SelectionRow.schema))
    asked = {row.question.id: row.question for row in selections}
    return results_in(into).rows(SelectionRow, asked)


def answer(
    selections: Sequence[SelectionRow],
    answerer: Answerer,
    reader: Reader,
    cache: AnswerCache,
    over_limit: OverLimit,
    subtitles: SubtitleChoice,
    batch: int,
    into: Path | Results,
    executor: Executor | None = None,
) -> Sequence[AnswerRow]:
    """Stage 2: an answer to every question from its selected frames, ``batch`` questions at a time.

    Answers of this run are kept, and so are those of any other run if the answerer is repeatable. They are joined with
    the question as it is now. Selections are read from ``selections`` as they are needed, and the rows that are
    returned, in their order, stay on the disk where ``into`` is a run folder. Where an ``executor`` is given, it has
    what is missing answered.
    """
    showing = Showing(over_limit, subtitles, batch)
    with AnswerStage(len(selections), answerer, reader, cache, showing, into) as stage:
        by_video: dict[tuple[str, str], list[tuple[str, int]]] = {}
        """Key of the answer and place of the selection of each question that has none."""
        for place, row in enumerate(selections):
            missing = stage.missing(row)
            if missing is not None:
                # A file may have been replaced between two selections.
                by_video.setdefault(missing.file, []).append((missing.key, place))
        units = (
            AnswerUnit(file[0], tuple((key, selections[place]) for key, place in places))
            for file, places in by_video.items()
        )
        with closing((executor or InlineExecutor(stage.worker)).run(units)) as results:
            for result in results:
                stage.take(result)
    return stage.rows()


def sample_and_answer(
    questions: Sequence[Question],
    sampling: SampleStage,
    policy: SelectionPolicy,
    answering: AnswerStage,
    reader: Reader,
    into: Path | Results,
    executor: OverlappingExecutor,
    note: Callable[[RelevanceRow], None],
) -> Sequence[AnswerRow]:
    """Both stages at once: the questions of a video are answered while other videos are still sampled.

    Of selections that wait for the answerer only the keys are in memory.

    Args:
        questions: of the run.
        sampling: stage 1.
        policy: that selects.
        answering: stage 2.
        reader: that reads the videos.
        into: takes the selections.
        executor: of both stages.
        note: called with each row of stage 1.
    """
    left = Counter(question.video for question in questions)
    begun: dict[str, dict[tuple[str, str], list[tuple[str, Question, str]]]] = {}
    """By video, what is to be asked of each content of its file once all questions have frames: the key of the answer,
    the question, and the key of its selection."""
    ready: deque[tuple[str, list[tuple[str, Question, str]]]] = deque()
    reader.prefetch(None, None)  # the executor has readers of its own

    def take(row: RelevanceRow) -> None:
        note(row)
        video = row.question.video
        selected = selecting.row(row)
        missing = answering.missing(selected)
        if missing is not None:
            begun.setdefault(video, {}).setdefault(missing.file, []).append((missing.key, row.question, selected.key))
        left[video] -= 1
        if not left[video]:
            del left[video]
            ready.extend((file[0], asked) for file, asked in begun.pop(video, {}).items())

    def units() -> Iterator[AnswerUnit | None]:
        while left or ready:
            if not ready:
                yield None
                continue
            path, asked = ready.popleft()
            yield AnswerUnit(path, tuple((key, selecting.again(question, its)) for key, question, its in asked))

    with _Selecting(policy, reader, into) as selecting:
        for row in sampling.known():
            take(row)
        with closing(executor.run_both(sampling.missing, units())) as results:
            for result in results:
                if sampling.has(result):
                    for row in sampling.taken(result):
                        take(row)
                else:
                    answering.take(result)
    return answering.rows()


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


def selected(
    relevance: Relevance, question: Question, video: Video, policy: SelectionPolicy, reader: Reader
) -> Selection:
    """Select from the question's clip, with the frame numbers of the whole video.

    Raises:
        ClipError: the question's span does not lie in the video.
        VideoError: frames are not evenly spaced, and their times cannot be read.
    """
    clip = clip_of(video, question.span)
    first = 0 if clip is video else native_index(clip.start, video)
    if relevance.indices is not None and first:
        local = replace(relevance, indices=tuple(index - first for index in relevance.indices))
    else:
        local = relevance
    selection = checked_selection(policy.select(local, clip), question, policy.budget, policy.name)
    frames = [replace(frame, index=frame.index + first) for frame in selection.frames] if first else selection.frames
    if not video.is_even and relevance.status not in (Status.MISSING_VIDEO, Status.UNREADABLE_VIDEO):
        frames = _at_real_frames(frames, set(relevance.times), clip, clip is video, reader.times(video.path))
    return replace(selection, frames=tuple(frames))


def _at_real_frames(
    frames: Iterable[SelectedFrame],
    decoded: Collection[float],
    clip: Video,
    whole: bool,
    times: npt.NDArray[np.float64],
) -> list[SelectedFrame]:
    """Replace frames that were never decoded by real ones, each once, where frames are not evenly spaced.

    Frames that were spread over the whole video (``whole``) are found by their index, others by their time. The frame
    on screen when a clip begins is there from then on.
    """
    found: dict[int, SelectedFrame] = {}
    for frame in frames:
        if frame.time not in decoded:
            last = len(times) - 1
            place = frame.index if whole else int(np.searchsorted(times, frame.time + 1e-3, side="right")) - 1
            place = min(max(place, 0), last)
            real = replace(frame, index=place, time=max(float(times[place]), clip.start))
        else:
            real = frame
        known = found.setdefault(real.index, real)
        if (known.scale or 1.0) < (real.scale or 1.0):
            found[real.index] = real  # of two sizes of one picture, the larger
    return [found[index] for index in sorted(found)]
