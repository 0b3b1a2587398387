"""How many tokens a model may write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class OutputLimits:
    """When the writing of one answer is over, by its tokens: a thought and the answer after it have each their own."""

    answer: int
    thought: int = 0
    """0 where none is expected: then one that comes is counted as the answer."""
    begins_open: bool = False
    """The prompt ends inside a thought."""
    opening: frozenset[int] = frozenset()
    """Tokens that begin a thought; both are empty where the marks are not single tokens."""
    ending: frozenset[int] = frozenset()
    longer: str = ""
    """The override that lets a thought come to its end."""

    @property
    def total(self) -> int:
        """Tokens of thought and answer together."""
        return self.answer + self.thought

    def are_reached(self, tokens: Sequence[int]) -> bool:
        """Whether ``tokens``, of which only the last is new, use up what the thought or the answer may have."""
        if not self.thought or not self.ending:
            return len(tokens) >= self.total
        thought = self.thinking_tokens(tokens)
        if thought == len(tokens) and thought and tokens[-1] not in self.ending:
            return thought >= self.thought
        return len(tokens) - thought >= self.answer

    def thinking_tokens(self, tokens: Sequence[int]) -> int:
        """How many of the tokens are a thought, its marks included."""
        if self.ending.isdisjoint(tokens):  # asked after each token, so a long thought must not be looped over here
            opened = self.begins_open or not self.opening.isdisjoint(tokens)
            return len(tokens) if opened else 0
        return next(place + 1 for place in range(len(tokens) - 1, -1, -1) if tokens[place] in self.ending)
