"""How a request asks a server's model to think, or not to think, before it answers.

Servers agree on no field for it. vLLM, SGLang and llama.cpp pass ``chat_template_kwargs`` to the model's chat template,
whose variable is ``enable_thinking`` (Qwen, GLM, Gemma) or ``thinking`` (Kimi, DeepSeek). OpenAI and Gemini take
``reasoning_effort``. vLLM limits a thought by ``thinking_token_budget``, which counts only at the top of the request.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import ConfigError
from pipeline.families.thinking import Thinking

_LOG = logging.getLogger(__name__)
_TEMPLATE = "chat_template_kwargs"
_VARIABLES = ("enable_thinking", "thinking")
_LEAST_PROPOSED = 4096
"""Tokens for a thought, as messages propose them where no limit is set."""


@dataclass(frozen=True)
class ThinkingSwitch:
    """The fields of a request that switch thinking and limit it."""

    field: str
    """With dots between the levels: ``chat_template_kwargs.enable_thinking``, ``reasoning_effort``."""
    never: bool | str
    """Its value for ``thinking=never``."""
    always: bool | str
    """Its value for ``thinking=always``."""
    budget: str | None
    """The field for ``max_thinking_tokens``; None: it is not sent."""

    def __post_init__(self) -> None:
        if not all(self.field.split(".")) or self.budget == "":
            raise ConfigError(
                f"answerer.thinking_switch.field={self.field!r} or .budget={self.budget!r} is not a name.",
                f"Set answerer.thinking_switch.field={_TEMPLATE}.enable_thinking answerer.thinking_switch.budget=null",
            )


@dataclass(frozen=True)
class ServerThinking:
    """The settings of thoughts of one server."""

    mode: Thinking
    switch: ThinkingSwitch
    max_tokens: int | None
    """Added to the request's limit; None: a thought counts in the answer's limit."""

    def check(self, extra_body: Mapping[str, Any], own: Collection[str]) -> None:
        """Check that the switch can be set.

        Args:
            extra_body: further fields of the request.
            own: fields that have a setting of their own.

        Raises:
            ConfigError: it cannot; the error names the setting.
        """
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(
                f"answerer.max_thinking_tokens={self.max_tokens} leaves no room for a thought.",
                "Set some thousands, or switch thinking off: answerer.thinking=never",
            )
        if self.mode == "checkpoint":
            return
        if self.mode == "always" and self.max_tokens is None:
            raise ConfigError(
                "answerer.thinking=always needs a limit for thoughts, beside the answer's answerer.max_new_tokens.",
                f"Set answerer.max_thinking_tokens={_LEAST_PROPOSED}",
            )
        sent = [("field", self.switch.field), ("budget", self._budget)]
        for name, path in ((name, path) for name, path in sent if path is not None):
            if path.partition(".")[0] in own:
                raise ConfigError(
                    f"answerer.thinking_switch.{name}={path} names a field that has a setting of its own.",
                    f"Name the server's own switch, such as answerer.thinking_switch.field={_TEMPLATE}.thinking",
                )
            if _holds(extra_body, path.split(".")):
                raise ConfigError(
                    f"answerer.extra_body holds {path}, which answerer.thinking={self.mode} sends.",
                    f"Remove it with '~answerer.extra_body.{path}', or leave it as it is: answerer.thinking=checkpoint",
                )

    def fields(self, extra_body: Mapping[str, Any]) -> dict[str, Any]:
        """``extra_body`` with the switch in it."""
        body = dict(extra_body)
        if self.mode == "checkpoint":
            return body
        *outer, name = self.switch.field.split(".")
        level = body
        for each in outer:
            level[each] = dict(level.get(each, {}))
            level = level[each]
        level[name] = self.switch.never if self.mode == "never" else self.switch.always
        return {**body, self._budget: self.max_tokens} if self._budget else body

    @property
    def tokens(self) -> int:
        """Tokens that the request allows for a thought."""
        return 0 if self.mode == "never" else self.max_tokens or 0

    def longer(self, max_new_tokens: int) -> str:
        """The overrides that let a thought come to its end."""
        more = f"answerer.max_thinking_tokens={2 * (self.max_tokens or max(max_new_tokens, _LEAST_PROPOSED // 2))}"
        return f"answerer.thinking=always {more}" if self.mode == "never" else more

    def may_begin_in_prompt(self, extra_body: Mapping[str, Any]) -> bool:
        """Whether the chat template may begin a thought in the prompt, so that a cut one has no mark at all."""
        told = self.fields(extra_body).get(_TEMPLATE)
        if not isinstance(told, Mapping):
            return False
        by_switch = self.mode == "always" and self.switch.field.startswith(f"{_TEMPLATE}.")
        return by_switch or any(told.get(name) is True for name in _VARIABLES)

    def describe(self) -> str:
        """For the record; empty where nothing is sent."""
        return "" if self.mode == "checkpoint" else f"; thinking {self.mode}, by {self.switch.field}"

    def content(self) -> dict[str, Any]:
        """The settings that decide answers: nothing for ``checkpoint``, so that keys of earlier versions stay valid."""
        found: dict[str, Any] = {}
        if self.mode != "checkpoint":
            found["thinking"] = [self.mode, asdict(self.switch)]
        if self.max_tokens is not None:
            found["max_thinking_tokens"] = self.max_tokens
        return found

    @property
    def _budget(self) -> str | None:
        return self.switch.budget if self.mode == "always" else None


def warn_of_thoughts(server: str, switch: ThinkingSwitch) -> None:
    """Warn that a server's model thinks although thinking is switched off."""
    _LOG.warning(
        "The model of %s thinks although answerer.thinking=never sets %s. If its template reads another variable, set "
        "answerer.thinking_switch.field=%s.NAME; else take answerer.thinking=always.",
        server,
        switch.field,
        _TEMPLATE,
    )


def _holds(body: Mapping[str, Any], path: list[str]) -> bool:
    """Whether a body has a value at a path, or one that has no room for it."""
    value: Any = body
    for name in path:
        if not isinstance(value, Mapping):
            return True
        if name not in value:
            return False
        value = value[name]
    return True
