"""Windows before the model: each is prefilled once for all its questions, and those in memory are answered together.

A step of generation costs a GPU nearly the same for one row as for thirty. So windows of this and of the next videos
are prefilled as soon as their frames are there and memory allows, their questions become rows of one running batch, and
each row leaves when it is finished.

Where memory ends though it was reckoned with (another program takes it), rows wait, are split, or go back to before the
prefill; none of this changes an answer. With ``on_out_of_memory: halve``, what does not fit even alone is asked of the
halves of its window. A half is a window like any other, its frames numbered anew.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError, OutOfMemoryError, VideoError
from pipeline.samplers import PAUSE
from pipeline.samplers.frames import Candidate
from pipeline.samplers.windows import Window, Windowing, halves
from pipeline.spans import span

if TYPE_CHECKING:
    import torch

    from pipeline.families.seam import PreparedFrame
    from pipeline.generation.shared_prefix import Prefix
    from pipeline.generation.texts import Generated
    from pipeline.samplers.backbone import Backbone

_LOG = logging.getLogger(__name__)

_WINDOWS_AHEAD = 3
"""Of videos that are decoded ahead; those of another worker should not wait for this one."""

Suffixes = Mapping[int, Sequence[int]]
"""The prompt's tokens after the frames, by question."""


@dataclass(frozen=True)
class WindowAnswers:
    """The model's answers about one window."""

    window: Window[Candidate]
    outputs: Mapping[int, Generated | None]
    """By question; None where the question did not fit in memory."""
    share: Fraction
    """Share of the frames' tokens that each of these questions pays for."""
    halves: tuple[Window[Candidate], ...]
    """The halves in which the questions that did not fit are asked again; empty if they are not asked again."""


@dataclass(frozen=True)
class AskedVideo:
    """The windows of one video, and what is asked about each."""

    windows: Callable[[Callable[[Candidate], None]], Iterator[Window[Candidate]]]
    """Called once, with what is told of each candidate as it comes, before its window is complete. The windows are
    drawn one at a time; may raise :class:`VideoError`."""
    suffixes: Suffixes
    length: int
    """Windows, or more."""
    is_ready: Callable[[], bool] = lambda: True
    """Whether the next window, or the end, can be had without waiting."""
    read: Callable[[int], None] = lambda _: None
    """Called often, with the number of windows whose questions are answered so far. What it raises ends the reading."""


@dataclass
class AtOnce:
    """How much is answered together; lowered for all later windows once so much did not fit in memory."""

    questions: int
    windows: int


@dataclass(eq=False)
class _Video:
    asked: AskedVideo
    windows: Iterator[Window[Candidate]] = field(init=False)
    seen: int = 0
    """Candidates that have come so far."""
    together: list[PreparedFrame] = field(default_factory=list)
    """The last of them, which go through the tower in one call."""
    features: dict[int, torch.Tensor] = field(default_factory=dict)
    """By candidate, of the windows that are not finished."""
    asks: list[_Ask] = field(default_factory=list)
    """Its windows so far, in order of time; halves are in the place of their whole."""
    is_drawn: bool = False
    """There are no more windows."""
    error: VideoError | ConfigError | None = None

    @property
    def is_finished(self) -> bool:
        return self.error is not None or (self.is_drawn and not any(ask.left for ask in self.asks))


@dataclass(eq=False)
class _Ask:
    """A window and the questions about it."""

    video: _Video
    window: Window[Candidate]
    suffixes: Suffixes
    whole: int
    """The first candidate of the window that this is a half of, or of this one."""
    prefix: Prefix | None = None
    """As long as it is in memory."""
    tokens: int = 0
    waiting: list[int] = field(default_factory=list)
    """Questions that are no rows yet."""
    left: set[int] = field(default_factory=set)
    """Questions that are not answered."""
    outputs: dict[int, Generated | None] = field(default_factory=dict)
    halves: tuple[Window[Candidate], ...] = ()

    def __post_init__(self) -> None:
        self.waiting = list(self.suffixes)
        self.left = set(self.suffixes)
        self.outputs = dict.fromkeys(self.suffixes)

    @property
    def answers(self) -> WindowAnswers:
        return WindowAnswers(self.window, self.outputs, Fraction(self.tokens, len(self.suffixes)), self.halves)


class WindowReader:
    """Reads the windows of videos, in their order.

    Args:
        backbone: the loaded model.
        windowing: what becomes of a window that does not fit in memory.
        at_once: rows that are generated together, and windows that are in memory.
        max_new_tokens: a limit for each answer.
    """

    def __init__(self, backbone: Backbone, windowing: Windowing, at_once: AtOnce, max_new_tokens: int) -> None:
        self._backbone = backbone
        self._windowing = windowing
        self._at_once = at_once
        self._rows = backbone.rows(max_new_tokens)
        self._next: deque[_Ask] = deque()  # to be prefilled, before any further window
        self._held: list[_Ask] = []  # prefilled
        self._videos: deque[_Video] = deque()
        self._is_over = False  # there are no more videos
        self._ahead: deque[AskedVideo] = deque()  # drawn early, since their decoding then begins
        together = backbone.frames_at_once
        is_cut_alike = together is not None and not windowing.frames % together and not windowing.overlap % together
        self._early = together if is_cut_alike else None
        self._is_full = False  # until a window is finished

    def read(self, videos: Iterable[AskedVideo | None]) -> Iterator[list[WindowAnswers] | VideoError]:
        """Ask about each window of each video.

        Args:
            videos: None says that there is none yet: rows go on, and the next one is drawn between their steps.

        Yields:
            In the order of the videos: the answers in order of time, each window's before those of its halves.

        Raises:
            ConfigError: a window is longer than the model's context. The videos before it are given first.
        """
        left = iter(videos)
        while self._prefilled_more(left) or self._stepped() or self._waited():
            for video in self._videos:
                video.asked.read(sum(not ask.left for ask in video.asks))
            while self._videos and self._videos[0].is_finished:
                video = self._videos.popleft()
                if isinstance(video.error, ConfigError):
                    raise video.error
                yield video.error or [ask.answers for ask in video.asks]

    def _waited(self) -> bool:
        """Wait a moment where more may come, and there is nothing else to do; whether that is so."""
        if self._is_over or self._is_refused:
            return False
        time.sleep(PAUSE)
        return True

    # --- windows ---

    def _prefilled_more(self, videos: Iterator[AskedVideo | None]) -> bool:
        """Prefill one more window, if there is one and it fits; whether anything was done."""
        self._fill_rows()
        if self._is_full and self._held:
            return False
        if not self._next:
            if self._held and not self._may_hold_another():
                return False
            return self._drawn(videos)
        ask = self._next[0]
        try:
            if self._held and not self._fits(ask):
                return False
            self._next.popleft()
            self._prefill(ask)
        except ConfigError as error:
            self._end(ask.video, error)
        self._draw_ahead(videos)  # while the device is busy
        return True

    @property
    def _is_refused(self) -> bool:
        """Whether nothing after the last video is read."""
        return bool(self._videos) and isinstance(self._videos[-1].error, ConfigError)

    def _next_video(self, videos: Iterator[AskedVideo | None]) -> AskedVideo | None:
        """None if there is none yet, or no more."""
        try:
            return next(videos)
        except StopIteration:
            self._is_over = True
            return None

    def _drawn(self, videos: Iterator[AskedVideo | None]) -> bool:
        """Draw the next window; whether that could be done, without waiting where rows can go on meanwhile."""
        if self._is_refused:
            return False
        if not self._videos or self._videos[-1].is_drawn:
            asked = self._ahead.popleft() if self._ahead else self._next_video(videos)
            if asked is None:
                return False
            begun = _Video(asked)
            begun.windows = asked.windows(partial(self._see, begun))
            self._videos.append(begun)
        video = self._videos[-1]
        if self._held and not video.asked.is_ready():
            return False
        try:
            with span("frames"):
                window = next(video.windows, None)
        except (VideoError, ConfigError) as error:
            self._end(video, error)
            return True
        if window is None:
            video.is_drawn = True
            return True
        ask = _Ask(video, window, video.asked.suffixes, window.first)
        video.asks.append(ask)
        self._next.append(ask)
        return True

    def _draw_ahead(self, videos: Iterator[AskedVideo | None]) -> None:
        """Have the next videos decoded: one, or several short ones. The reader bounds what waits of them in bytes."""
        while sum(asked.length for asked in self._ahead) < _WINDOWS_AHEAD:
            asked = self._next_video(videos)
            if asked is None:
                return
            self._ahead.append(asked)

    def _see(self, video: _Video, candidate: Candidate) -> None:
        """While the device has nothing to do, frames go through the tower before their window is complete.

        They go in the same calls as with their window, so their features are the same bit for bit.
        """
        from pipeline.generation.memory import free_failed_call, mapped_out_of_memory

        video.seen += 1
        if self._early is None:
            return
        video.together.append(candidate.frame)
        if len(video.together) < self._early:
            return
        together, video.together = video.together, []
        if self._held:
            return
        numbers = range(video.seen - len(together), video.seen)
        try:
            with mapped_out_of_memory(), span("vision"):
                video.features.update(zip(numbers, self._backbone.features(together), strict=True))
        except OutOfMemoryError:  # they are tried again with their window
            pass
        else:
            return
        free_failed_call()

    def _end(self, video: _Video, error: VideoError | ConfigError) -> None:
        """Note that nothing more is wanted of this video."""
        video.is_drawn, video.error = True, error
        self._next = deque(ask for ask in self._next if ask.video is not video)
        self._leave([ask for ask in self._held if ask.video is video])

    def _may_hold_another(self) -> bool:
        """Whether the settings allow another window like the last one."""
        count = sum(len(ask.left) for ask in self._held) + len(self._held[-1].suffixes)
        return len(self._held) < self._at_once.windows and count <= self._at_once.questions

    def _fits(self, ask: _Ask) -> bool:
        count = sum(len(each.left) for each in self._held) + len(ask.waiting)
        if len(self._held) >= self._at_once.windows or count > self._at_once.questions:
            return False
        longest = max(len(ask.suffixes[place]) for place in ask.waiting)
        return self._backbone.has_room_for(ask.window, self._rows, len(ask.waiting), longest)

    def _prefill(self, ask: _Ask) -> None:
        prefix = self._prefix(ask)
        if prefix is not None:
            ask.prefix, ask.tokens = prefix, prefix.length
            self._held.append(ask)
        elif self._held:  # again when there is more room
            self._next.appendleft(ask)
            self._is_full = True
            self._at_once.windows = min(self._at_once.windows, len(self._held))
        else:
            self._fail(ask, list(ask.left))

    def _prefix(self, ask: _Ask) -> Prefix | None:
        """The window's frames, prefilled; None if they did not fit in memory."""
        from pipeline.generation.memory import free_failed_call, mapped_out_of_memory

        window, features = ask.window, ask.video.features
        first = min(each.whole for each in ask.video.asks if each.left)
        for number in [number for number in features if number < first]:
            del features[number]
        numbers = range(window.first, window.first + len(window.items))
        try:
            with mapped_out_of_memory():
                fresh = [number for number in numbers if number not in features]
                unseen = [window.items[number - window.first].frame for number in fresh]
                if fresh:
                    with span("vision"):
                        features.update(zip(fresh, self._backbone.features(unseen), strict=True))
                with span("prefill"):
                    return self._backbone.prefix(
                        [features[number] for number in numbers], [candidate.frame for candidate in window.items]
                    )
        except OutOfMemoryError:
            pass
        free_failed_call()
        return None

    # --- rows ---

    def _fill_rows(self) -> None:
        """Let waiting questions become rows, as many as may be."""
        for ask in list(self._held):
            while ask.waiting and (room := self._at_once.questions - len(self._rows)) > 0:
                longest = max(len(ask.suffixes[place]) for place in ask.waiting[:room])
                together = ask.waiting[
                    : self._backbone.rows_with_room(self._rows, min(room, len(ask.waiting)), longest)
                ]
                if self._added(ask, together):
                    continue
                if len(together) > 1:  # each by itself changes no answer
                    self._at_once.questions = max(1, len(self._rows) + len(together) // 2)
                elif len(self._rows):
                    return
                else:
                    self._fail(ask, together)

    def _added(self, ask: _Ask, places: Sequence[int]) -> bool:
        from pipeline.generation.memory import free_failed_call

        assert ask.prefix is not None
        try:
            with span("suffixes"):
                self._rows.add(ask.prefix, {(ask, place): ask.suffixes[place] for place in places})
        except OutOfMemoryError:
            pass
        else:
            ask.waiting = [place for place in ask.waiting if place not in places]
            return True
        free_failed_call()
        return False

    def _stepped(self) -> bool:
        """Have each row write a token; whether there was one."""
        from pipeline.generation.memory import free_failed_call

        if not len(self._rows):
            return False
        try:
            with span("step"):
                finished = self._rows.step()
        except OutOfMemoryError:
            finished = None
        if finished is None:
            free_failed_call()
            self._make_way()
            return True
        for (ask, place), written in finished:
            ask.outputs[place] = written
            ask.left.discard(place)
        self._leave([ask for ask in self._held if not ask.left])
        return True

    def _make_way(self) -> None:
        """Not even one row can write on: the window that came last starts again when others are finished."""
        *others, last = self._held
        unfinished = [place for place in last.suffixes if place in last.left]
        if others:
            self._leave([last])
            last.waiting = unfinished
            self._next.appendleft(last)
            self._is_full = True
            self._at_once.windows = len(others)
        else:
            self._fail(last, unfinished)

    def _fail(self, ask: _Ask, places: Sequence[int]) -> None:
        """What does not fit alone is asked of halves, or lost."""
        self._rows.drop(frozenset((ask, place) for place in places))
        ask.left.difference_update(places)
        ask.waiting = [place for place in ask.waiting if place not in places]
        parts = ask.halves or halves(ask.window, self._windowing)
        failed = {place: ask.suffixes[place] for place in ask.suffixes if place in places}
        if parts and not ask.halves:
            ask.halves = parts
            _LOG.warning(
                "A window of %d frames does not fit in memory; going on with its halves. A lower "
                "sampler.window.frames saves the attempt.",
                len(ask.window.items),
            )
        if parts:
            asks = [_Ask(ask.video, part, failed, ask.whole) for part in parts]
            behind = ask.video.asks.index(ask) + 1
            ask.video.asks[behind:behind] = asks
            self._next.extendleft(reversed(asks))
        if not ask.left:
            self._leave([each for each in self._held if each is ask])

    def _leave(self, asks: Iterable[_Ask]) -> None:
        """Free the memory of windows; what is left of their rows goes."""
        for ask in asks:
            self._rows.drop(frozenset((ask, place) for place in ask.left))
            ask.prefix = None
            self._held.remove(ask)
            self._is_full = False
