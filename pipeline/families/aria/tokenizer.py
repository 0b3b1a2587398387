"""The tokens of GenS: SentencePiece alone, each piece of the prompt between two images by itself.

The authors run transformers' slow tokenizer of version 4 over the pieces and put the image token between them
(``_tokenizer_image_token`` in ``inference.py``, github.com/yaolinli/GenS). Version 5 has no slow tokenizers, and its
fast one gives other ids for these files: it begins a word after every marker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import CheckpointError
from pipeline.families.chat import TokenizerSettings, tokenizer_settings
from pipeline.families.known import override, restore

IMAGE = "<|img|>"
TURN_END = "<|im_end|>"
# Markers look like <|im_end|> or <fim_prefix>; <b> and </p> are words that people write.
_MARKER = re.compile(r"<\|[^<>|\s]+\|>|</?[a-z]+(?:_[a-z0-9]+)+>")
_RESTORE = restore("the tokenizer files of the checkpoint")


class ChunkTokenizer:
    """Reads and writes the tokens of one checkpoint.

    Raises:
        CheckpointError: a file is missing, or asks for something that the authors' tokenisation does not do.
    """

    pad_token_id = None
    """The files name none; an end of the model's own serves."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        path, settings = folder / "tokenizer.model", tokenizer_settings(folder)
        if not path.is_file():
            raise CheckpointError(f"{folder} has no tokenizer.model.", _RESTORE)
        import sentencepiece

        try:
            self._pieces: Any = sentencepiece.SentencePieceProcessor(model_file=str(path))
            self._pieces.id_to_piece(list(range(self._pieces.vocab_size())))  # a damaged piece is no text
        except (OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path} is not a SentencePiece model: {error}", _RESTORE) from error
        self.chat_template = _template(folder, settings)
        added = {entry.content: key for key, entry in (settings.added_tokens_decoder or {}).items()}
        self._added = added
        self._split = re.compile("|".join(map(re.escape, sorted(added, key=len, reverse=True))) or r"(?!)")
        self.image_token = self._pieces.piece_to_id(IMAGE)
        self.eos_token_id = self._pieces.piece_to_id(TURN_END)
        """The end of the model's turn."""
        self._begin = self._beginning(settings, vocab_size)
        self._check(settings)

    def __call__(self, prompt: str) -> list[list[int]]:
        """Tokens of the pieces of a rendered prompt: before, between and after its images.

        Tokens of what the vocabulary does not know are left out: the authors mask them, which comes to the same.
        """
        unknown = self._pieces.unk_id()
        chunks = [[token for token in self._encode(chunk) if token != unknown] for chunk in prompt.split(IMAGE)]
        return [self._begin + chunks[0], *chunks[1:]]

    def whole(self, prompt: str) -> list[int]:
        """Tokens of a rendered prompt in one piece, one for each of its images: as the processor of Aria's authors."""
        return [*self._begin, *self._encode(prompt)]

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of tokens. Ids outside of the vocabulary, all of them special, have none."""
        text: str = self._pieces.decode([token for token in tokens if token < self._pieces.vocab_size()])
        return text

    def get_vocab(self) -> dict[str, int]:
        """Piece to id."""
        return {self._pieces.id_to_piece(token): token for token in range(self._pieces.vocab_size())}

    def apply_chat_template(self, turns: list[dict[str, Any]], *, tokenize: bool, add_generation_prompt: bool) -> str:
        """The prompt as text. The signature is that of transformers' tokenizers; ``tokenize=False`` is what is used."""
        from transformers.utils.chat_template_utils import render_jinja_template

        assert not tokenize
        rendered, _ = render_jinja_template(
            conversations=[turns], chat_template=self.chat_template, add_generation_prompt=add_generation_prompt
        )
        return str(rendered[0])

    @cached_property
    def control_tokens(self) -> tuple[str, ...]:
        """Strings that are read as markers anywhere, and so must not occur in a question."""
        found = set(self._added)
        for token in range(self._pieces.vocab_size()):
            piece = self._pieces.id_to_piece(token)
            plain = self._pieces.is_byte(token) or self._pieces.is_control(token) or self._pieces.is_unknown(token)
            # Symbols that were defined by hand are never cut, so one of them is whole even inside a word.
            if not plain and _MARKER.fullmatch(piece) and token in self._pieces.encode(f"a{piece}a"):
                found.add(piece)
        return tuple(sorted(found))

    def _encode(self, chunk: str) -> list[int]:
        """A slow tokenizer cuts the text at its added tokens and reads what is between them by itself."""
        tokens: list[int] = []
        start = 0
        for match in self._split.finditer(chunk):
            tokens += [*self._pieces.encode(chunk[start : match.start()]), self._added[match[0]]]
            start = match.end()
        return [*tokens, *self._pieces.encode(chunk[start:])]

    def _beginning(self, settings: TokenizerSettings, vocab_size: int) -> list[int]:
        if settings.add_bos_token is False:
            return []
        name = settings.token("bos_token") or "<s>"
        token = self._added.get(name, self._pieces.piece_to_id(name))
        if token >= vocab_size:
            raise CheckpointError(
                f"The tokenizer asks for {name!r} at the beginning, whose id {token} has no embedding: there are "
                f"{vocab_size}.",
                f"Set add_bos_token to false in tokenizer_config.json, as GenS has it, or {_RESTORE}",
            )
        return [token]

    def _check(self, settings: TokenizerSettings) -> None:
        unknown = self._pieces.unk_id()
        absent = [name for name in (IMAGE, TURN_END) if self._pieces.piece_to_id(name) == unknown]
        begins_words = self._pieces.encode("a", out_type=str)[0].startswith("▁")
        problem = ""
        if absent:
            problem = f"tokenizer.model has no {' and no '.join(absent)}"
        elif settings.add_eos_token:
            problem = "tokenizer_config.json has add_eos_token, which would end the prompt after every image"
        elif begins_words and settings.legacy is False:
            problem = "tokenizer_config.json has legacy=false, which GenS has not, and tokenizer.model begins words"
        if problem:
            raise CheckpointError(
                f"This is not the tokenizer of GenS: {problem}.",
                f"Restore the tokenizer files of the checkpoint, or name another: {override('source')}.",
            )


def _template(folder: Path, settings: TokenizerSettings) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = settings.chat_template
    return found if isinstance(found, str) else None
