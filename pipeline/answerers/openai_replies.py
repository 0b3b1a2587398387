"""What a server wrote, read strictly; and a store of it, so that the same request is paid for once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.artefacts.store import ContentStore

# OpenAI's word and Gemini's, which its compatible endpoint passes on as they are.
_FILTERED = re.compile(r"content_filter|safety|prohibited|blocklist|recitation|spii", re.IGNORECASE)
_CUT = frozenset({"length", "max_tokens"})


@dataclass(frozen=True)
class Reply:
    """One answer of a server, as far as it matters here."""

    text: str
    finish: str
    """The server's own word for why the text ended; empty if it gave none."""
    refusal: str
    """The words of a refusal, where the server keeps them apart from the text."""
    prompt_tokens: int
    output_tokens: int
    """Thoughts that are not shown count, as they are charged."""

    @property
    def is_refused(self) -> bool:
        """Whether the model, or a filter around it, declined."""
        return bool(self.refusal) or _FILTERED.search(self.finish) is not None

    @property
    def is_cut(self) -> bool:
        """Whether the token limit ended the text."""
        return self.finish.casefold() in _CUT


@dataclass(frozen=True)
class _Message:
    content: str | None = None
    refusal: str | None = None


@dataclass(frozen=True)
class _Choice:
    message: _Message
    finish_reason: str | None = None


@dataclass(frozen=True)
class _Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


@dataclass(frozen=True)
class _Completion:
    choices: list[_Choice]
    usage: _Usage | None = field(default=None)


_COMPLETION = TypeAdapter(_Completion)
_REPLY = TypeAdapter(Reply)


def read_reply(body: str) -> Reply:
    """The first choice of a chat completion.

    Raises:
        ValueError: the body is no chat completion; says why, in one line.
    """
    try:
        completion = _COMPLETION.validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(str(part) for part in first['loc']) or 'body'}: {first['msg']}") from None
    if not completion.choices:
        raise ValueError("choices: there is none")
    choice, usage = completion.choices[0], completion.usage or _Usage()
    return Reply(
        text=choice.message.content or "",
        finish=choice.finish_reason or "",
        refusal=choice.message.refusal or "",
        prompt_tokens=usage.prompt_tokens,
        # Gemini's compatible endpoint counts thoughts in the total alone.
        output_tokens=max(usage.completion_tokens, usage.total_tokens - usage.prompt_tokens),
    )


class ReplyStore:
    """A folder of replies by the digest of their request. Refusals and empty texts are not kept."""

    def __init__(self, folder: Path) -> None:
        self._store = ContentStore(folder / "replies", ".json")

    def find(self, key: str) -> Reply | None:
        """The reply to this request; none if there is none, or the file is damaged.

        Raises:
            StorageError: the folder cannot be read.
        """
        content = self._store.find(key)
        if content is None:
            return None
        try:
            return _REPLY.validate_json(content)
        except ValidationError:
            return None  # asked for afresh and overwritten

    def keep(self, key: str, reply: Reply) -> None:
        """Store a reply that is of use.

        Raises:
            StorageError: the folder cannot be written.
        """
        if reply.text.strip() and not reply.is_refused:
            self._store.keep(key, _REPLY.dump_json(reply))
