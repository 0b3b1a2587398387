"""From selections to the requests that an answerer is given: the frames, clip and subtitles of each question.

A selection of more frames than the answerer takes is dealt with by one declared rule, :class:`OverLimit`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pipeline.answerers import Answerer, AnswerRequest, PreparesFrames
from pipeline.artefacts.rows import SelectionRow
from pipeline.domain import Answer, AnswerForm, Cost, Frame, PreparedPicture, SelectedFrame, Status, Video
from pipeline.errors import ChangedVideoError, ClipError, FramesError, SubtitlesError, VideoError, with_remedy
from pipeline.ledger import added, alone
from pipeline.secrecy import without_secrets
from pipeline.selection.ranking import best_first
from pipeline.subtitles import GivenSubtitles, SubtitleChoice, SubtitleFinder
from pipeline.video import Reader
from pipeline.video.clip import clip_of, holds
from pipeline.video.fingerprint import file_fingerprint
from pipeline.video.metering import MeteredFrames
from pipeline.video.preparing import AtScales, as_decoded


class OverLimit(StrEnum):
    """What happens to a selection of more frames than the answerer takes."""

    REFUSE = "refuse"
    """The question fails with ``context_exceeded``, and its detail names the budget that fits."""
    KEEP_BEST = "keep_best"
    """As many frames as fit are shown, by their scores; of equal or missing scores, those farthest apart in time."""


def best(frames: Sequence[SelectedFrame], count: int) -> list[int]:
    """Positions of the ``count`` frames that are kept, ascending.

    A frame that was not chosen for its score comes after all that were.
    """
    scores = [float("-inf") if frame.score is None else frame.score for frame in frames]
    return sorted(best_first([frame.time for frame in frames], scores, count, "spread"))


_AHEAD = 3
"""Passes over videos that are begun before their frames are needed. Worker processes bound what waits by bytes."""
_PAUSE = 0.05
"""Seconds after which inputs are asked for again, where there was nothing yet."""
_DECODED_BYTES = 2**30
"""Limit on frames that wait to be prepared: 16 questions of 64 frames each in 4K would be 25 GB."""


@dataclass(frozen=True)
class QuestionInput:
    """A question that can be asked, with what is known before its frames are decoded."""

    row: SelectionRow
    clip: Video
    """The part of the video that the question may see."""
    subtitles: GivenSubtitles

    @property
    def file(self) -> tuple[str, str]:
        """Path and fingerprint of the video."""
        assert self.row.video is not None
        return self.row.video.path, self.row.video.fingerprint


def question_input(row: SelectionRow, finder: SubtitleFinder) -> QuestionInput | Answer:
    """The input of a selection's question, or the failure for which it is not asked."""
    question, video = row.question, row.video
    if video is None or not row.selection.frames:
        status = row.selection.status if row.selection.status is not Status.OK else Status.NO_FRAMES
        return Answer(question.id, "", status=status, detail=row.selection.detail)
    times = tuple(frame.time for frame in row.selection.frames)
    try:
        clip = clip_of(video, question.span)
        if not holds(clip, times):
            return Answer(question.id, "", status=Status.NO_FRAMES, detail=_outside(clip))
        return QuestionInput(row, clip, finder.find(question, video, clip, times))
    except (ClipError, SubtitlesError) as error:
        return Answer(question.id, "", status=error.status, detail=str(error))


def key_content(
    row: SelectionRow, given: QuestionInput | Answer, choice: SubtitleChoice, over_limit: OverLimit
) -> dict[str, Any]:
    """All that the answerer is given for a question, as JSON values for the key of its answer.

    Labels, groups and evidence are left out. Scores count where they decide which frames are left out.
    """
    question = row.question
    scored = over_limit is OverLimit.KEEP_BEST
    fingerprint = None if row.video is None else row.video.fingerprint
    content: dict[str, Any] = {
        "video": given.clip.fingerprint if isinstance(given, QuestionInput) else fingerprint,
        "frames": [
            (frame.time, frame.index, frame.scale, frame.score if scored else None) for frame in row.selection.frames
        ],
        "question": (question.text, question.options),
    }
    if question.prompt is not None:
        content["prompt"] = (question.prompt.text, question.prompt.system)
    if question.answer_form is not AnswerForm.WORDS:
        content["answer_form"] = question.answer_form.value
    if question.option_images:
        content["option_images"] = [_picture_content(path) for path in question.option_images]
    if choice is not SubtitleChoice.NONE:
        lines = given.subtitles.lines if isinstance(given, QuestionInput) else ()
        content["subtitles"] = [choice.value, [(line.start, line.end, line.text) for line in lines]]
    if isinstance(given, Answer):
        content["failure"] = [given.status.value, given.detail]
    return content


def _picture_content(path: str) -> str:
    """The picture's fingerprint, so that another picture under the same name is another question."""
    try:
        return file_fingerprint(Path(path))
    except OSError:
        return path


def _outside(clip: Video) -> str:
    return with_remedy(
        f"The selection shows moments outside of {clip.start:.2f} s to {clip.duration:.2f} s, which is all that this "
        "question may see.",
        "Select again, with a sampler that keeps to it: gens sample, or gens evaluate.",
    )


class Requests:
    """Builds requests lazily and collects the questions whose frames could not be read.

    Requests may be drawn in another thread than the one that handles answers. Questions of one video come next to each
    other, at most ``batch`` of them from one pass over its frames. Only those that are not answered yet are in memory.

    Args:
        inputs: those of one video after the other, or the failures for which they are not asked; None where there is
            nothing yet, so that frames of the videos before are not kept from the answerer.
        answerer: takes the requests.
        reader: reads the videos.
        over_limit: what happens to more frames than the answerer takes.
        batch: number of questions that are in the model, or sent to a server, at once.
    """

    def __init__(
        self,
        inputs: Iterable[Sequence[QuestionInput | Answer] | None],
        answerer: Answerer,
        reader: Reader,
        over_limit: OverLimit,
        batch: int,
    ) -> None:
        self._videos = inputs
        self._inputs: dict[str, QuestionInput] = {}
        self._answerer = answerer
        self._reader = reader
        self._over_limit = over_limit
        self._batch = batch
        self._failed: SimpleQueue[Answer] = SimpleQueue()
        self._left_out: dict[str, tuple[float, ...]] = {}
        self._subtitles: dict[str, GivenSubtitles] = {}
        self._decoding: dict[str, tuple[dict[str, float], dict[str, float]]] = {}
        """Of each question, what its frames took, and what they would have taken alone."""
        self._drawn: dict[str, float] = {}
        """When each request was drawn."""
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[AnswerRequest]:
        """One request per question, except for those whose frames cannot be read now."""
        begun: deque[PassOverVideo] = deque()
        passes = self._passes()
        try:
            while True:
                is_over = True
                for ahead in islice(passes, _AHEAD - len(begun)):
                    if ahead is None:
                        is_over = False
                        break
                    begun.append(PassOverVideo(*ahead, self._reader, self._preparation))
                if not begun:
                    if is_over or self._closed.wait(_PAUSE):
                        return
                    continue
                rows = begun[0].rows
                try:
                    frames = begun[0].frames()
                    self._decoding |= begun[0].figures()
                except VideoError as error:
                    for row in rows:
                        del self._inputs[row.question.id]
                        self._failed.put(Answer(row.question.id, "", status=error.status, detail=str(error)))
                    frames = {}
                begun.popleft().close()
                for row in rows:
                    if row.question.id in frames:
                        self._drawn[row.question.id] = time.perf_counter()
                        yield self._within_limit(row, frames.pop(row.question.id))
        finally:
            for each in begun:
                each.close()

    def close(self) -> None:
        """Wait for no more inputs; called from any thread."""
        self._closed.set()

    def _preparation(self) -> Callable[[Frame], Frame] | None:
        return self._answerer.frame_preparation() if isinstance(self._answerer, PreparesFrames) else None

    def _passes(self) -> Iterator[tuple[str, str, list[SelectionRow]] | None]:
        """Path, fingerprint and rows of each pass over a video; None where there is nothing yet."""
        for same_video in self._videos:
            if same_video is None:
                yield None
                continue
            asked = [given for given in same_video if isinstance(given, QuestionInput)]
            for given in same_video:
                if isinstance(given, Answer):
                    self._failed.put(given)
            self._inputs |= {given.row.question.id: given for given in asked}
            for rows in _passes([given.row for given in asked], self._batch):
                yield (*asked[0].file, rows)

    def failures(self) -> Iterator[Answer]:
        """The questions that did not become requests since this was last called."""
        while not self._failed.empty():
            yield self._failed.get()

    def recorded(self, given: Answer) -> Answer:
        """The answer with the subtitles that were given and the frames left out; its prompt holds no secret."""
        subtitles = self._inputs.pop(given.question_id).subtitles
        subtitles = self._subtitles.pop(given.question_id, subtitles)
        form = "; ".join(part for part in (given.form, subtitles.summary()) if part)
        left_out, prompt = self._left_out.pop(given.question_id, ()), without_secrets(given.prompt)
        cost, whole = self._reckoned(given)
        return replace(given, form=form, left_out=left_out, prompt=prompt, cost=cost, alone=whole)

    def _reckoned(self, given: Answer) -> tuple[Cost, Cost]:
        """The costs of an answer with those of its frames."""
        share, whole = self._decoding.pop(given.question_id, ({}, {}))
        drawn = self._drawn.pop(given.question_id, None)
        wall = {} if drawn is None else {"wall_seconds": time.perf_counter() - drawn}
        by_itself = alone(given)
        seconds = by_itself.seconds + whole.get("decode_seconds", 0.0)
        return added(given.cost, {**share, **wall}), replace(added(by_itself, {**whole, **wall}), seconds=seconds)

    def _within_limit(self, row: SelectionRow, frames: Sequence[Frame]) -> AnswerRequest:
        given = self._inputs[row.question.id]
        request = AnswerRequest(row.question, given.clip, tuple(frames), given.subtitles.lines)
        if self._over_limit is OverLimit.REFUSE:
            return request
        try:
            capacity = self._answerer.capacity(request)
            if capacity < len(frames) and given.subtitles.lines:
                capacity = self._fitting_with_lines(row, request)
        except FramesError:
            return request  # no frame less helps; the answerer gives the status
        if not 0 < capacity < len(frames):
            return request
        shown = self._best(row, request, capacity)
        self._subtitles[row.question.id] = replace(given.subtitles, lines=shown.subtitles)
        times = {frame.time for frame in shown.frames}
        self._left_out[row.question.id] = tuple(frame.time for frame in frames if frame.time not in times)
        return shown

    def _best(self, row: SelectionRow, request: AnswerRequest, count: int) -> AnswerRequest:
        """The request with only the best ``count`` frames, and the lines that go with these."""
        kept = best(row.selection.frames, count)
        lines = self._inputs[row.question.id].subtitles.at([row.selection.frames[place].time for place in kept])
        return replace(request, frames=tuple(request.frames[place] for place in kept), subtitles=lines)

    def _fitting_with_lines(self, row: SelectionRow, request: AnswerRequest) -> int:
        """How many frames fit together with their own lines, so that it depends on which frames they are."""
        fits, exceeds = 0, len(request.frames)
        while exceeds - fits > 1:
            count = (fits + exceeds) // 2
            if self._answerer.capacity(self._best(row, request, count)) == count:
                fits = count
            else:
                exceeds = count
        return fits


def _check_unchanged(path: str, fingerprint: str, reader: Reader) -> None:
    """Raise if the file at ``path`` is not the one that frames were selected from."""
    if reader.probe(path).fingerprint != fingerprint:
        raise ChangedVideoError(
            f"{path} is not the file that the frames were selected from: its content has changed",
            "select again with gens sample or gens evaluate, or put the old file back",
        )


def _passes(rows: Sequence[SelectionRow], batch: int) -> Iterator[list[SelectionRow]]:
    """Group questions of one video whose frames are decoded together: as many as may be held, at least one."""
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


class PassOverVideo:
    """The selected frames of several questions from one pass over their video. Decoding begins at once, where it can.

    Args:
        path: of the video.
        fingerprint: that it had when the frames were selected.
        rows: the questions' selections.
        reader: that opens it.
        preparation: what makes frames ready for the answerer, asked for once the video is open.
    """

    def __init__(
        self,
        path: str,
        fingerprint: str,
        rows: Sequence[SelectionRow],
        reader: Reader,
        preparation: Callable[[], Callable[[Frame], Frame] | None],
    ) -> None:
        self.rows = rows
        self._wanted = sorted({frame.time for row in rows for frame in row.selection.frames})
        self._failure: VideoError | None = None
        self._held = ExitStack()
        try:
            _check_unchanged(path, fingerprint, reader)
            self._source = self._held.enter_context(reader.open(path))
            self._frames = MeteredFrames(self._source)
            self._places = self._source.indices_at(self._wanted)
            prepare = preparation()
            self._is_prepared = prepare is not None
            made = as_decoded if prepare is None else AtScales(prepare, self._scales())
            self._pictures = self._frames.prepared_at(self._wanted, made)
            self._held.callback(self._pictures.close)
        except VideoError as error:
            self._failure = error
        except BaseException:
            self._held.close()
            raise

    def frames(self) -> dict[str, tuple[Frame, ...]]:
        """By question, each with its question's scale.

        Raises:
            VideoError: they cannot be read.
        """
        if self._failure is not None:
            raise self._failure
        shown = {each.index: each for each in self._pictures}
        at = {second: shown[place] for second, place in zip(self._wanted, self._places, strict=True)}
        return {
            row.question.id: tuple(self._frame(at[frame.time], frame.scale) for frame in row.selection.frames)
            for row in self.rows
        }

    def figures(self) -> dict[str, tuple[dict[str, float], dict[str, float]]]:
        """What the frames took that :meth:`frames` gave, by question: its share, and what its own would take alone.

        A picture is divided among the questions that show it, and the seconds are by pictures. The frames that were
        walked are by the packets on the way to a question's own pictures.
        """
        place_of = dict(zip(self._wanted, self._places, strict=True))
        own = {row.question.id: {place_of[frame.time] for frame in row.selection.frames} for row in self.rows}
        showing = Counter(place for places in own.values() for place in places)
        packets = {question_id: self._source.packets_to(tuple(places)) for question_id, places in own.items()}
        took, together, by_itself = self._frames.figures(), sum(packets.values()), self._source.packets_to(self._places)

        def figures(question_id: str, count: float, of: int) -> dict[str, float]:
            part = count / self._frames.frames
            shares = {name: packets[question_id] / of if name == "frames_walked" else part for name in took}
            return {name: value * shares[name] for name, value in took.items()}

        return {
            question_id: (
                figures(question_id, sum(1 / showing[place] for place in places), together),
                figures(question_id, len(places), by_itself),
            )
            for question_id, places in own.items()
        }

    def _frame(self, picture: PreparedPicture, scale: float | None) -> Frame:
        if self._is_prepared:
            frame: Frame = picture.content[scale]
            return frame
        return Frame(picture.time, picture.index, picture.content, scale)

    def _scales(self) -> dict[int, tuple[float | None, ...]]:
        """By native index, the scales at which a picture is shown."""
        place_of = dict(zip(self._wanted, self._places, strict=True))
        scales: dict[int, dict[float | None, None]] = {}
        for row in self.rows:
            for frame in row.selection.frames:
                scales.setdefault(place_of[frame.time], {})[frame.scale] = None
        return {place: tuple(each) for place, each in scales.items()}

    def close(self) -> None:
        """Decode no more, and close the video."""
        self._held.close()
