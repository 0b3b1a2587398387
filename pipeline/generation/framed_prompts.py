"""Greedy answers to prompts that begin with frames; questions about the same frames share the reading of them.

Each prompt, or the beginning that several share, is read alone: it is thousands of tokens of frames, which fill the
device by themselves, and beside nothing it needs no padding. Then all are decoded together. The tokens are those of a
greedy ``generate`` on each whole prompt, whoever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch

from pipeline.families.seam import Model, Prompt
from pipeline.generation.limits import OutputLimits
from pipeline.generation.running_batch import Branches, continue_greedily
from pipeline.generation.shared_prefix import Prefix, states_read
from pipeline.generation.texts import Generated, end_tokens


class FramedPrompt(Protocol):
    """A prompt that begins with frames."""

    @property
    def input_ids(self) -> Any:
        """``[L]``, an array or a tensor."""
        ...

    @property
    def frames(self) -> Any:
        """Prompts that hold the same object show the same frames."""
        ...

    @property
    def frames_end(self) -> int:
        """Tokens up to the last one of a picture, that one included."""
        ...


@torch.inference_mode()
def generate_texts(model: Model, tokenizer: Any, prompts: Sequence[Prompt], limits: OutputLimits) -> list[Generated]:
    """The most probable token, again and again, for each of the prompts.

    Of the checkpoint's generation settings only the end tokens are used: its sampling values do not apply to greedy
    decoding, and a repetition penalty would count the words of the options against the answer.

    Args:
        model: loaded.
        tokenizer: the checkpoint's, with ``decode`` and ``eos_token_id``.
        prompts: at least one, each longer than its frames.
        limits: of each.
    """
    language = model.language
    branches, places = [], []
    for group in grouped(prompts):
        ids = [prompts[place].input_ids.tolist() for place in group]
        shared = last_shared(ids)
        read = partial(model.prefill, prompts[group[0]], shared)
        states, following = model.row_buffers.with_room(partial(states_read, language, read))
        branches.append(Branches(Prefix(states, following), [row[shared:] for row in ids]))
        places += group
    ends = end_tokens(language, tokenizer)
    written = continue_greedily(
        language,
        branches,
        end_tokens=ends,
        is_complete=limits.are_reached,
        max_new_tokens=limits.total,
        kept=model.row_buffers,
    )
    found = {
        place: Generated(
            tokenizer.decode(one.tokens, skip_special_tokens=True),
            one.tokens,
            one.ended and not limits.are_reached(one.tokens),
        )
        for place, one in zip(places, written, strict=True)
    }
    return [found[place] for place in range(len(prompts))]


def grouped(prompts: Sequence[FramedPrompt]) -> list[list[int]]:
    """The places of prompts whose tokens are the same up to the last frame, and their frames as well."""
    groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for place, prompt in enumerate(prompts):
        framed = tuple(prompt.input_ids[: prompt.frames_end].tolist())
        groups.setdefault((id(prompt.frames), framed), []).append(place)
    return list(groups.values())


def last_shared(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with, each with at least one left to go on from."""
    shortest = min(len(row) for row in rows) - 1
    for column, tokens in enumerate(zip(*rows, strict=False)):
        if len(set(tokens)) > 1:
            return min(column, shortest)
    return shortest
