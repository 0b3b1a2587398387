"""What frames cost a checkpoint in tokens, as measured with its own processor on blank ones.

The length of a prompt is that of its text and a cost for each frame, which depends on the frame's size alone: exactly
so in each of 17 types that were tried with several sizes mixed. No type's own way of counting is used: their
processors leave out marks around pictures, or keywords that were given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

from pipeline.families.transformers.bounds import USUAL_SIZE, FrameBounds
from pipeline.families.transformers.inputs import Pictures, blanks, blanks_late
from pipeline.families.transformers.videos import one_size

_NUMBER = 2
"""Tokens by which the number of a video's frames may be longer for one more."""


class Runs(Protocol):
    """A processor that is measured."""

    bounds: FrameBounds

    @property
    def keywords(self) -> Mapping[str, Any]:
        """Beside text and pictures."""
        ...

    def text_tokens(self, prompt: str) -> int:
        """Tokens of a rendered prompt that has a mark for each picture."""
        ...

    def blank_prompt(self, frames: int) -> str:
        """A rendered prompt with so many pictures and nothing else to speak of."""
        ...

    def ids_of(self, pictures: Pictures, keywords: Mapping[str, Any]) -> list[int]:
        """Token ids of that prompt with these pictures."""
        ...


class Costs(Protocol):
    """Tokens of frames in one form."""

    def of_one(self, size: tuple[int, int]) -> int:
        """Tokens of a frame of this height and width among others, its mark included."""
        ...

    def of_all(self, sizes: Sequence[tuple[int, int]], times: Sequence[float], video_end: float) -> int:
        """Tokens that the frames of a prompt add to those of its rendered text.

        Raises:
            FramesError: the processor does not take frames of such sizes.
        """
        ...

    def most(self, size: tuple[int, int], keywords: Mapping[str, Any]) -> int:
        """Tokens of a frame of this size, or of a square one as long, whichever are more."""
        ...

    def enough(self, size: tuple[int, int], model_type: str, own: Mapping[str, Any]) -> str:
        """The beginning of a remedy: the override of ours that brings a frame below its limit.

        Args:
            size: height and width.
            model_type: which decides how tiles are turned off.
            own: keywords for the processor that the settings name.
        """
        ...


class ImageCosts:
    """Costs of frames that are shown as images."""

    def __init__(self, processor: Runs) -> None:
        self._processor = processor
        self._known: dict[tuple[int, int], int] = {}
        self._alone: dict[tuple[int, int], int] = {}

    def among_others(self, size: tuple[int, int]) -> int:
        """Tokens that a frame adds to those of its mark."""
        if size not in self._known:
            self._known[size] = self._surplus(size, 3) - self._surplus(size, 2)
        return self._known[size]

    def alone(self, size: tuple[int, int]) -> int:
        """The same for a prompt with a single frame: LLaVA-OneVision cuts it into tiles, and no others."""
        if size not in self._alone:
            self._alone[size] = self._surplus(size, 1)
        return self._alone[size]

    @cached_property
    def once(self) -> int:
        """Tokens that the processor adds to a prompt of several frames once."""
        size = self._processor.bounds.size(*USUAL_SIZE)
        return self._surplus(size, 2) - 2 * self.among_others(size)

    @cached_property
    def mark(self) -> int:
        """Tokens of a frame's mark, and of what the template writes beside it."""
        one, two = (self._processor.text_tokens(self._processor.blank_prompt(count)) for count in (1, 2))
        return two - one

    def of_one(self, size: tuple[int, int]) -> int:
        """Tokens as measured among other frames."""
        return self.among_others(size) + self.mark

    def of_all(self, sizes: Sequence[tuple[int, int]], times: Sequence[float], video_end: float) -> int:
        """The sum of theirs; nothing is said of times."""
        if len(sizes) == 1:
            return self.alone(sizes[0])
        return self.once + sum(map(self.among_others, sizes))

    def enough(self, size: tuple[int, int], model_type: str, own: Mapping[str, Any]) -> str:
        """An override that was tried, also on a square frame that is as long.

        Limits are told by one frame, and the next video may have others: a square takes the most of one longest side.
        """
        bounds = self._processor.bounds
        if bounds.tiles != "one":
            whole = FrameBounds(bounds.max_side, "one", bounds.max_tokens).keywords(model_type)
            if whole and self.most(size, {**whole, **own}) <= bounds.max_tokens:
                return "Show each frame as one tile: answerer.frame.tiles=one; or use"
        side = max(size) // 2
        while side >= 28:
            smaller = FrameBounds(side, bounds.tiles, bounds.max_tokens).size(*size)
            if self.most(smaller, self._processor.keywords) <= bounds.max_tokens:
                return f"Scale frames down: answerer.frame.max_side={side}; or use"
            side //= 2
        return "Scaling frames down does not help with this type. Use"

    def most(self, size: tuple[int, int], keywords: Mapping[str, Any]) -> int:
        """The more of the two, as measured."""
        longest = max(size)
        return max(self._full(shape, keywords) for shape in {size, (longest, longest)})

    def _full(self, size: tuple[int, int], keywords: Mapping[str, Any]) -> int:
        return self._surplus(size, 3, keywords) - self._surplus(size, 2, keywords) + self.mark

    def _surplus(self, size: tuple[int, int], frames: int, keywords: Mapping[str, Any] | None = None) -> int:
        """How many tokens more than its rendered text a prompt with so many blank frames has."""
        given = self._processor.keywords if keywords is None else keywords
        whole = len(self._processor.ids_of(blanks_late(size, frames), given))
        return whole - self._processor.text_tokens(self._processor.blank_prompt(frames))


class VideoCosts:
    """Costs of frames that are shown as one video; how its times are written counts too."""

    def __init__(self, processor: Runs) -> None:
        self._processor = processor
        self._known: dict[tuple[tuple[int, int], tuple[float, ...], float], int] = {}

    def of_one(self, size: tuple[int, int]) -> int:
        """Tokens as measured late in a long video, whose times are long to write."""
        return self.most(size, self._processor.keywords)

    def of_all(self, sizes: Sequence[tuple[int, int]], times: Sequence[float], video_end: float) -> int:
        """Tokens of blank frames at these very times; the frames have one size."""
        size, times = one_size(sizes), tuple(times)
        key = (size, times, video_end)
        if key not in self._known:
            whole = len(self._processor.ids_of(blanks(size, times, video_end), self._processor.keywords))
            self._known[key] = whole - self._processor.text_tokens(self._processor.blank_prompt(len(times)))
        return self._known[key]

    def most(self, size: tuple[int, int], keywords: Mapping[str, Any]) -> int:
        """Tokens of a frame of this size: where a budget is that of the whole video, the first frames take the most."""
        one, few, more = (len(self._processor.ids_of(blanks_late(size, frames), keywords)) for frames in (1, 2, 6))
        return max(few - one, -(-(more - few) // 4)) + _NUMBER

    def enough(self, size: tuple[int, int], model_type: str, own: Mapping[str, Any]) -> str:
        """Untried."""
        return "Scale frames down: answerer.frame.max_side=...; or use"
