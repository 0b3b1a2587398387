"""The message in a chat completion: its text, thoughts and refusal, in all the shapes that servers give them.

``content`` is a string, None, or a list of parts: text, thoughts (``thinking`` of Mistral, ``reasoning``), refusals,
each a string or a list again. Thoughts also come beside it, under ``reasoning`` (vLLM since 11/2025, OpenRouter) or
``reasoning_content`` (vLLM before, SGLang, llama.cpp, Kimi, DashScope).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.wellformed import well_formed

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
