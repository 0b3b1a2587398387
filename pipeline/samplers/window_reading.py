"""Windows before the model: each is prefilled once for all questions, and several are answered in one call.

A step of generation costs a GPU nearly the same for one row as for thirty, so the rows of windows that follow each
other are generated together, as many as the settings and the free memory allow.

With ``on_out_of_memory: halve``: if the frames of a window cannot be read, all questions are asked of its halves. If
they can, and the answers cannot be written, the questions are first tried one at a time, which changes no answer, and
those that do not fit even so are asked of the halves. A half is a window like any other, its frames numbered anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from pipeline.errors import OutOfMemoryError
from pipeline.samplers.frames import Candidate
from pipeline.samplers.windows import Window, Windowing, halves

if TYPE_CHECKING:
    import torch

    from pipeline.generation.shared_prefix import Prefix
    from pipeline.generation.texts import Generated
    from pipeline.samplers.backbone import Backbone

_LOG = logging.getLogger(__name__)

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


@dataclass
class QuestionsAtOnce:
    """How many questions are answered together; lowered for all later windows once that many did not fit in memory."""

    most: int


@dataclass
class WindowsAtOnce:
    """How many windows are answered together; lowered once so many did not fit in memory."""

    most: int


@dataclass(frozen=True)
class _Prefilled:
    """A window whose questions are not answered yet."""

    window: Window[Candidate]
    prefix: Prefix | None
    """None if its frames did not fit in memory."""


class WindowReader:
    """Reads the windows of one video, in their order.

    Args:
        backbone: the loaded model.
        windowing: what becomes of a window that does not fit in memory.
        questions_at_once: rows that are generated together, over all windows.
        windows_at_once: windows that are prefilled before their questions are answered.
        max_new_tokens: a limit for each answer.
    """

    def __init__(
        self,
        backbone: Backbone,
        windowing: Windowing,
        questions_at_once: QuestionsAtOnce,
        windows_at_once: WindowsAtOnce,
        max_new_tokens: int,
    ) -> None:
        self._backbone = backbone
        self._windowing = windowing
        self._at_once = questions_at_once
        self._windows_at_once = windows_at_once
        self._max_new_tokens = max_new_tokens
        self._features: dict[int, torch.Tensor] = {}  # by candidate, of the windows that are held

    def read(self, windows: Iterable[Window[Candidate]], suffixes: Suffixes) -> Iterator[WindowAnswers]:
        """Ask the questions about each window, then about its halves, if any, in order of time.

        Raises:
            ConfigError: a window is longer than the model's context.
        """
        held: list[_Prefilled] = []
        for window in windows:
            first = held[0].window.first if held else window.first
            self._features = {number: each for number, each in self._features.items() if number >= first}
            prefix = self._prefix(window)
            if prefix is None and held:
                yield from self._answered(held, suffixes)
                prefix = self._prefix(window)  # in the memory that the others held
            held.append(_Prefilled(window, prefix))
            del prefix
            if not self._has_room_for_another(held, len(suffixes)):
                yield from self._answered(held, suffixes)
        yield from self._answered(held, suffixes)

    def _has_room_for_another(self, held: Sequence[_Prefilled], questions: int) -> bool:
        count, last = len(held) + 1, held[-1].prefix
        if last is None or count > self._windows_at_once.most or count * questions > self._at_once.most:
            return False
        # As much again stays free for the next window's features and prefill, and for what is generated.
        return self._backbone.has_room(2 * last.states.bytes)

    def _answered(self, held: list[_Prefilled], suffixes: Suffixes) -> Iterator[WindowAnswers]:
        """The answers about prefilled windows, which are taken out of ``held``.

        Together, or one by one where that does not fit in memory.
        """
        if len(held) > 1:
            together = self._write_windows([each.prefix for each in held if each.prefix], suffixes)
            if together:
                lengths = [each.prefix.length if each.prefix else 0 for each in held]
                windows = [each.window for each in held]
                held.clear()
                for window, length, outputs in zip(windows, lengths, together, strict=True):
                    yield WindowAnswers(window, outputs, Fraction(length, len(suffixes)), ())
                return
            self._windows_at_once.most = len(held) // 2
            windows = [each.window for each in held]
            held.clear()
            for window in windows:  # prefilled again, so that no other one takes memory meanwhile
                yield from self._read(_Prefilled(window, self._prefix(window)), suffixes)
            return
        if held:
            yield from self._read(held.pop(), suffixes)

    def _write_windows(self, prefixes: Sequence[Prefix], suffixes: Suffixes) -> list[dict[int, Generated | None]]:
        """The answers about several windows, by question; empty if they do not fit in memory together."""
        from pipeline.generation.memory import free_failed_call, mapped_out_of_memory

        rows = list(suffixes.values())
        try:
            with mapped_out_of_memory():
                written = self._backbone.write_windows([(prefix, rows) for prefix in prefixes], self._max_new_tokens)
                return [dict(zip(suffixes, answers, strict=True)) for answers in written]
        except OutOfMemoryError:
            pass
        free_failed_call()
        return []

    def _read(self, prefilled: _Prefilled, suffixes: Suffixes) -> Iterator[WindowAnswers]:
        window, prefix = prefilled.window, prefilled.prefix
        del prefilled
        tokens = prefix.length if prefix else 0
        written = self._write(prefix, suffixes)
        del prefix  # before that of the next window, or of a half, is made
        failed = {place: suffix for place, suffix in suffixes.items() if written[place] is None}
        parts = halves(window, self._windowing) if failed else ()
        yield WindowAnswers(window, written, Fraction(tokens, len(suffixes)), parts)
        if parts:
            _LOG.warning(
                "A window of %d frames does not fit in memory; going on with its halves. A lower "
                "sampler.window.frames saves the attempt.",
                len(window.items),
            )
        for part in parts:
            yield from self._read(_Prefilled(part, self._prefix(part)), failed)

    def _prefix(self, window: Window[Candidate]) -> Prefix | None:
        """The window's frames, prefilled; None if they did not fit in memory."""
        from pipeline.generation.memory import free_failed_call, mapped_out_of_memory

        numbers = range(window.first, window.first + len(window.items))
        try:
            with mapped_out_of_memory():
                fresh = [number for number in numbers if number not in self._features]
                unseen = [window.items[number - window.first].frame for number in fresh]
                self._features.update(zip(fresh, self._backbone.features(unseen), strict=True))
                features = [self._features[number] for number in numbers]
                return self._backbone.prefix(features, [candidate.frame for candidate in window.items])
        except OutOfMemoryError:
            pass
        free_failed_call()
        return None

    def _write(self, prefix: Prefix | None, suffixes: Suffixes) -> dict[int, Generated | None]:
        places = list(suffixes)
        written: dict[int, Generated | None] = dict.fromkeys(places)
        if prefix is None:
            return written
        while places:
            together, places = places[: self._at_once.most], places[self._at_once.most :]
            found = self._write_together(prefix, suffixes, together)
            if not found and self._windowing.on_out_of_memory == "halve" and len(together) > 1:
                self._at_once.most = len(together) // 2
                for place in together:
                    found |= self._write_together(prefix, suffixes, [place])
            written |= found
        return written

    def _write_together(self, prefix: Prefix, suffixes: Suffixes, places: Sequence[int]) -> dict[int, Generated]:
        """The answers of a batch; empty if it did not fit in memory."""
        from pipeline.generation.memory import free_failed_call, mapped_out_of_memory

        try:
            with mapped_out_of_memory():
                answers = self._backbone.write(prefix, [suffixes[place] for place in places], self._max_new_tokens)
                return dict(zip(places, answers, strict=True))
        except OutOfMemoryError:
            pass
        free_failed_call()
        return {}
