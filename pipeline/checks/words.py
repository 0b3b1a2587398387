"""Counts the tokens of words by the checkpoint's tokenizer, or estimates them where it is not on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LETTERS_A_TOKEN = 3
"""English has about four; one less is counted, so that the guess is rather too high."""
_PARTS = (".", "llm")
"""Where a checkpoint has its tokenizer: VILA-1.5 in a folder of the language model."""


@dataclass(frozen=True)
class WordCounter:
    """Counts tokens of texts."""

    count: Callable[[Sequence[str]], list[int]]
    """Tokens of each text."""
    exact: bool
    """Whether it is the checkpoint's own count."""


def word_counter(folder: Path | None) -> WordCounter:
    """For the checkpoint in ``folder``; a guess where there is none, or its tokenizer has another form.

    Read by the libraries ``tokenizers`` and ``sentencepiece``, which need no torch. A file that they cannot read is
    told of when the model is loaded.
    """
    for part in _PARTS if folder is not None else ():
        assert folder is not None
        for name, read in (("tokenizer.json", _fast), ("tokenizer.model", _pieces)):
            if (folder / part / name).is_file() and (count := read(folder / part / name)):
                return WordCounter(count, exact=True)
    return WordCounter(_about, exact=False)


def _fast(file: Path) -> Callable[[Sequence[str]], list[int]] | None:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # the library raises nothing more special
        return None
    return lambda texts: [len(one.ids) for one in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _pieces(file: Path) -> Callable[[Sequence[str]], list[int]] | None:
    from sentencepiece import SentencePieceProcessor

    try:
        pieces = SentencePieceProcessor(model_file=str(file))
    except (OSError, RuntimeError):
        return None
    return lambda texts: [len(ids) for ids in pieces.encode(list(texts))]


def _about(texts: Sequence[str]) -> list[int]:
    """Letters outside ASCII are a token each."""
    return [
        -(-sum(map(str.isascii, text)) // LETTERS_A_TOKEN) + sum(not letter.isascii() for letter in text)
        for text in texts
    ]
