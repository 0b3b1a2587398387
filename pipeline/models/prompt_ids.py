"""From a rendered prompt to token ids, and from the ids of several prompts to a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pipeline.errors import CheckpointError, ConfigError
from pipeline.models.remedies import restore


def expanded(tokenizer: Any, prompt: str, pictures: Mapping[str, Sequence[int]]) -> list[int]:
    """The prompt's tokens, each placeholder as often as its picture has tokens.

    Args:
        tokenizer: the checkpoint's.
        prompt: what :func:`pipeline.models.chat.render_chat` gave: one placeholder a picture.
        pictures: for each placeholder the tokens of its pictures, in their order.

    Raises:
        ConfigError: the prompt has more placeholders than pictures.
        CheckpointError: it has fewer: the chat template leaves some out.
    """
    ids: list[int] = tokenizer(prompt, add_special_tokens=False).input_ids
    for placeholder, lengths in pictures.items():
        token = tokenizer.convert_tokens_to_ids(placeholder)
        found = ids.count(token)
        problem = f"The prompt holds {placeholder} {found} times for {len(lengths)} pictures."
        if found > len(lengths):
            raise ConfigError(
                problem, f"Take {placeholder} out of the prompt texts in the YAML: it is written for each frame."
            )
        if found < len(lengths):
            raise CheckpointError(problem, restore("the chat template of the checkpoint's family"))
        repeats = iter(lengths)
        ids = [copy for word in ids for copy in ([word] * next(repeats) if word == token else [word])]
    return ids


def left_padded(rows: Sequence[torch.Tensor], value: int) -> torch.Tensor:
    """Rows of several lengths ``[L]`` as one ``[B, longest L]``, ``value`` before the shorter ones."""
    longest = max(len(row) for row in rows)
    return torch.stack([torch.nn.functional.pad(row, (longest - len(row), 0), value=value) for row in rows])
