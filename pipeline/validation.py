"""Validates the results of samplers, policies and answerers, and the rows of selection files.

Plug-ins may return anything. A result that breaks its protocol becomes the status ``invalid_output`` of its question;
it is not cached, so that the next run asks the corrected plug-in again. The same holds for rows of a selection file,
which any program may have written.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from pipeline.domain import (
    FASTEST,
    LARGEST_SCALE,
    LARGEST_SCORE,
    LONGEST,
    Answer,
    Cost,
    Question,
    Relevance,
    SelectedFrame,
    Selection,
    Span,
    Status,
    Video,
)
from pipeline.errors import with_remedy
from pipeline.wellformed import well_formed

_ROUNDING = 1e-3
"""Seconds, as in the video room."""
_MOST_FRAMES = 2**53
"""Of a video: above, whole numbers are not floating-point numbers any more."""
_WIDEST = 2**20
"""Pixels."""


def checked_relevances(given: Any, questions: Sequence[Question], video: Video, sampler: str) -> list[Relevance]:
    """One valid relevance per question, in the order of ``questions``."""
    if not isinstance(given, list | tuple) or len(given) != len(questions):
        count = len(given) if isinstance(given, list | tuple) else type(given).__name__
        fault = f"it returned {count} relevances for {len(questions)} questions"
        return [_refused(question, fault, sampler) for question in questions]
    return [_relevance(each, question, video, sampler) for each, question in zip(given, questions, strict=True)]


def checked_selection(given: Any, question: Question, budget: int, policy: str) -> Selection:
    """The selection if it is valid, otherwise a failure that says why not."""
    fault = _selection_fault(given, question, budget)
    if fault is None:
        frames = tuple(replace(frame, index=operator.index(frame.index)) for frame in given.frames)
        usable: Selection = replace(given, frames=frames)
        return usable
    detail = _detail(f"selection={policy}", fault)
    return Selection(question.id, (), policy, budget, Status.INVALID_OUTPUT, detail)


def checked_answer(given: Answer, question: Question, answerer: str) -> Answer:
    """The answer if it is valid, otherwise a failure that says why not."""
    fault = _answer_fault(given, question)
    if fault is None:
        return replace(
            given,
            text=well_formed(given.text),
            thought=well_formed(given.thought),
            prompt=well_formed(given.prompt),
        )
    return Answer(question.id, "", status=Status.INVALID_OUTPUT, detail=_detail(f"answerer={answerer}", fault))


def question_fault(question: Question) -> str | None:
    """Why the question contradicts itself; None if it does not."""
    options = len(question.options or ())
    if question.correct is not None and not 0 <= question.correct < options:
        return f"option {question.correct} of {options} is said to be right"
    if question.option_images is not None and len(question.option_images) != options:
        return f"there are {len(question.option_images)} pictures for {options} options"
    subtitles = question.subtitles
    for path in (question.video, *((subtitles.path,) if subtitles else ()), *(question.option_images or ())):
        if "\0" in path:
            return f"{path!r} is not the path of a file"
    spans = [*(question.evidence or ()), *((question.span,) if question.span else ())]
    seconds = [second for span in spans for second in (span.start, span.end)] + [subtitles.start if subtitles else 0.0]
    return next((f"{each} is not a second of a video" for each in seconds if not _is_second(each)), None)


def selection_fault(video: Video, selection: Selection, question: Question) -> str | None:
    """Why the selection's frames cannot be shown; None if they can."""
    seconds = (video.duration, video.start)
    if not all(map(_is_second, seconds)) or video.duration < video.start or not 1 / LONGEST <= video.fps <= FASTEST:
        return f"no video begins at {video.start} s, ends at {video.duration} s and has {video.fps} frames a second"
    if "\0" in video.path:
        return f"{video.path!r} is not the path of a file"
    if not 1 <= video.frame_count <= _MOST_FRAMES or not all(
        1 <= side <= _WIDEST for side in (video.width, video.height)
    ):
        return f"no video has {video.frame_count} frames of {video.width} x {video.height} pixels"
    return _selection_fault(selection, question, selection.budget)


def _relevance(given: Any, question: Question, video: Video, sampler: str) -> Relevance:
    if not isinstance(given, Relevance):
        return _refused(question, f"it returned a {type(given).__name__} and no Relevance", sampler)
    try:
        plain = replace(
            given,
            times=tuple(float(time) for time in given.times),
            scores=tuple(float(score) for score in given.scores),
            indices=None if given.indices is None else tuple(int(index) for index in given.indices),
            rounds=None if given.rounds is None else tuple(int(number) for number in given.rounds),
        )
    except (TypeError, ValueError, OverflowError) as error:
        return _refused(question, f"its times and scores are not numbers: {error}", sampler)
    fault = _relevance_fault(plain, question, video)
    return plain if fault is None else _refused(question, fault, sampler)


def _relevance_fault(given: Relevance, question: Question, video: Video) -> str | None:
    last = video.duration + 1 / video.fps + _ROUNDING
    faults = {
        f"it returned a relevance of {given.question_id!r} for {question.id!r}": given.question_id != question.id,
        f"it gave {len(given.scores)} scores for {len(given.times)} candidates": len(given.scores) != len(given.times),
        "a score is not a finite number": not all(map(math.isfinite, given.scores)),
        f"a score is above {LARGEST_SCORE:g}": any(abs(score) > LARGEST_SCORE for score in given.scores),
        "a time is not a finite number": not all(map(math.isfinite, given.times)),
        "its times do not ascend": any(later <= earlier for earlier, later in pairwise(given.times)),
        f"a time is outside of the video, which ends at {video.duration:.3f} s": any(
            not -1 / video.fps - _ROUNDING <= time - video.start <= last - video.start for time in given.times
        ),
        f"it gave {len(given.indices or ())} native indices for {len(given.times)} candidates": (
            given.indices is not None and len(given.indices) != len(given.times)
        ),
        f"it gave {len(given.rounds or ())} rounds for {len(given.times)} candidates": (
            given.rounds is not None and len(given.rounds) != len(given.times)
        ),
        "a native index is negative": any(index < 0 for index in given.indices or ()),
        f"a native index is above {_MOST_FRAMES}": any(index > _MOST_FRAMES for index in given.indices or ()),
        "its cost is not a finite number": not (
            _is_finite(given.cost) and (given.alone is None or _is_finite(given.alone))
        ),
        f"{given.status!r} is not a status": not isinstance(given.status, Status),
        f"named_above={given.named_above!r} is not a finite number": not _is_number_or_none(given.named_above),
    }
    return next((fault for fault, holds in faults.items() if holds), None)


def _selection_fault(given: Any, question: Question, budget: int) -> str | None:
    if not isinstance(given, Selection):
        return f"it returned a {type(given).__name__} and no Selection"
    if not all(isinstance(frame, SelectedFrame) for frame in given.frames):
        return "its frames are not SelectedFrames"
    frames = given.frames
    faults = {
        f"it returned a selection of {given.question_id!r} for {question.id!r}": given.question_id != question.id,
        f"it selected {len(frames)} frames, more than the budget of {budget}": len(frames) > budget,
        f"{given.status!r} is not a status": not isinstance(given.status, Status),
    }
    if not all(map(_is_plain, frames)):  # what is wrong with a frame is looked for only where something is
        faults |= _frame_faults(frames)
    fault = next((fault for fault, holds in faults.items() if holds), None)
    if fault is None and any(later.time < earlier.time for earlier, later in pairwise(frames)):
        return "its frames are not in order of time"
    return fault


def _is_plain(frame: SelectedFrame) -> bool:
    """Whether nothing is wrong with a frame as nearly all are: numbers within bounds, and no scale."""
    return (
        type(frame.time) is float
        and -LONGEST <= frame.time <= LONGEST
        and type(frame.index) is int
        and 0 <= frame.index <= _MOST_FRAMES
        and (frame.score is None or (type(frame.score) is float and math.isfinite(frame.score)))
        and frame.scale is None
    )


def _frame_faults(frames: Sequence[SelectedFrame]) -> dict[str, bool]:
    return {
        "the time of a frame is not a finite number": not all(_is_number(frame.time) for frame in frames),
        f"the time of a frame is above {LONGEST:.0f} s": not all(_is_second(frame.time) for frame in frames),
        "the score of a frame is not a finite number": not all(_is_number_or_none(frame.score) for frame in frames),
        f"the scale of a frame is not a number above 0 and at most {LARGEST_SCALE:g}": any(
            frame.scale is not None and not (_is_number(frame.scale) and 0 < frame.scale <= LARGEST_SCALE)
            for frame in frames
        ),
        "a native index is not a whole number from 0 on": any(
            not hasattr(frame.index, "__index__") or not 0 <= operator.index(frame.index) <= _MOST_FRAMES
            for frame in frames
        ),
    }


def _answer_fault(given: Answer, question: Question) -> str | None:
    options = len(question.options or ())
    option = given.option
    faults = {
        "its text is not a string": not all(
            isinstance(text, str) for text in (given.text, given.thought, given.prompt)
        ),
        f"{given.status!r} is not a status": not isinstance(given.status, Status),
        f"{option!r} is not the index of an option": option is not None
        and (not isinstance(option, int) or isinstance(option, bool) or not 0 <= option < options),
        "an interval is none of a video": not all(map(_is_interval, given.intervals)),
        "its cost is not a finite number": not (
            _is_finite(given.cost) and (given.alone is None or _is_finite(given.alone))
        ),
        "the time of a frame is not a finite number": not all(map(_is_number, (*given.frame_times, *given.left_out))),
    }
    return next((fault for fault, holds in faults.items() if holds), None)


def _is_interval(span: Any) -> bool:
    is_span = isinstance(span, Span) and _is_second(span.start) and _is_second(span.end)
    return is_span and 0 <= span.start <= span.end


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_second(value: Any) -> bool:
    return _is_number(value) and abs(value) <= LONGEST


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_finite(cost: Any) -> bool:
    if not isinstance(cost, Cost):
        return False
    return all(
        map(_is_number, (cost.seconds, cost.prompt_tokens, cost.output_tokens, cost.dollars, *cost.more.values()))
    )


def _refused(question: Question, fault: str, sampler: str) -> Relevance:
    detail = _detail(f"sampler={sampler}", fault)
    return Relevance(question.id, (), (), status=Status.INVALID_OUTPUT, detail=detail)


def _detail(part: str, fault: str) -> str:
    return with_remedy(f"{part} broke its protocol: {fault}", "correct its class, then run the same command again")
