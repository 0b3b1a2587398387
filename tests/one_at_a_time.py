"""The slow path that answers must agree with: stock ``generate`` on each whole prompt, one after another.

No prefix is shared, no row runs beside another, no layer is exchanged, and frames go through the stock tower. All else
of the pipeline is as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import pipeline.families.loading  # noqa: F401  # prepares the import of torchvision
from pipeline.families import fused
from pipeline.families.qwen import model as qwen
from pipeline.families.seam import Model, Prompt
from pipeline.generation import framed_prompts
from pipeline.generation.prefix_attention import PrefixStates
from pipeline.generation.running_batch import Continuation, RunningBatch
from pipeline.generation.shared_prefix import Prefix
from pipeline.samplers import backbone


@dataclass(frozen=True)
class Unread(Prefix):
    """A beginning that is read again with each row."""

    ids: tuple[int, ...]
    arguments: Callable[[Sequence[int]], dict[str, Any]]
    """Of ``generate``, for the token ids of a whole prompt."""

    def first(self, tokens: int) -> Unread:
        return _unread(self.ids[:tokens], self.arguments)


def _unread(ids: Sequence[int], arguments: Callable[[Sequence[int]], dict[str, Any]]) -> Unread:
    nothing = (torch.zeros(1, len(ids), 1),)
    return Unread(PrefixStates(nothing, nothing), len(ids), tuple(ids), arguments)


def _of_prompt(model: Model, prompt: Prompt, length: int) -> Unread:
    def arguments(ids: Sequence[int]) -> dict[str, Any]:
        whole = Prompt(np.array(ids), prompt.frames, prompt.frames_end, prompt.times)
        return model.arguments(whole, len(ids))

    return _unread(prompt.input_ids[:length].tolist(), arguments)


def _of_window(self: backbone.Backbone, features: Sequence[Any], frames: Sequence[Any]) -> Unread:
    ids = self._layout(tuple(frame.shape for frame in frames)).input_ids[0].tolist()
    return _of_prompt(self.model, Prompt(np.array(ids), tuple(frames), len(ids)), len(ids))


class Alone(RunningBatch[Any]):
    """Each row is written as it comes."""

    def add(self, prefix: Prefix, suffixes: Mapping[Any, Sequence[int]]) -> None:
        assert isinstance(prefix, Unread)
        for key, suffix in suffixes.items():
            ids = [*prefix.ids, *suffix]
            self._finished.append((key, self._written(len(ids), prefix.arguments(ids))))

    def growth(self, count: int, tokens: int, token_bytes: int) -> int:
        return 0

    @torch.inference_mode()
    def _written(self, length: int, arguments: dict[str, Any]) -> Continuation:
        def is_complete(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            token = int(ids[0, -1])
            done = token not in self._ends and self._is_complete(ids[0, length:].tolist())
            return torch.tensor([done], device=ids.device)

        output = self._model.generate(
            **arguments,
            attention_mask=torch.ones_like(arguments["input_ids"]),
            max_new_tokens=self._most,
            eos_token_id=sorted(self._ends),
            do_sample=False,
            repetition_penalty=1.0,
            stopping_criteria=[is_complete],
        )
        tokens = output[0, length:].tolist()
        is_end = tokens[-1] in self._ends
        written = tokens[:-1] if is_end else tokens
        return Continuation(tuple(written), is_end or self._is_complete(written))


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Within it, models that are loaded go the slow way."""
    with (
        patch.object(fused, "_EXCHANGES", ()),
        patch.object(qwen, "attend_frames_at_once", lambda tower: None),
        patch.object(backbone, "RunningBatch", Alone),
        patch.object(framed_prompts, "RunningBatch", Alone),
        patch.object(backbone.Backbone, "features", lambda self, frames: [torch.zeros(0)] * len(frames)),
        patch.object(backbone.Backbone, "prefix", _of_window),
        patch.object(Model, "prefix", _of_prompt),
    ):
        yield
