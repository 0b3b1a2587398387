"""The prompts of VILA-1.5 and their tokens: each piece between two frames by itself, as the authors cut it.

Llama and Yi come as SentencePiece models that the authors open with transformers' slow tokenizer of version 4. Version
5 has none, and its fast ones differ where a piece begins with a space or stands after a marker. So SentencePiece is
asked itself here. Llama 3 has a fast tokenizer only, which version 5 reads.

Source: ``conversation.py``, ``tokenizer_image_token`` in ``mm_utils.py`` and ``language_model/builder.py`` of
github.com/NVlabs/VILA at commit ec7fb2c; ``LlamaTokenizer`` of transformers 4.37. Its ``llama_3`` is the corrected one:
that of May 2024 let the model answer as ``system`` and ended turns with ``<|end_of_text|>``. Hermes' turns have no line
feed after ``<|im_end|>`` there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.chat import AddedToken, load_tokenizer, special_tokens, token_text, tokenizer_settings
from pipeline.families.known import restore

ConversationName = Literal["auto", "vicuna_v1", "llama_3", "hermes-2"]


@dataclass(frozen=True)
class Conversation:
    """One turn of the user, and the beginning of the model's."""

    name: str
    system: str
    before: str
    """The beginning of the user's turn; ``{system}`` stands for the system text."""
    after: str
    answer: str
    """Between ``after`` and an answer that is begun already."""
    stop: str
    """The token that ends the model's turn."""
    markers: tuple[str, ...]
    """What the tokenizer must read as one token each; none of them may occur in a question."""

    def prompt(self, turn: str, system: str | None = None, begun: str = "") -> str:
        """The whole prompt.

        Args:
            turn: the user's.
            system: in place of the conversation's own, if there is one.
            begun: how the answer begins already.
        """
        before = self.before.replace("{system}", self.system if system is None else system)
        return f"{before}{turn}{self.after}{self.answer + begun if begun else ''}"


_LLAMA_3 = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
_VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
_KNOWN = (
    Conversation(
        "llama_3",
        _LLAMA_3,
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "",
        "<|eot_id|>",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    Conversation(
        "hermes-2",
        "Answer the questions.",
        "<|im_start|>system\n{system}<|im_end|><|im_start|>user\n",
        "<|im_end|><|im_start|>assistant\n",
        "",
        "<|im_end|>",
        ("<|im_start|>", "<|im_end|>"),
    ),
    Conversation("vicuna_v1", _VICUNA, "{system} USER: ", " ASSISTANT:", " ", "</s>", ("</s>",)),
)
CONVERSATIONS = {conversation.name: conversation for conversation in _KNOWN}


def choose(name: ConversationName, vocabulary: Collection[str]) -> Conversation:
    """The conversation of this name; ``auto``: the first whose markers the tokenizer has.

    The authors go by the checkpoint's name. Its tokenizer says the same: only Llama 3 (8B) has headers, and of the
    others only Yi (40B) has ``<|im_start|>``.

    Raises:
        ConfigError: the tokenizer does not have the markers, so that the model would not know its turn's end.
    """
    asked = _KNOWN if name == "auto" else (CONVERSATIONS[name],)
    for conversation in asked:
        if all(marker in vocabulary for marker in conversation.markers):
            return conversation
    absent = sorted(marker for marker in asked[-1].markers if marker not in vocabulary)
    raise ConfigError(
        f"answerer.conversation={name} needs {', '.join(absent)}, which this checkpoint's tokenizer does not have.",
        "Let the checkpoint decide: answerer.conversation=auto; if it does, its tokenizer is not one of VILA-1.5.",
    )


IMAGE = "<image>"
"""Stands for a frame in a prompt."""
_SPACE = "▁"
# The model's field 3, its normalizer, with field 3 of that, add_dummy_prefix, false: messages given twice are merged.
_NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"
_RESTORE = restore("the tokenizer files of the checkpoint")


class Source(Protocol):
    """One checkpoint's tokenizer, as far as it is needed here."""

    vocabulary: Mapping[str, int]
    special: frozenset[str]
    """Strings that are read as one token anywhere."""
    begin: int | None
    """The token before every text."""
    pad: int | None

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, that of its beginning included."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        ...


@dataclass(frozen=True)
class VilaTokens:
    """Prompts of one checkpoint to ids, and its answers to text."""

    source: Source
    conversation: Conversation

    @classmethod
    def open(cls, folder: Path, conversation: ConversationName, yi: bool) -> VilaTokens:
        """Read the tokenizer in ``folder``.

        Args:
            folder: of the language model.
            conversation: which prompt.
            yi: whether it is that of Yi-34B.

        Raises:
            CheckpointError: there is none, or it cannot be read.
            ConfigError: it is not one for this conversation.
        """
        slow = (folder / "tokenizer.model").is_file()
        source: Source = SlowLlama(folder, legacy_by_default=yi) if slow else Fast(folder)
        return cls(source, choose(conversation, source.vocabulary))

    @property
    def eos_token_id(self) -> int:
        """The end of the model's turn."""
        return self.source.vocabulary[self.conversation.stop]

    @property
    def pad_token_id(self) -> int | None:
        """What fills shorter prompts of a batch."""
        return self.source.pad

    @property
    def markup(self) -> tuple[str, ...]:
        """What must not occur in a question."""
        return tuple(sorted({IMAGE, *self.conversation.markers, *self.source.special} - {""}))

    def ids(self, turn: str, image: Sequence[int], system: str | None = None, begun: str = "") -> list[int]:
        """Tokens of the whole prompt.

        Args:
            turn: the user's, :data:`IMAGE` for each frame.
            image: what stands for a frame among the ids.
            system: in place of the conversation's own, if there is one.
            begun: how the answer begins already.
        """
        pieces = [self.source.encode(piece) for piece in self.conversation.prompt(turn, system, begun).split(IMAGE)]
        # A tokenizer that begins every text does so for every piece, and all but the first go. For Llama 3, whose
        # prompt begins with the same token, there are two; so the authors have it.
        begins = 1 if pieces[0][:1] == [self.source.begin] else 0
        found = pieces[0]
        for piece in pieces[1:]:
            found = [*found, *image, *piece[begins:]]
        return found

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of tokens. The signature is that of transformers' tokenizers."""
        return self.source.decode(tokens)


class Fast:
    """A ``tokenizer.json``."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = load_tokenizer(folder)
        self.vocabulary: Mapping[str, int] = self._tokenizer.get_vocab()
        self.special = frozenset(special_tokens(self._tokenizer))
        self.begin: int | None = self._tokenizer.bos_token_id
        self.pad: int | None = self._tokenizer.pad_token_id

    def encode(self, text: str) -> list[int]:
        """Encode with the fast tokenizer's own special tokens."""
        return list(self._tokenizer(text).input_ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode without special tokens."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))


class SlowLlama:
    """A ``tokenizer.model``, read as the slow tokenizer of transformers 4 read it.

    Args:
        folder: with ``tokenizer.model`` and ``tokenizer_config.json``.
        legacy_by_default: whether to begin a word after every marker where the settings do not say.

    Raises:
        CheckpointError: a file is missing or cannot be read.
    """

    def __init__(self, folder: Path, legacy_by_default: bool) -> None:
        import sentencepiece

        path, settings_path = folder / "tokenizer.model", folder / "tokenizer_config.json"
        settings = tokenizer_settings(folder)
        self._legacy = legacy_by_default if settings.legacy is None else settings.legacy
        try:
            proto = path.read_bytes() + (b"" if self._legacy else _NO_DUMMY_PREFIX)
            self._pieces: Any = sentencepiece.SentencePieceProcessor(model_proto=proto)
            numbers = range(self._pieces.vocab_size())
            plain = dict(zip(self._pieces.id_to_piece(list(numbers)), numbers, strict=True))
        except (OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"The tokenizer in {folder} cannot be read: {error}", _RESTORE) from error
        if settings.add_eos_token:
            raise CheckpointError(f"{settings_path} has add_eos_token, which would end every piece.", _RESTORE)
        names = {key: settings.token(f"{key}_token") or default for key, default in _NAMES.items()}
        entries = {entry.content: (key, entry) for key, entry in (settings.added_tokens_decoder or {}).items()}
        absent = self._pieces.unk_id()
        pieces = {name: self._pieces.piece_to_id(name) for name in names.values()}
        self._added = {
            **{name: token for name, token in pieces.items() if token != absent or name == names["unk"]},
            **{name: token for name, (token, _) in entries.items()},
        }
        self.vocabulary: Mapping[str, int] = {
            **plain,
            **self._added,
        }
        self.special = frozenset(self._added)
        self.begin: int | None = self._added.get(names["bos"]) if settings.add_bos_token is not False else None
        self.pad: int | None = self._added.get(names["pad"])
        self._unknown = names["unk"]
        more = map(token_text, settings.additional_special_tokens or ())
        self._roles = {self._added[name] for name in (*names.values(), *more) if name in self._added}
        longest_first = sorted(self._added, key=len, reverse=True)
        self._split = re.compile("|".join(_marker(name, entries.get(name)) for name in longest_first))

    def encode(self, text: str) -> list[int]:
        """Encode with the token that begins a text, if any."""
        begin = [] if self.begin is None else [self.begin]
        if not text:
            return begin
        return [*begin, *(self._marked(text) if self._legacy else self._without_first_space(text))]

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode without special tokens."""
        special = set(self._added.values())
        known = [token for token in tokens if token not in special and token < self._pieces.vocab_size()]
        return str(self._pieces.decode(known)).removeprefix(" ")

    def _without_first_space(self, text: str) -> list[int]:
        """Only the text's beginning begins a word, and not where a token stands that the settings give a role."""
        tokens = self._marked(_SPACE + text.replace(_SPACE, " "))
        in_a_role = len(tokens) > 1 and tokens[1] in self._roles
        return tokens[1:] if in_a_role and tokens[0] == self._pieces.piece_to_id(_SPACE) else tokens

    def _marked(self, text: str) -> list[int]:
        """Markers are cut out, and what is between them is read by itself."""
        tokens: list[int] = []
        start = 0
        for match in self._split.finditer(text):
            tokens += [*self._between(text[start : match.start()]), self._added[match[0].strip()]]
            start = match.end()
        return [*tokens, *self._between(text[start:])]

    def _between(self, text: str) -> list[int]:
        if not text:
            return []
        if self._legacy or not text.startswith((_SPACE, " ")):
            return list(self._pieces.encode(text))
        # SentencePiece drops a space at the beginning of a text, so something is put before it and taken off again.
        guard = len(self._pieces.encode(self._unknown))
        return list(self._pieces.encode(self._unknown + text))[guard:]


_NAMES = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": ""}


def _marker(name: str, entry: tuple[int, AddedToken] | None) -> str:
    """A pattern that takes with the marker the space that its settings give it."""
    before, after = (r"\s*" if entry and getattr(entry[1], key) else "" for key in ("lstrip", "rstrip"))
    return f"{before}{re.escape(name)}{after}"
