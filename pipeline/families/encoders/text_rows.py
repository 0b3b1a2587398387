"""Questions of any length as token rows of a text tower that reads a few dozen tokens and no more."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import CheckpointError
from pipeline.families.chat import read_tokenizer, special_tokens
from pipeline.families.loading.remedies import restore

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_RESTORE = restore("the tokenizer files of the checkpoint")


@dataclass(frozen=True)
class TextRows:
    """How a checkpoint of CLIP, SigLIP or SigLIP 2 wants its texts.

    All were trained on lower-cased text, padded on the right to the full length, without a mask: SigLIP takes its
    vector from the last position, whatever stands there (big_vision issues 186 and 187 tell what other padding and case
    cost); CLIP from the first end token, behind which nothing counts. So this form is the right one for each.
    """

    encode: Callable[[str], list[int]]
    """Tokens of a lower-cased text without control tokens."""
    before: Sequence[int]
    """Control tokens before each text."""
    after: Sequence[int]
    """Control tokens behind it."""
    pad: int
    markup: tuple[str, ...]
    """Strings that the tokenizer takes for control tokens."""

    @classmethod
    def read(cls, folder: Path) -> TextRows:
        """The tokenizer of a checkpoint folder.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        try:
            pieces = folder / "spiece.model"
            return _from_sentencepiece(pieces) if pieces.is_file() else _from_tokenizer(folder)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"The tokenizer in {folder} cannot be read: {error}", _RESTORE) from error

    def rows(self, text: str, length: int) -> list[list[int]]:
        """One row of ``length`` tokens, or as few as hold a longer text, in pieces of nearly equal length."""
        ids = self.encode(text.lower())
        room = length - len(self.before) - len(self.after)
        pieces = np.array_split(np.array(ids, dtype=int), max(1, -(-len(ids) // room)))
        rows = [[*self.before, *piece.tolist(), *self.after] for piece in pieces]
        return [row + [self.pad] * (length - len(row)) for row in rows]


def _from_tokenizer(folder: Path) -> TextRows:
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        # Transformers would make an empty tokenizer out of config.json and say nothing.
        raise CheckpointError(f"{folder} has no tokenizer.json, vocab.json or spiece.model.", _RESTORE)
    tokenizer = read_tokenizer(folder)

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    whole, bare = tokenizer("a").input_ids, encode("a")
    start = next(place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
    before, after = whole[:start], whole[start + len(bare) :]
    return TextRows(encode, before, after, tokenizer.pad_token_id, special_tokens(tokenizer))


def _from_sentencepiece(path: Path) -> TextRows:
    """SigLIP's own: punctuation is left out and the end token pads too (``big_vision``: ``eos="sticky"``).

    Transformers' class for it gives the same tokens, and needs protobuf besides.
    """
    import sentencepiece

    pieces: Any = sentencepiece.SentencePieceProcessor(model_file=str(path))
    end = pieces.eos_id()

    def encode(text: str) -> list[int]:
        ids: list[int] = pieces.encode(re.sub(r"\s+", " ", text.translate(_PUNCTUATION)).strip())
        return ids

    return TextRows(encode, (), (end,), end, ())
