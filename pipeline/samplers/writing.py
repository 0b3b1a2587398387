"""The words of a model about a window, whichever family it is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.inference.closing import JsonIsClosed
from pipeline.inference.greedy import Generated, end_tokens
from pipeline.inference.shared_prefix import Branches, Prefix, continue_greedily


class JsonWriter:
    """Decodes greedily up to an end token or the end of the JSON.

    Of the checkpoint's generation settings the end tokens alone are used: a repetition penalty would work against lists
    of frame numbers.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._end_tokens = end_tokens(model, tokenizer)
        self._json_is_closed = JsonIsClosed(tokenizer)

    def write(self, prefix: Prefix, suffixes: Sequence[Sequence[int]], max_new_tokens: int) -> list[Generated]:
        """One answer a suffix.

        Args:
            prefix: of the window.
            suffixes: the tokens of each prompt behind the prefix, decoded together.
            max_new_tokens: a limit for each.
        """
        written = continue_greedily(
            self._model,
            [Branches(prefix, suffixes)],
            end_tokens=self._end_tokens,
            is_complete=self._json_is_closed,
            max_new_tokens=max_new_tokens,
        )
        return [
            Generated(self._tokenizer.decode(given.tokens, skip_special_tokens=True), given.tokens, given.ended)
            for given in written
        ]
