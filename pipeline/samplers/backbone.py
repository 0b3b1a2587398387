"""The model under GenS, whichever family it is of: reads windows of frames and writes about them.

A frame's features do not depend on the window it is in. The prompt is cut right after the last image, so the frames of
a window are read once for all questions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import torch

from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.known import restore
from pipeline.families.seam import FrameShape, Model, Opened, Pixels, PreparedFrame, Processor
from pipeline.generation.closing import JsonIsClosed
from pipeline.generation.running_batch import Branches, continue_greedily
from pipeline.generation.shared_prefix import Prefix, prefill
from pipeline.generation.texts import Generated, end_tokens
from pipeline.samplers.prompt import FramePrompt


@dataclass(frozen=True)
class _Layout:
    """The part of the prompt that holds the frames."""

    input_ids: torch.Tensor
    """``[1, tokens]``."""
    is_image: torch.Tensor
    """``[1, tokens]``, true where a frame's features go."""
    positions: torch.Tensor
    """``[1, tokens]``, or ``[axes, 1, tokens]``."""


class Backbone:
    """A loaded checkpoint.

    Args:
        opened: its two objects.
        prompt: the words around the frames.
        source: hub id or folder, for messages.
        smaller: overrides by which a frame takes fewer tokens; may be empty.

    Raises:
        CheckpointError: it cannot be loaded exactly.
    """

    def __init__(self, opened: Opened[Processor[Any]], prompt: FramePrompt, source: str, smaller: str) -> None:
        self._processor = opened.processor
        self._prompt = prompt
        self._source = source
        self._smaller = smaller
        self.model: Model = opened.load()
        tokenizer = self._processor.tokenizer
        self._end_tokens = end_tokens(self.model.language, tokenizer)
        self._json_is_closed = JsonIsClosed(tokenizer)
        self._layout = lru_cache(maxsize=2)(self._lay_out)  # full windows, and the last one

    def close(self) -> None:
        """Free the weights. The object is of no use afterwards."""
        self._layout.cache_clear()
        self.model.close()

    @property
    def markup(self) -> Sequence[str]:
        """What in a question the tokenizer would take for the model's own control tokens."""
        return self._processor.markup

    @property
    def prepare(self) -> Callable[[Pixels], PreparedFrame]:
        """Makes of a decoded frame what the model sees. It can be pickled, and raises FramesError for some shapes."""
        return self._processor.without_words().prepare

    def features(self, frames: Sequence[PreparedFrame]) -> list[torch.Tensor]:
        """Each frame as the language model sees it, ``[tokens, hidden size]``, in any window."""
        weight = self.model.language.get_input_embeddings().weight
        return [features.to(weight) for features in self.model.features(frames)]

    @torch.inference_mode()
    def prefix(self, features: Sequence[torch.Tensor], frames: Sequence[PreparedFrame]) -> Prefix:
        """Read the prompt of a window up to its last frame.

        Args:
            features: of the window's frames, in order.
            frames: they.

        Raises:
            ConfigError: the window is longer than the model's context.
        """
        layout = self._layout(tuple(frame.shape for frame in frames))
        embeddings = self.model.embedded(layout.input_ids, layout.is_image, torch.cat(tuple(features)))
        return prefill(self.model.language, embeddings, layout.positions.to(embeddings.device))

    def suffix(self, question: str) -> list[int]:
        """The tokens of the prompt after the last frame; they are the same for every number of frames."""
        # A frame of any shape: the text after it does not depend on it.
        return self._halves((FrameShape(1, 1, 1, 1),), question)[1]

    def has_room(self, size: int) -> bool:
        """Whether so many bytes are free on the GPU of the model; on a CPU, in an eighth of the machine's memory."""
        device = self.model.language.get_input_embeddings().weight.device
        if device.type == "cuda":
            cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return bool(size <= torch.cuda.mem_get_info(device)[0] + cached)
        return size <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8

    def write(self, prefix: Prefix, suffixes: Sequence[Sequence[int]], max_new_tokens: int) -> list[Generated]:
        """Greedy answers about one window, each up to its end or the end of its JSON.

        Args:
            prefix: of the window.
            suffixes: from :meth:`suffix`, generated together.
            max_new_tokens: a limit for each.
        """
        [written] = self.write_windows([(prefix, suffixes)], max_new_tokens)
        return written

    def write_windows(
        self, windows: Sequence[tuple[Prefix, Sequence[Sequence[int]]]], max_new_tokens: int
    ) -> list[list[Generated]]:
        """Greedy answers about several windows, all generated together.

        Of the checkpoint's generation settings the end tokens alone are used: a repetition penalty would work against
        lists of frame numbers.

        Args:
            windows: the prefix of each, and the suffixes of its questions.
            max_new_tokens: a limit for each answer.
        """
        tokenizer = self._processor.tokenizer
        written = continue_greedily(
            self.model.language,
            [Branches(prefix, suffixes) for prefix, suffixes in windows],
            end_tokens=self._end_tokens,
            is_complete=self._json_is_closed,
            max_new_tokens=max_new_tokens,
        )
        texts = iter(
            Generated(tokenizer.decode(given.tokens, skip_special_tokens=True), given.tokens, given.ended)
            for given in written
        )
        return [list(islice(texts, len(suffixes))) for _, suffixes in windows]

    def _lay_out(self, shapes: tuple[FrameShape, ...]) -> _Layout:
        head, tail = self._halves(shapes, "?")
        if tail != self.suffix("?"):
            raise CheckpointError(
                f"The chat template of {self._source} writes other text after {len(shapes)} pictures than after one, "
                "so questions cannot share the frames.",
                restore("the chat template of the checkpoint"),
            )
        context = self._processor.context_tokens
        if len(head) + len(tail) >= context:
            shorter = max(1, len(shapes) * context // (2 * len(head)))
            smaller = f"; or frames smaller: {self._smaller}" if self._smaller else ""
            raise ConfigError(
                f"A window of {len(shapes)} frames is {len(head) + len(tail)} tokens, and {self._source} reads "
                f"{context}.",
                f"Make windows shorter: sampler.window.frames={shorter}{smaller}.",
            )
        input_ids = torch.tensor([head])
        is_image = input_ids == self._processor.picture_token
        return _Layout(input_ids, is_image, self.model.positions(input_ids, shapes))

    def _halves(self, shapes: Sequence[FrameShape], question: str) -> tuple[list[int], list[int]]:
        return self._processor.halves(self._prompt.turn(len(shapes), question), shapes)
