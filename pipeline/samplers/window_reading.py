"""Windows before the model: each is read once for all questions; one that does not fit in memory may be halved.

With ``on_out_of_memory: halve``: if the frames of a window cannot be read, all questions are asked of its halves. If
they can, and the answers cannot be written, the questions are first tried one at a time, which changes no answer, and
those that do not fit even so are asked of the halves. A half is a window like any other, its frames numbered anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
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


class WindowReader:
    """Reads the windows of one video, in their order. The features of the last one are kept for the next."""

    def __init__(
        self, backbone: Backbone, windowing: Windowing, questions_at_once: QuestionsAtOnce, max_new_tokens: int
    ) -> None:
        self._backbone = backbone
        self._windowing = windowing
        self._at_once = questions_at_once
        self._max_new_tokens = max_new_tokens
        self._features: dict[int, torch.Tensor] = {}  # by candidate

    def read(self, window: Window[Candidate], suffixes: Suffixes) -> Iterator[WindowAnswers]:
        """Ask the questions about a window, then about its halves, if any, in order of time.

        Raises:
            ConfigError: the window is longer than the model's context.
        """
        numbers = range(window.first, window.first + len(window.items))
        self._features = {number: self._features[number] for number in numbers if number in self._features}
        yield from self._read(window, suffixes)

    def _read(self, window: Window[Candidate], suffixes: Suffixes) -> Iterator[WindowAnswers]:
        prefix = self._prefix(window)
        tokens = prefix.length if prefix else 0
        written = self._write(prefix, suffixes)
        del prefix  # before the one of the next window, or of a half, is made
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
            yield from self._read(part, failed)

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
