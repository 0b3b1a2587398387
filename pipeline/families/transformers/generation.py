"""Greedy text of any multimodal model of transformers; questions about the same frames share the reading of them.

Which way a model can go is found out by trying, on a prompt of two small pictures, before its first request:

* ``shared``: plain attention, of which the states can be kept apart and continued by many questions at once;
* ``copied``: other caches (windows, linear attention), which each question is given a copy of;
* ``whole``: neither gives the model's own logits, so each prompt is read from its beginning.

The tokens are those of ``generate`` on each whole prompt, whichever way is taken.
"""

from __future__ import annotations

import copy
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, partial
from typing import Any, Generic

import numpy as np
import torch

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, OutOfMemoryError
from pipeline.families.known import FirstUse
from pipeline.families.loading.checkpoint import release
from pipeline.families.loading.placement import device_name
from pipeline.families.transformers.inputs import NativeInputs
from pipeline.families.transformers.processor import NativeProcessor
from pipeline.generation.cached_reading import cache_keyword, read_with_cache
from pipeline.generation.framed_prompts import Beginning, FramedPrompts, last_shared
from pipeline.generation.limits import OutputLimits
from pipeline.generation.memory import free_failed_call, mapped_out_of_memory, of_a_prompt
from pipeline.generation.row_buffers import KeptBuffers
from pipeline.generation.running_batch import RunningBatch
from pipeline.generation.shared_prefix import Prefix, states_read
from pipeline.generation.texts import Generated, Key, Outcome, Work, Writer, end_tokens

_LOG = logging.getLogger(__name__)

_SIDE = 64
"""Pixels of the pictures that are tried."""
_APART = {torch.float32: 1e-6}
_APART_IN_HALF = 1e-2
"""How far from 1 the correlation of two sets of logits may be that are to be the same, in float32 and in half of it."""
_SEEN = 1e-6
"""The logits of two prompts with different pictures differ by more, in parts of their spread. In a run of 15 types of
tiny random models the least was 1e-2; a model that does not see its pictures gives the same to the last digit."""


class Way(StrEnum):
    """How questions about the same frames are read."""

    SHARED = "shared"
    COPIED = "copied"
    WHOLE = "whole"


@dataclass(frozen=True)
class NativeModel:
    """A loaded model and the way it can go."""

    model: Any
    processor: NativeProcessor
    way: Way
    ends: frozenset[int]
    """Tokens that end an answer."""
    row_buffers: KeptBuffers
    """What its running batches take over from each other."""

    @cached_property
    def device_name(self) -> str:
        """What it runs on."""
        return device_name(self.model)

    def close(self) -> None:
        """Free the memory. The object is of no use afterwards."""
        self.row_buffers.release()
        release(self.model)

    def writer(self, limits: OutputLimits) -> Writer[Any]:
        """Writes the most probable token, again and again, for each prompt, until it ends or the limits are reached."""
        if self.way is not Way.SHARED:
            return OneByOne(self, limits)
        read = partial(_prefix, self.model)
        return FramedPrompts(self.model, read, self.processor.tokenizer, limits, self.row_buffers)

    @torch.inference_mode()
    def read_once(self, prompts: Sequence[NativeInputs]) -> Copied:
        """What several prompts begin with, for :meth:`write`."""
        length = last_shared([prompt.input_ids.tolist() for prompt in prompts])
        return Copied(_read(self.model, prompts[0], length), _positions(self.model), length)

    @torch.inference_mode()
    def write(self, prompt: NativeInputs, limits: OutputLimits, prefix: Copied | None) -> Generated:
        """The text of one prompt, by ``generate``.

        Args:
            prompt: all of it.
            limits: of the text.
            prefix: what it begins with, if that was read.
        """
        inputs = _arguments(self.model, prompt)
        if prefix is not None:
            inputs = {name: value for name, value in inputs.items() if name not in prompt.frames.tensors}
            inputs[cache_keyword(type(self.model).forward)] = copy.deepcopy(prefix.cache)
            _set_positions(prefix.positions)
        length = prompt.input_ids.shape[0]
        output = self.model.generate(
            **inputs,
            max_new_tokens=limits.total,
            eos_token_id=sorted(self.ends),
            do_sample=False,
            stopping_criteria=[partial(_are_reached, limits, length)],
        )
        tokens = output[0, length:].tolist()
        ended = bool(tokens) and tokens[-1] in self.ends
        tokens = tuple(tokens[:-1] if ended else tokens)
        text = self.processor.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return Generated(text, tokens, ended and not limits.are_reached(tokens))


@dataclass(frozen=True)
class Copied:
    """The beginning of prompts; each of them is given a copy."""

    cache: Any
    positions: tuple[tuple[Any, Any], ...]
    """What the reading left on the model's parts: the part and its ``rope_deltas``."""
    length: int
    """Tokens."""


class OneByOne(Generic[Key]):
    """Prompts that are written one at a time; those that wait together and show the same frames share their reading.

    Args:
        model: whose way is not :attr:`Way.SHARED`.
        limits: of each text.
    """

    def __init__(self, model: NativeModel, limits: OutputLimits) -> None:
        self._model = model
        self._limits = limits
        self._waiting: list[tuple[Key, NativeInputs]] = []
        self._group: deque[tuple[Key, NativeInputs]] = deque()
        """The next prompts; all are about the same frames."""
        self._shares = False
        self._beginning: Copied | None = None
        self._together = 1
        """Prompts that share it."""
        self._reading = 0.0
        """Seconds that it took to read."""
        self._ended: list[tuple[Key, Outcome]] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._group) + len(self._ended)

    def add(self, key: Key, prompt: NativeInputs) -> None:
        """Have a prompt answered."""
        self._waiting.append((key, prompt))

    def step(self) -> list[tuple[Key, Outcome]]:
        """Write one text."""
        if not self._group and self._waiting:
            self._draw()
        if self._group:
            begin, known = time.perf_counter(), self._reading
            result = self._written()
            key, _ = self._group.popleft()
            # ``generate`` reads and writes in one call; what prompts share was read before, in the turn of the first.
            work = Work()
            work.add(time.perf_counter() - begin - (self._reading - known), 1, is_prefill=False)
            if self._beginning is not None:
                work.add(self._reading, self._together, is_prefill=True)
                work.shared, work.reads = self._beginning.length, 1 / self._together
            self._ended.append((key, Outcome(result, work)))
        return self.finished()

    def finished(self) -> list[tuple[Key, Outcome]]:
        """What is finished and was not given."""
        ended, self._ended = self._ended, []
        return ended

    def _draw(self) -> None:
        beginning = Beginning(self._waiting[0][1])
        self._group.extend(each for each in self._waiting if beginning.is_of(each[1]))
        self._waiting = [each for each in self._waiting if not beginning.is_of(each[1])]
        self._shares = self._model.way is Way.COPIED and len(self._group) > 1
        self._beginning, self._together, self._reading = None, len(self._group), 0.0

    def _written(self) -> Generated | Exception:
        while True:
            try:
                with mapped_out_of_memory():
                    if self._shares and self._beginning is None:
                        begin = time.perf_counter()
                        self._beginning = self._model.read_once([prompt for _, prompt in self._group])
                        self._reading = time.perf_counter() - begin
                    return self._model.write(self._group[0][1], self._limits, self._beginning)
            except Exception as error:
                failure = of_a_prompt(error)
            free_failed_call()
            if not (self._shares and isinstance(failure, OutOfMemoryError)):
                return failure
            self._shares, self._beginning = False, None  # it may fit without the copy


def prepared(model: Any, processor: NativeProcessor) -> NativeModel:
    """Try a loaded model: that it sees its pictures, and how its prefixes can be shared.

    Raises:
        CheckpointError: it does not see its pictures, or fails.
    """
    with FirstUse(processor.source).watched("look at two pictures"), mapped_out_of_memory():
        tried = _Trial(model, processor)
        tried.check_sight()
        way = tried.way()
    if way is not Way.SHARED:
        how = "each is given a copy of what was read" if way is Way.COPIED else "each reads them anew"
        _LOG.warning(
            "%s does not keep its past in plain attention layers, so questions about the same frames are written one "
            "at a time: %s.",
            type(model).__name__,
            how,
        )
    return NativeModel(model, processor, way, end_tokens(model, processor.tokenizer), KeptBuffers(model))


class _Trial:
    """A model tried on prompts of two small pictures."""

    def __init__(self, model: Any, processor: NativeProcessor) -> None:
        self._model = model
        self._processor = processor
        dark, light = (np.full((_SIDE, _SIDE, 3), grey, np.uint8) for grey in (0, 255))
        self._black_white = self._prompt(dark, light)
        self._white_black = self._prompt(light, dark)
        self._black_black = self._prompt(dark, dark)

    @torch.inference_mode()
    def check_sight(self) -> None:
        """Whether what is shown, and in which order, changes what the model would write.

        A class that leaves out the vision tower, or weights that were lost, load without a word and answer none the
        less.
        """
        first = _last_logits(self._model, self._black_white)
        spread = float(first.std()) or 1.0
        for other in (self._white_black, self._black_black):
            apart = float((first - _last_logits(self._model, other)).abs().max())
            if not apart / spread > _SEEN:
                raise CheckpointError(
                    f"{type(self._model).__name__} does not see its pictures: a black and a white one give the same "
                    "as two others, to the last digit.",
                    "Fetch the checkpoint again: its vision weights are lost, or config.json is another model's.",
                )

    @torch.inference_mode()
    def way(self) -> Way:
        """The first way of which the logits are the model's own."""
        whole = _last_logits(self._model, self._black_white)
        for way, logits in ((Way.SHARED, self._shared), (Way.COPIED, self._copied)):
            try:
                found = logits()
            except Exception as error:  # models fail each in its own way in what they were not made for
                _LOG.info("%s: the way %s fails: %s", type(self._model).__name__, way, error)
                continue
            if _alike(whole, found, _APART.get(self._model.dtype, _APART_IN_HALF)):
                return way
        return Way.WHOLE

    def _shared(self) -> torch.Tensor:
        prompt = self._black_white
        cut = self._cut(prompt)
        prefix = _prefix(self._model, prompt, cut)
        *suffix, last = prompt.input_ids[cut:].tolist()
        batch: RunningBatch[int] = RunningBatch(
            self._model, end_tokens=frozenset(), is_complete=lambda _: False, max_new_tokens=1
        )
        # The last token by a step, since a model may do that in another way.
        return batch.logits(prefix, suffix, [last])[-1] if suffix else batch.logits(prefix, [last], [])[-1]

    def _copied(self) -> torch.Tensor:
        prompt = self._black_white
        cache = copy.deepcopy(_read(self._model, prompt, self._cut(prompt)))
        positions = _positions(self._model)
        _last_logits(self._model, self._white_black)  # leaves positions of its own behind
        inputs = _arguments(self._model, prompt)
        inputs = {name: value for name, value in inputs.items() if name not in prompt.frames.tensors}
        inputs[cache_keyword(type(self._model).forward)] = cache
        _set_positions(positions)
        output = self._model.generate(
            **inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        logits: torch.Tensor = output.logits[0][0].float()
        return logits

    @staticmethod
    def _cut(prompt: NativeInputs) -> int:
        """After the pictures, as early as may be: so most is left to continue."""
        return max(prompt.frames_end, 1)

    def _prompt(self, *pictures: Any) -> NativeInputs:
        frames = [Frame(float(place), place, pixels) for place, pixels in enumerate(pictures)]
        return self._processor.encode(self._processor.shown(frames), self._processor.plain_turn(len(frames)), 2.0)


def _prefix(model: Any, prompt: NativeInputs, length: int) -> Prefix:
    def read(cache: Any) -> int:
        read_with_cache(model, cache, **_arguments(model, prompt, length), logits_to_keep=1)
        deltas = [value for _, value in _positions(model) if value is not None]
        return length + (int(deltas[0].flatten()[0]) if deltas else 0)

    _set_positions(tuple((part, None) for part, _ in _positions(model)))
    return Prefix(*states_read(model, read))


def _read(model: Any, prompt: NativeInputs, length: int) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    _set_positions(tuple((part, None) for part, _ in _positions(model)))
    read_with_cache(model, cache, **_arguments(model, prompt, length), logits_to_keep=1)
    return cache


def _last_logits(model: Any, prompt: NativeInputs) -> torch.Tensor:
    _set_positions(tuple((part, None) for part, _ in _positions(model)))
    logits: torch.Tensor = model(**_arguments(model, prompt)).logits[0, -1].float()
    return logits


def _arguments(model: Any, prompt: NativeInputs, length: int | None = None) -> dict[str, Any]:
    """Everything that the processor gave, the tokens cut to ``length``."""
    ids = prompt.input_ids[None, :length].to(model.device)
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    given |= {name: value[None, :length].to(model.device) for name, value in prompt.per_token.items()}
    return given | {name: _moved(value, model) for name, value in prompt.frames.tensors.items()}


def _moved(value: Any, model: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)
    return [_moved(each, model) for each in value] if isinstance(value, (list, tuple)) else value


def _positions(model: Any) -> tuple[tuple[Any, Any], ...]:
    """The parts of a model that keep what the last prompt's pictures did to the positions, and what they keep."""
    return tuple((part, part.rope_deltas) for part in model.modules() if hasattr(part, "rope_deltas"))


def _set_positions(kept: tuple[tuple[Any, Any], ...]) -> None:
    for part, value in kept:
        part.rope_deltas = value


def _are_reached(limits: OutputLimits, length: int, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
    """For ``generate``, which asks after each token."""
    reached = [limits.are_reached(row[length:].tolist()) for row in ids]
    return torch.tensor(reached, device=ids.device)


def _alike(one: torch.Tensor, other: torch.Tensor, apart: float) -> bool:
    """By correlation, as some models scale their logits after the output embeddings."""
    return one.shape == other.shape and float(torch.corrcoef(torch.stack([one, other]))[0, 1]) > 1 - apart
