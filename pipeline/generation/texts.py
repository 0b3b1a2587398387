"""Generated text, and the tokens that end it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Generated:
    """What a model wrote for one item of a batch."""

    text: str
    tokens: tuple[int, ...]
    """New tokens, without the one that ended them."""
    ended: bool
    """Whether the model ended by itself; otherwise the limit cut it."""


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """All tokens that end an answer: the checkpoint's, and its tokenizer's end of turn."""
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*listed, tokenizer.eos_token_id) if token is not None)
