"""Knowing while it is written that a JSON answer is whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_OPENING, _CLOSING = "{[", "}]"


class JsonIsClosed:
    """True for tokens whose text holds a JSON object that is closed, and whatever was opened around it.

    Models that should end there go on often enough: with an explanation, or with the same again up to the token limit.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # The only tokens worth decoding at; as text in byte-level vocabularies, as <0x7D> among byte fallbacks.
        closes = re.compile(r"[}\]]|<0x7D>|<0x5D>")
        self._closing = {token for word, token in tokenizer.get_vocab().items() if closes.search(word)}

    def __call__(self, tokens: Sequence[int]) -> bool:
        """Whether ``tokens``, of which only the last is new, are a whole answer."""
        if tokens[-1] not in self._closing:
            return False
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        depth = sum(text.count(mark) for mark in _OPENING) - sum(text.count(mark) for mark in _CLOSING)
        return "{" in text and depth <= 0
