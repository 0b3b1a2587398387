"""What frames cost a checkpoint in tokens, as measured with its own processor on blank ones.

The length of a prompt is that of its text and a cost for each frame, which depends on the frame's size alone: exactly
so in each of 17 types that were tried with several sizes mixed. No type's own way of counting is used: their
processors leave out marks around pictures, or keywords that were given.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

from pipeline.families.transformers.bounds import USUAL_SIZE, FrameBounds


class Runs(Protocol):
    """A processor that is measured."""

    bounds: FrameBounds

    @property
    def keywords(self) -> Mapping[str, Any]:
        """Beside text and pictures."""
        ...

    def text_tokens(self, prompt: str) -> int:
        """Of a rendered prompt, a mark for each picture."""
        ...

    def blank_prompt(self, frames: int) -> str:
        """A rendered prompt with so many pictures and nothing else to speak of."""
        ...

    def tokens_of_blanks(self, size: tuple[int, int], frames: int, keywords: Mapping[str, Any]) -> int:
        """Of that prompt with so many blank pictures of this height and width."""
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

    def enough(self, size: tuple[int, int], model_type: str, own: Mapping[str, Any]) -> str:
        """The override of ours that brings a frame below its limit, as tried, and a square one that is as long.

        Limits are told by one frame, and the next video may have others: a square takes the most of one longest side.

        Args:
            size: height and width.
            model_type: which decides how tiles are turned off.
            own: keywords for the processor that the settings name.
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
        """Tokens of a frame of this size, or of a square one that is as long, if these are more."""
        longest = max(size)
        return max(self._full(shape, keywords) for shape in {size, (longest, longest)})

    def _full(self, size: tuple[int, int], keywords: Mapping[str, Any]) -> int:
        return self._surplus(size, 3, keywords) - self._surplus(size, 2, keywords) + self.mark

    def _surplus(self, size: tuple[int, int], frames: int, keywords: Mapping[str, Any] | None = None) -> int:
        """How many tokens more than its rendered text a prompt with so many blank frames has."""
        given = self._processor.keywords if keywords is None else keywords
        whole = self._processor.tokens_of_blanks(size, frames, given)
        return whole - self._processor.text_tokens(self._processor.blank_prompt(frames))
