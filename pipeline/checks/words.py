"""How many tokens words are: by the checkpoint's own tokenizer where it lies on this machine, else about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LETTERS_A_TOKEN = 3
"""English has about four; one less is counted, so that the guess is rather too high."""


@dataclass(frozen=True)
class WordCounter:
    """Counts tokens of texts."""

    tokenizer: Any
    """Of the ``tokenizers`` library, which needs no torch; none where only a guess can be had."""

    @property
    def exact(self) -> bool:
        """Whether it is the checkpoint's own count."""
        return self.tokenizer is not None

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        if self.tokenizer is None:
            return [_about(text) for text in texts]
        return [len(encoded.ids) for encoded in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def word_counter(folder: Path | None) -> WordCounter:
    """For the checkpoint in ``folder``; a guess where there is none, or its tokenizer has another form."""
    file = None if folder is None else folder / "tokenizer.json"
    if file is None or not file.is_file():
        return WordCounter(None)
    from tokenizers import Tokenizer

    try:
        return WordCounter(Tokenizer.from_file(str(file)))
    except Exception:  # whatever the Rust library raises; loading the model says what is wrong with the file
        return WordCounter(None)


def _about(text: str) -> int:
    """Letters outside ASCII are a token each."""
    plain = sum(letter.isascii() for letter in text)
    return -(-plain // LETTERS_A_TOKEN) + len(text) - plain
