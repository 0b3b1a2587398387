"""Generated text, and the tokens that end it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar


@dataclass(frozen=True)
class Generated:
    """What a model wrote for one item of a batch."""

    text: str
    tokens: tuple[int, ...]
    """New tokens, without the one that ended them."""
    ended: bool
    """Whether the model ended by itself; otherwise the limit cut it."""


@dataclass
class Work:
    """The model's work on one prompt: its share of it, and all in which it took part."""

    prefill: float = 0.0
    """Seconds of reading prompts. Work that several prompts share is divided among them."""
    generate: float = 0.0
    """Seconds of writing, likewise."""
    whole_prefill: float = 0.0
    whole_generate: float = 0.0
    """The same without division, as if the prompt had been alone."""
    shared: int = 0
    """Tokens at its beginning that were read for several prompts at once, all pictures among them."""
    reads: float = 1.0
    """How often they were read on its account: half a time where two prompts shared them, 0 where they were known."""

    def add(self, seconds: float, among: int, is_prefill: bool) -> None:
        """Count a piece of work that so many prompts share."""
        if is_prefill:
            self.prefill += seconds / among
            self.whole_prefill += seconds
        else:
            self.generate += seconds / among
            self.whole_generate += seconds


@dataclass(frozen=True)
class Outcome:
    """What became of one prompt."""

    result: Generated | Exception
    """Its text, or the error that the model raised at this prompt; of memory where it did not fit alone."""
    work: Work


Key = TypeVar("Key", bound=Hashable)


class Writer(Protocol[Key]):
    """Writes answers to prompts, which are added at any time, each by a key of its own."""

    def __len__(self) -> int:
        """Prompts that were added and not given."""
        ...

    def add(self, key: Key, prompt: Any) -> None:
        """Have a prompt answered; not yet begun on return."""
        ...

    def step(self) -> list[tuple[Key, Outcome]]:
        """Do the next piece of work; gives what is finished. An error of one prompt is its outcome.

        Any other error leaves what is finished to the next call of :meth:`finished`.
        """
        ...

    def finished(self) -> list[tuple[Key, Outcome]]:
        """What is finished and was not given, without any work."""
        ...


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """All tokens that end an answer: the checkpoint's, and its tokenizer's end of turn."""
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*listed, tokenizer.eos_token_id) if token is not None)
