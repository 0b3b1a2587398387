"""Whether the frames of a budget and the words of each question fit the answerer, before it is called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pipeline.answer_requests import OverLimit
from pipeline.answerers import NO_LIMIT, AnswererLimits
from pipeline.checks import Finding, Level
from pipeline.domain import Question, Video

TEMPLATE_TOKENS = 64
"""What a chat template puts around frames and words: those of Vicuna, the longest in use, take about this many."""


@runtime_checkable
class CountsFrameTokens(Protocol):
    """An answerer whose tokens of a frame depend on the frame's size."""

    def frame_tokens(self, height: int, width: int) -> int:
        """The tokens of a frame of this size, its time label included. Loads no model."""
        ...


@dataclass(frozen=True)
class Load:
    """One question before the answerer."""

    question_id: str
    frames: int
    """That a selection has at most: no more than the budget, and than the video has."""
    frame_tokens: int
    words: int
    """Tokens of question, options, instruction and subtitles."""
    pictures: int
    """That are options, and count as frames do."""
    fitting: int
    """Frames that fit together with the words and the answer."""
    most: int
    """Frames that would fit without any words: an upper bound, however words are counted."""

    @property
    def shown(self) -> int:
        """Frames that can be shown."""
        return min(self.frames, self.fitting)

    @property
    def tokens(self) -> int:
        """Of the prompt with the frames that can be shown."""
        return (self.shown + self.pictures) * self.frame_tokens + self.words + TEMPLATE_TOKENS


@dataclass(frozen=True)
class Fit:
    """All questions before the answerer."""

    limits: AnswererLimits
    answer_tokens: int
    """Kept for the answer."""
    loads: tuple[Load, ...]
    exact_words: bool
    """Whether words were counted by the checkpoint's own tokenizer."""

    @property
    def over(self) -> tuple[Load, ...]:
        """Questions whose frames do not fit."""
        return tuple(load for load in self.loads if load.frames > load.fitting)

    @property
    def fitting(self) -> int:
        """The largest budget that fits every question; below 1 where some question is too long by itself."""
        return min((load.fitting for load in self.over), default=max((load.frames for load in self.loads), default=0))


def fit(
    questions: Sequence[Question],
    clips: Mapping[str, Video],
    budget: int,
    limits: AnswererLimits,
    frame_counter: CountsFrameTokens | None,
    words: Mapping[str, int],
    answer_tokens: int,
    exact_words: bool,
) -> Fit:
    """Compare every question's frames and words with the limits.

    Args:
        questions: those that ``clips`` does not have are passed over.
        clips: clips by question id.
        budget: frames at most.
        limits: the answerer's.
        frame_counter: counts a frame's tokens by its size; None: they are the same for all sizes.
        words: tokens by question id.
        answer_tokens: kept for the answer.
        exact_words: whether ``words`` are exact.
    """
    sizes = {(video.height, video.width) for video in clips.values()}
    by_size = {size: frame_counter.frame_tokens(*size) if frame_counter else limits.tokens_per_frame for size in sizes}
    loads = []
    for question in questions:
        clip = clips.get(question.id)
        if clip is not None:
            tokens = by_size[clip.height, clip.width]
            pictures = len(question.option_images or ())
            room = limits.context_tokens - answer_tokens - words[question.id] - TEMPLATE_TOKENS
            cap = math.inf if limits.max_frames is None else limits.max_frames
            fitting, most = (
                int(max(0, min(tokens_left // max(1, tokens), cap) - pictures))
                for tokens_left in (room, limits.context_tokens - answer_tokens)
            )
            frames = min(budget, clip.frame_count)
            loads.append(Load(question.id, frames, tokens, words[question.id], pictures, fitting, most))
    return Fit(limits, answer_tokens, tuple(loads), exact_words)


def findings(
    found: Fit, budget: int, rule: OverLimit, smaller: Sequence[str], always_full: bool = True
) -> list[Finding]:
    """What does not fit. A run in which no question can fit cannot run; in any other, those that do not fit fail.

    Args:
        found: the questions.
        budget: as configured.
        rule: what to do about more frames than fit.
        smaller: overrides of the answerer with which all would fit.
        always_full: whether every selection has as many frames as the budget and its video allow.
    """
    over = found.over
    if not over:
        return []
    limits = found.limits
    cap = "" if limits.max_frames is None else f", and {limits.max_frames} frames at most"
    about = "" if found.exact_words else "about "
    context = str(limits.context_tokens) if limits.context_tokens < NO_LIMIT else "unknown length"
    worst = min(over, key=lambda load: load.fitting)
    frames = max(load.frames for load in over)
    problem = (
        f"{len(over)} of {len(found.loads)} questions do not fit the answerer: up to {frames} frames of "
        f"{worst.frame_tokens} tokens, {about}{max(load.words for load in over)} tokens of words and "
        f"{found.answer_tokens} kept for the answer, in a context of {context}{cap}"
    )
    places = tuple(f"{load.question_id}: {load.fitting} of {load.frames} frames fit" for load in over)
    hopeless = [load for load in over if load.fitting < 1]
    made = []
    if hopeless:
        made.append(
            Finding(
                Level.SOME_FAIL,
                f"questions whose words leave no room for a single frame: {len(hopeless)}",
                "leave out subtitles (subtitles=none or subtitles=at_frames), or take an answerer of longer context",
                tuple(load.question_id for load in hopeless),
            )
        )
    room = [load.fitting for load in over if load.fitting >= 1]
    fewer = [f"selection.budget={min(room)}"] if room else []
    if rule is OverLimit.KEEP_BEST:
        cut = f"the best {min(room)} to {max(room)} are kept and the rest is recorded" if room else "nothing is kept"
        made.append(Finding(Level.NOTE, f"{problem}; {cut}", _any_of([*fewer, *smaller]), places))
    else:
        # The question's own status says the same at run time; here it is known hours before.
        hopeless_run = always_full and all(load.frames > load.most for load in found.loads)
        level = Level.CANNOT_RUN if hopeless_run else Level.SOME_FAIL
        ways = [*fewer, *smaller, "over_limit=keep_best (the best scores that fit)"]
        made.append(Finding(level, f"selection.budget={budget} is above the limit: {problem}", _any_of(ways), places))
    return made


def _any_of(ways: Sequence[str]) -> str:
    return f"one of {', '.join(ways)}" if len(ways) > 1 else "".join(ways)
