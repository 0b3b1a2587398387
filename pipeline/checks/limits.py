"""Whether the frames of a budget and the words of each question fit the answerer, before it is called."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol, TypeAlias, runtime_checkable

from pipeline.answer_requests import OverLimit
from pipeline.answerers import NO_LIMIT, AnswererLimits, TakesScales
from pipeline.checks import Finding, Level
from pipeline.domain import Question, Video
from pipeline.selection.sizes import Size

TEMPLATE_TOKENS = 64
"""What a chat template puts around frames and words: those of Vicuna, the longest in use, take about this many."""


@runtime_checkable
class CountsFrameTokens(Protocol):
    """An answerer whose tokens of a frame depend on the frame's size."""

    def frame_tokens(self, height: int, width: int, scale: float | None = None) -> int:
        """The tokens of a frame of this size, its time label included. Loads no model.

        Args:
            height: as decoded.
            width: likewise.
            scale: of an answerer that takes scales, as of :class:`pipeline.domain.SelectedFrame`.

        Raises:
            FramesError: it cannot be shown.
        """
        ...


@dataclass(frozen=True)
class Load:
    """One question before the answerer."""

    question_id: str
    frames: int
    """That a selection has at most: no more than the budget, and than the video has."""
    frame_tokens: int
    """Of the largest."""
    words: int
    """Tokens of question, options, instruction and subtitles."""
    pictures: int
    """That are options, and count as frames do."""
    fitting: int
    """Frames that fit together with the words and the answer."""
    most: int
    """Frames that would fit without any words: an upper bound, however words are counted."""
    shown_tokens: int
    """Of the frames that can be shown, and of the pictures."""
    visual_tokens: int | None
    """Of the pixels of these frames alone; None where they are not known."""

    @property
    def shown(self) -> int:
        """Frames that can be shown."""
        return min(self.frames, self.fitting)

    @property
    def tokens(self) -> int:
        """Tokens of the prompt with the frames that can be shown."""
        return self.shown_tokens + self.words + TEMPLATE_TOKENS


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
    sizes: Mapping[str, Sequence[Size]],
    limits: AnswererLimits,
    frame_counter: CountsFrameTokens | None,
    words: Mapping[str, int],
    answer_tokens: int,
    exact_words: bool,
) -> Fit:
    """Compare every question's frames and words with the limits.

    Args:
        questions: those that ``sizes`` does not have are passed over.
        clips: clips by question id.
        sizes: frames at most, by question id.
        limits: the answerer's.
        frame_counter: counts a frame's tokens by its size; None: they are the same for all sizes.
        words: tokens by question id.
        answer_tokens: kept for the answer.
        exact_words: whether ``words`` are exact.
    """
    count = _tokens_of(limits, frame_counter)
    cap = math.inf if limits.max_frames is None else limits.max_frames
    loads = []
    for question in questions:
        if question.id in sizes and question.id in clips:
            clip, pictures = clips[question.id], len(question.option_images or ())
            each = ((size.frames, *count(clip, size.scale)) for size in sizes[question.id])
            frames = sorted(each, key=_largest_first)
            of_pictures = pictures * count(clip, None)[0] if pictures else 0
            most = limits.context_tokens - answer_tokens
            room = most - words[question.id] - TEMPLATE_TOKENS
            fitting, at_most = (
                int(max(0, min(_fitting(frames, tokens - of_pictures), cap - pictures))) for tokens in (room, most)
            )
            shown = _first(frames, fitting)
            loads.append(
                Load(
                    question_id=question.id,
                    frames=sum(number for number, _, _ in frames),
                    frame_tokens=frames[0][1] if frames else 0,
                    words=words[question.id],
                    pictures=pictures,
                    fitting=fitting,
                    most=at_most,
                    shown_tokens=sum(number * tokens for number, tokens, _ in shown) + of_pictures,
                    visual_tokens=_sum_known([(number, visual) for number, _, visual in shown]),
                )
            )
    return Fit(limits, answer_tokens, tuple(loads), exact_words)


_Frames: TypeAlias = tuple[int, int, int | None]
"""How many of one size, and of each its tokens in the prompt and those of its pixels alone."""


def _tokens_of(
    limits: AnswererLimits, counter: CountsFrameTokens | None
) -> Callable[[Video, float | None], tuple[int, int | None]]:
    """The tokens of a frame of a clip, at least one, and those of its pixels alone. Each size is counted once."""

    @cache
    def of_size(height: int, width: int, scale: float | None) -> tuple[int, int | None]:
        if isinstance(counter, TakesScales):
            return max(1, counter.frame_tokens(height, width, scale)), counter.visual_tokens(height, width, scale)
        tokens = limits.tokens_per_frame if counter is None else counter.frame_tokens(height, width)
        return max(1, tokens), None

    return lambda clip, scale: of_size(clip.height, clip.width, scale)


def _largest_first(frames: _Frames) -> int:
    return -frames[1]


def _fitting(frames: Sequence[_Frames], room: int) -> int:
    """How many frames fit, whichever are kept: the largest first. More than there are, all of the last size."""
    fitting = 0
    for number, tokens, _ in frames[:-1]:
        taken = min(number, max(0, room) // tokens)
        fitting, room = fitting + taken, room - taken * tokens
        if taken < number:
            return fitting
    return fitting + max(0, room) // frames[-1][1] if frames else 0


def _first(frames: Sequence[_Frames], count: int) -> list[_Frames]:
    """The first ``count`` of them."""
    found = []
    for number, tokens, visual in frames:
        found.append((min(number, count), tokens, visual))
        count -= found[-1][0]
    return found


def _sum_known(counts: Sequence[tuple[int, int | None]]) -> int | None:
    known = [number * tokens for number, tokens in counts if tokens is not None]
    return sum(known) if len(known) == len(counts) else None


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
        f"{worst.frame_tokens} tokens{at_most(worst)}, {about}{max(load.words for load in over)} tokens of words and "
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


def at_most(load: Load) -> str:
    """Said where a selection's frames differ in size."""
    return " or fewer" if load.shown_tokens < (load.shown + load.pictures) * load.frame_tokens else ""


def _any_of(ways: Sequence[str]) -> str:
    return f"one of {', '.join(ways)}" if len(ways) > 1 else "".join(ways)
