"""Reads the replies of servers in all their shapes, prices them, and stores them, so that each is paid for once.

A message's content is a string, None, or a list of parts: text, thoughts (``thinking`` of Mistral, ``reasoning``),
refusals, each a string or a list again. Thoughts also come beside it, under ``reasoning`` (vLLM since 11/2025,
OpenRouter) or ``reasoning_content`` (vLLM before, SGLang, llama.cpp, Kimi, DashScope).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from pipeline.artefacts.store import ContentStore
from pipeline.errors import ConfigError
from pipeline.wellformed import dumped, well_formed

_Kind = Literal["text", "thought", "refusal"]
_BESIDE = ("reasoning", "reasoning_content", "thinking", "reasoning_details")
"""Fields of a message that hold its thoughts; some servers send the same under two names, so the first counts."""
_OF_THOUGHT = ("think", "reason", "thought", "redacted", "summary")
"""Beginnings of the types of parts that hold thoughts."""
_INNER: Mapping[_Kind, Sequence[str]] = {
    "text": ("text", "content", "value", "output_text"),
    "thought": ("thinking", "reasoning", "reasoning_content", "thought", "summary", "text", "content", "value"),
    "refusal": ("refusal", "text", "content"),
}
"""Where a part of a kind holds its words, first of all."""


@dataclass(frozen=True)
class Message:
    """What one message says."""

    text: str
    thought: str
    """What the server keeps apart as thoughts; ``text`` may hold others, in marks."""
    refusal: str


def read_message(message: Mapping[str, Any]) -> Message:
    """All that a message says. Fields and parts of other kinds (tool calls, sound) are left out."""
    said: dict[_Kind, list[str]] = {"text": [], "thought": [], "refusal": []}
    beside = next((message[name] for name in _BESIDE if message.get(name)), None)
    _collect(beside, "thought", said)
    _collect(message.get("content"), "text", said)
    _collect(message.get("refusal"), "refusal", said)
    text, thought, refusal = (well_formed(_joined(said[kind])) for kind in ("text", "thought", "refusal"))
    return Message(text, thought, refusal)


def _collect(value: Any, kind: _Kind, said: dict[_Kind, list[str]]) -> None:
    left: list[tuple[Any, _Kind]] = [(value, kind)]
    while left:
        value, kind = left.pop()
        if isinstance(value, str):
            said[kind].append(value)
        elif isinstance(value, list):
            left += [(each, kind) for each in reversed(value)]
        elif isinstance(value, Mapping):
            kind = _kind(value, kind)
            inner = (value.get(name) for name in _INNER[kind])
            left.append((next((each for each in inner if each and isinstance(each, (str, list, Mapping))), None), kind))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            said[kind].append(json.dumps(value))


def _kind(part: Mapping[str, Any], around: _Kind) -> _Kind:
    named = str(part.get("type") or "").casefold()
    if named.startswith("refusal"):
        return "refusal"
    if part.get("thought") is True or named.startswith(_OF_THOUGHT):
        return "thought"
    return around


def _joined(parts: Sequence[str]) -> str:
    """In one text; parts that meet without white space are lines."""
    joined: list[str] = []
    for part in filter(None, parts):
        if joined and not (joined[-1][-1].isspace() or part[0].isspace()):
            joined.append("\n")
        joined.append(part)
    return "".join(joined)


# OpenAI's word and Gemini's, which its compatible endpoint passes on as they are.
_FILTERED = re.compile(r"content_filter|safety|prohibited|blocklist|recitation|spii|refusal", re.IGNORECASE)
_CUT = frozenset(
    {"length", "max_tokens", "max_output_tokens", "max_completion_tokens", "model_length", "token_limit", "incomplete"}
)
# error (OpenRouter and other gateways), abort (vLLM, SGLang), insufficient_system_resource (DeepSeek).
_FAILED = re.compile(
    r"error|abort|cancel|fail|time_?d?_?out|overload|unavailable|interrupt|insufficient", re.IGNORECASE
)


class NoReplyError(Exception):
    """A response of status 200 that holds no answer, though the server may give one if it is asked again.

    Args:
        reason: why not, in a few words.
        error: what the server says about it, as an OpenAI error object; empty: nothing.
    """

    def __init__(self, reason: str, error: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error or {}


@dataclass(frozen=True)
class Reply:
    """The parts of a server's reply that the answerer uses."""

    text: str
    """Unchanged; it may contain thoughts."""
    finish: str
    """The server's own word for why the text ended; empty if it gave none."""
    refusal: str
    """The words of a refusal, where the server keeps them apart from the text."""
    prompt_tokens: int
    output_tokens: int
    """Includes thoughts, whether shown or not, since they are charged."""
    thought: str = ""
    """Thoughts that the server keeps apart from the text."""
    thinking_tokens: int = 0
    """Those of ``output_tokens`` that are thoughts; 0 where the server does not count them."""
    model: str = ""
    """What the server says that it ran: the model, often by its exact version, and the fingerprint of its system."""
    cached_tokens: int | None = None
    """Those of ``prompt_tokens`` that the server had in its cache; None where it does not say."""
    visual_tokens: int | None = None
    """Those of ``prompt_tokens`` that are of pictures; None where it does not say."""
    seconds: float = 0.0
    """From request to reply, when it was asked for."""

    @property
    def is_refused(self) -> bool:
        """Whether the model, or a filter around it, declined."""
        return bool(self.refusal) or _FILTERED.search(self.finish) is not None

    @property
    def is_cut(self) -> bool:
        """Whether the token limit ended the text."""
        return self.finish.casefold() in _CUT

    @property
    def has_failed(self) -> bool:
        """Whether the server broke off, so that the text is not an answer."""
        return not self.is_refused and _FAILED.search(self.finish) is not None


@dataclass(frozen=True)
class Prices:
    """Dollars for a million tokens; None: unknown, and no dollars are counted."""

    input: float | None
    output: float | None

    def __post_init__(self) -> None:
        if (self.input is None) != (self.output is None):
            raise ConfigError("Of answerer.prices one is known and the other not.", "Set both, or both to null.")

    def dollars(self, reply: Reply) -> float:
        """What a reply cost, without discounts for prompts that a server has seen before."""
        spent = reply.prompt_tokens * (self.input or 0.0) + reply.output_tokens * (self.output or 0.0)
        return spent / 1_000_000


_REPLY = TypeAdapter(Reply)


def read_reply(body: str) -> Reply:
    """The first choice of a chat completion.

    Raises:
        NoReplyError: there is none, or the server broke off while it wrote.
    """
    try:
        completion = json.loads(body.removeprefix("\ufeff"), strict=False)
        return _reply(completion)
    except NoReplyError:
        raise
    except Exception as error:  # one reply must not cost the answers to other questions
        raise NoReplyError(f"{type(error).__name__}: {error}" if body.strip() else "it is empty") from None


def _reply(completion: Any) -> Reply:
    if not isinstance(completion, Mapping):
        raise NoReplyError("it is not a JSON object")
    choices = completion.get("choices")
    found = [each for each in choices if isinstance(each, Mapping)] if isinstance(choices, list) else []
    choice = found[0] if found else {}
    message: Mapping[str, Any] = next(
        (choice[name] for name in ("message", "delta") if isinstance(choice.get(name), Mapping)), {}
    )
    for place in (completion, choice, message):
        if error := _error(place.get("error")):
            raise NoReplyError("it holds an error", error)
    counts = _counts(completion.get("usage"))
    if not found:
        if blocked := _blocked(completion):
            return Reply("", blocked, f"the prompt was blocked ({blocked})", *counts)
        raise NoReplyError("it holds no choice", _error(completion) if "choices" not in completion else None)
    if not message and isinstance(choice.get("text"), str):
        message = {"content": choice["text"]}  # of a plain completion
    said, finish = read_message(message), _word(choice.get("finish_reason"))
    thinking = _thinking_tokens(completion.get("usage"), counts)
    ran = " ".join(filter(None, (_word(completion.get(name)) for name in ("model", "system_fingerprint"))))
    prompt = _prompt_details(completion.get("usage"))
    cached, visual = prompt.get("cached_tokens"), _sum_of_known(prompt, ("image_tokens", "video_tokens"))
    reply = Reply(said.text, finish, said.refusal, *counts, said.thought, thinking, ran, cached, visual)
    if not (finish or reply.text or reply.thought or reply.refusal or message.get("tool_calls")):
        raise NoReplyError("it holds no text, and no reason why the text ended")
    if reply.has_failed:
        raise NoReplyError(f"finish_reason is {finish!r}", {"message": f"finish_reason is {finish!r}"})
    return reply


def _error(value: Any) -> Mapping[str, Any] | None:
    """An error as an object; None if the value says that there is no error."""
    if isinstance(value, str) and value.strip():
        return {"message": value}
    if not isinstance(value, Mapping):
        return None
    if isinstance(inner := value.get("error"), Mapping):
        return _error(inner)
    message = next((value[name] for name in ("message", "detail", "msg") if value.get(name)), None)
    code = next((value[name] for name in ("code", "status", "status_code") if value.get(name)), None)
    if not message and code in (None, "0", 200, "200", "ok"):
        return None
    words = message if isinstance(message, str) else json.dumps(message or value, default=str)
    return {**value, "message": well_formed(words), "code": code}


def _blocked(completion: Mapping[str, Any]) -> str:
    """Gemini's reason for answering nothing at all."""
    feedback = completion.get("promptFeedback") or completion.get("prompt_feedback")
    reason = feedback.get("blockReason") or feedback.get("block_reason") if isinstance(feedback, Mapping) else None
    return _word(reason)


def _word(value: Any) -> str:
    """A reason; SGLang's own endpoint gives ``{"type": "stop", ...}``."""
    value = value.get("type") if isinstance(value, Mapping) else value
    return well_formed(value) if isinstance(value, str) else ""


def _counts(usage: Any) -> tuple[int, int]:
    """Tokens of the prompt and of the output; 0 where they are missing."""
    counts = usage if isinstance(usage, Mapping) else {}
    prompt, output, total = (_count(counts.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    # Gemini's compatible endpoint counts thoughts in the total alone.
    return prompt, max(output, total - prompt)


def _prompt_details(usage: Any) -> dict[str, int]:
    """``prompt_tokens_details``: OpenAI's and vLLM's ``cached_tokens``, DashScope's ``image_tokens`` and others."""
    details = usage.get("prompt_tokens_details") if isinstance(usage, Mapping) else None
    return {name: _count(value) for name, value in details.items() if value is not None} if details else {}


def _sum_of_known(counts: Mapping[str, int], names: Sequence[str]) -> int | None:
    known = [counts[name] for name in names if name in counts]
    return sum(known) if known else None


def _thinking_tokens(usage: Any, counts: tuple[int, int]) -> int:
    """Tokens of thoughts (OpenAI's field, SGLang's), among those of the output."""
    told = usage if isinstance(usage, Mapping) else {}
    details = told.get("completion_tokens_details")
    inner = details.get("reasoning_tokens") if isinstance(details, Mapping) else None
    _, output = counts
    # Gemini's compatible endpoint counts them in the total alone.
    beside = output - _count(told["completion_tokens"]) if told.get("completion_tokens") is not None else 0
    return min(output, max(_count(inner), _count(told.get("reasoning_tokens")), beside))


def _count(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return int(value) if is_number and math.isfinite(value) and 0 <= value < 1e15 else 0


class ReplyStore:
    """A folder of replies by the digest of their request. Refusals, empty replies and broken ones are not kept."""

    def __init__(self, folder: Path) -> None:
        self._store = ContentStore(folder / "replies", ".json")

    def find(self, key: str) -> Reply | None:
        """The reply to this request; None if there is none, the file is damaged, or the reply is not an answer.

        Raises:
            StorageError: the folder cannot be read.
        """
        content = self._store.find(key)
        if content is None:
            return None
        try:
            reply = _REPLY.validate_json(content)
        except ValidationError:
            return None  # asked for afresh and overwritten
        return reply if _is_of_use(reply) else None  # earlier versions kept what a server broke off

    def keep(self, key: str, reply: Reply) -> None:
        """Store a reply that is of use.

        Raises:
            StorageError: the folder cannot be written.
        """
        if _is_of_use(reply):
            self._store.keep(key, dumped(_REPLY, reply))


def _is_of_use(reply: Reply) -> bool:
    return bool(reply.text.strip() or reply.thought.strip()) and not (reply.is_refused or reply.has_failed)
