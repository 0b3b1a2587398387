"""The model under GenS, whichever family it is of: reads windows of frames and writes about them.

A frame's features do not depend on the window it is in. The prompt is cut right after the last image, so the frames of
a window are read once for all questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.known import restore
from pipeline.families.seam import FrameShape, Model, Opened, Pixels, PreparedFrame, Processor
from pipeline.generation.closing import JsonIsClosed
from pipeline.generation.room import Room
from pipeline.generation.running_batch import Continuation, RunningBatch
from pipeline.generation.shared_prefix import Prefix, prefill
from pipeline.generation.texts import Generated, end_tokens
from pipeline.samplers.frames import Candidate
from pipeline.samplers.prompt import FramePrompt
from pipeline.samplers.windows import Window


@dataclass(frozen=True)
class _Layout:
    """The part of the prompt that holds the frames."""

    input_ids: torch.Tensor
    """``[1, tokens]``."""
    is_image: torch.Tensor
    """``[1, tokens]``, true where a frame's features go."""
    positions: torch.Tensor
    """``[1, tokens]``, or ``[axes, 1, tokens]``."""


class Rows:
    """The running batch of a model's answers, as texts.

    Args:
        batch: of tokens.
        tokenizer: the checkpoint's.
    """

    def __init__(self, batch: RunningBatch[Any], tokenizer: Any) -> None:
        self._batch = batch
        self._tokenizer = tokenizer

    def __len__(self) -> int:
        """Rows that are not finished."""
        return len(self._batch)

    def growth(self, count: int, longest: int, token_bytes: int) -> int:
        """Bytes that so many more rows of so many tokens take."""
        return self._batch.growth(count, longest, token_bytes)

    def add(self, prefix: Prefix, suffixes: Mapping[Any, Sequence[int]]) -> None:
        """Let questions about a window be rows from now on.

        Raises:
            OutOfMemoryError: they do not fit; nothing was changed.
        """
        self._batch.add(prefix, suffixes)

    def step(self) -> list[tuple[Any, Generated]]:
        """Have every row write a token; gives those that are finished.

        Raises:
            OutOfMemoryError: not even one row fits; nothing was changed.
        """
        return [(key, self._generated(written)) for key, written in self._batch.step()]

    def drop(self, keys: frozenset[Any]) -> None:
        """Let unfinished rows leave."""
        self._batch.drop(keys)

    def _generated(self, written: Continuation) -> Generated:
        text = self._tokenizer.decode(written.tokens, skip_special_tokens=True)
        return Generated(text, written.tokens, written.ended)


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
        self._layout = lru_cache(maxsize=4)(self._lay_out)  # full windows, and the last one of each video
        self._room = Room(self.model.language, self.model.row_buffers)

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

    @property
    def frames_at_once(self) -> int | None:
        """As :attr:`Model.frames_at_once`."""
        return self.model.frames_at_once

    def features(self, frames: Sequence[PreparedFrame]) -> list[torch.Tensor]:
        """Each frame as the language model sees it, ``[tokens, hidden size]``, in any window."""
        weight = self.model.language.get_input_embeddings().weight
        made = self.model.row_buffers.with_room(lambda: self.model.features(frames))
        return [features.to(weight) for features in made]

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
        return self._room.read(lambda: self._prefilled(layout, features))

    def _prefilled(self, layout: _Layout, features: Sequence[torch.Tensor]) -> Prefix:
        embeddings = self.model.embedded(layout.input_ids, layout.is_image, torch.cat(tuple(features)))
        return prefill(self.model.language, embeddings, layout.positions.to(embeddings.device))

    def suffix(self, question: str) -> list[int]:
        """The tokens of the prompt after the last frame; they are the same for every number of frames."""
        # A frame of any shape: the text after it does not depend on it.
        return self._halves((FrameShape(1, 1, 1, 1),), question)[1]

    def has_room_for(self, window: Window[Candidate], rows: Rows, count: int, longest: int) -> bool:
        """Whether another window can be prefilled and asked so many questions of so many tokens, by what others took.

        Args:
            window: whose frames are to be read.
            rows: the running batch.
            count: questions.
            longest: tokens of the longest of them.
        """
        length = self._layout(tuple(candidate.frame.shape for candidate in window.items)).input_ids.shape[1]
        return self._room.fits(length, rows, count, longest)

    def rows_with_room(self, rows: Rows, count: int, longest: int) -> int:
        """How many of so many further questions can be asked, by what memory their rows need; at least 1.

        Args:
            rows: the running batch.
            count: questions about a window that was read.
            longest: tokens of the longest of them.
        """
        return self._room.rows(rows, count, longest)

    def rows(self, max_new_tokens: int) -> Rows:
        """An empty running batch of answers, each up to its end or the end of its JSON.

        Of the checkpoint's generation settings the end tokens alone are used: a repetition penalty would work against
        lists of frame numbers.

        Args:
            max_new_tokens: a limit for each answer.
        """
        return Rows(
            RunningBatch(
                self.model.language,
                end_tokens=self._end_tokens,
                is_complete=self._json_is_closed,
                max_new_tokens=max_new_tokens,
                kept=self.model.row_buffers,
            ),
            self._processor.tokenizer,
        )

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
