"""Greedy answers to prompts that begin with frames; questions about the same frames share the reading of them.

Each prompt, or the beginning that several share, is read alone: it is thousands of tokens of frames, which fill the
device by themselves, and beside nothing it needs no padding. Then all are decoded together. The tokens are those of a
greedy ``generate`` on each whole prompt, whoever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch

from pipeline.inference.greedy import Generated, end_tokens
from pipeline.inference.shared_prefix import Branches, Prefix, continue_greedily, states_read

if TYPE_CHECKING:
    from transformers import Cache


class FramedPrompt(Protocol):
    """One request's inputs, not padded."""

    @property
    def input_ids(self) -> torch.Tensor:
        """``[L]``; a picture's placeholder stands as often as the picture has tokens."""
        ...

    @property
    def pixels(self) -> Any:
        """The frames as the vision tower takes them. Prompts that hold the same object show the same frames."""
        ...


class ReadsPrompts(Protocol):
    """One family's way to read a prompt; ``prompt`` is the family's own kind of :class:`FramedPrompt`."""

    def language(self, model: Any) -> Any:
        """The part of the model that writes, with its own ``generation_config``."""
        ...

    @property
    def tokenizer(self) -> Any:
        """With ``decode`` and ``eos_token_id``."""
        ...

    def frames_end(self, prompt: Any) -> int:
        """Tokens of the prompt up to the last one of a picture, that one included."""
        ...

    def read(self, model: Any, prompt: Any, length: int, cache: Cache) -> int:
        """Read the first ``length`` tokens, all pictures among them, into the empty cache.

        Returns:
            The position of the token that follows.
        """
        ...


@torch.inference_mode()
def write_answers(
    reader: ReadsPrompts, model: Any, prompts: Sequence[FramedPrompt], max_new_tokens: int
) -> list[Generated]:
    """The most probable token, again and again, for each of the prompts.

    Of the checkpoint's generation settings only the end tokens are used: its sampling values do not apply to greedy
    decoding, and a repetition penalty would count the words of the options against the answer.

    Args:
        reader: of the prompts' family.
        model: loaded.
        prompts: at least one, each longer than its frames.
        max_new_tokens: a limit for each.
    """
    language, tokenizer = reader.language(model), reader.tokenizer
    branches, places = [], []
    for group in grouped(prompts, [reader.frames_end(prompt) for prompt in prompts]):
        ids = [prompts[place].input_ids.tolist() for place in group]
        shared = last_shared(ids)
        read = partial(reader.read, model, prompts[group[0]], shared)
        branches.append(Branches(Prefix(*states_read(language, read)), [row[shared:] for row in ids]))
        places += group
    ends = end_tokens(language, tokenizer)
    written = continue_greedily(
        language, branches, end_tokens=ends, is_complete=lambda _: False, max_new_tokens=max_new_tokens
    )
    found = {
        place: Generated(tokenizer.decode(one.tokens, skip_special_tokens=True), one.tokens, one.ended)
        for place, one in zip(places, written, strict=True)
    }
    return [found[place] for place in range(len(prompts))]


def grouped(prompts: Sequence[FramedPrompt], frames_ends: Sequence[int]) -> list[list[int]]:
    """The places of prompts whose tokens are the same up to the last frame, and their frames as well.

    Args:
        prompts: in any order.
        frames_ends: of each, the tokens up to the last one of a picture.
    """
    groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for place, (prompt, end) in enumerate(zip(prompts, frames_ends, strict=True)):
        groups.setdefault((id(prompt.pixels), tuple(prompt.input_ids[:end].tolist())), []).append(place)
    return list(groups.values())


def last_shared(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with, each with at least one left to go on from."""
    shortest = min(len(row) for row in rows) - 1
    for column, tokens in enumerate(zip(*rows, strict=False)):
        if len(set(tokens)) > 1:
            return min(column, shortest)
    return shortest


def last_of(ids: torch.Tensor, token: int) -> int:
    """How many ids there are up to the last ``token``, that one included; 0 where there is none."""
    places = (ids == token).nonzero()
    return int(places[-1]) + 1 if len(places) else 0
