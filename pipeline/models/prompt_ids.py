"""From a rendered prompt to token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
