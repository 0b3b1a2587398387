"""Whether a model thinks before it answers: found in its chat template, switched there, and checked in the prompt.

No variable is common to all templates, and one that a template does not read is dropped without an error. So the
template is asked which variables it reads, and the prompt is rendered with each setting and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pipeline.errors import CheckpointError, ConfigError
from pipeline.generation.limits import OutputLimits
from pipeline.thoughts import closes_thought, ends_a_thought, leaves_thought_open, opens_a_thought

Thinking = Literal["never", "always", "checkpoint"]
"""No ``off`` and ``on``: YAML reads these as truth values."""

_VARIABLES = ("enable_thinking", "thinking")
"""Those that are true or false. Source: the templates of Qwen, GLM and Gemma; of Kimi and DeepSeek."""


class Beginning(StrEnum):
    """What the model's turn begins with."""

    OPEN = "the prompt opens a thought"
    CLOSED = "the prompt closes an empty thought"
    FREE = "the model decides"


@dataclass(frozen=True)
class ThinkingSettings:
    """The settings of thoughts."""

    mode: Thinking
    """``never``: switched off; ``always``: switched on; ``checkpoint``: as its template has it by default."""
    variable: str | None
    """The template's variable; None finds it."""
    max_tokens: int
    """A limit for each thought, in addition to that of the answer."""
    let_it_think: str = "Let it think: answerer.thinking=always"
    """What to do about a model that thinks though it is not to."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(
                f"answerer.max_thinking_tokens={self.max_tokens} leaves no room for a thought.",
                "Set some thousands, or switch thinking off: answerer.thinking=never",
            )

    def check_prefix(self, prompt: str, answer_prefix: str) -> None:
        """Check that a prompt does not begin the answer where a thought comes first.

        Args:
            prompt: its name.
            answer_prefix: how it begins the answer; empty where it does not.

        Raises:
            ConfigError: it does.
        """
        if self.mode == "always" and answer_prefix:
            raise ConfigError(
                f"answerer.prompt={prompt} begins the answer for the model, and a thought comes first.",
                "Take a prompt that does not: answerer/prompt=letter; or answerer.thinking=never",
            )


@dataclass(frozen=True)
class Switch:
    """The state of thinking in the prompts of one checkpoint."""

    variables: Mapping[str, Any]
    """For the template."""
    beginning: Beginning
    tokens: int
    """Kept for a thought; 0 where none is expected."""
    told: str
    """In one line, for records."""
    longer: str
    """The override that lets a thought come to its end."""

    def limits(self, answer: int, tokenizer: Any) -> OutputLimits:
        """Limits of the answer, and of a thought where one may come.

        Args:
            answer: tokens of the answer.
            tokenizer: the checkpoint's.
        """
        opening, ending = marks_of(tokenizer)
        return OutputLimits(answer, self.tokens, self.beginning is Beginning.OPEN, opening, ending, self.longer)

    def check_prefix(self, prompt: str, answer_prefix: str) -> None:
        """As :meth:`ThinkingSettings.check_prefix`, by what the template does.

        Raises:
            ConfigError: the template begins a thought, and the prompt the answer.
        """
        if answer_prefix and self.beginning is Beginning.OPEN:
            raise ConfigError(
                f"answerer.prompt={prompt} begins the answer for the model, and the chat template begins a thought.",
                "Take a prompt that does not: answerer/prompt=letter",
            )


def marks_of(tokenizer: Any) -> tuple[frozenset[int], frozenset[int]]:
    """The tokens that begin thoughts and those that end them, among those that were added to the vocabulary."""
    added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
    return (
        frozenset(number for number, token in added.items() if opens_a_thought(token)),
        frozenset(number for number, token in added.items() if ends_a_thought(token)),
    )


def switch_of(
    settings: ThinkingSettings, reads: frozenset[str], render: Callable[[Mapping[str, Any]], str], source: str
) -> Switch:
    """Set the switch, and see in the prompt that it is set.

    Args:
        settings: what is wanted.
        reads: variables that the template reads.
        render: a prompt with these variables.
        source: of the checkpoint, for messages.

    Raises:
        ConfigError: the variable is none that the template reads.
        CheckpointError: the template cannot do what is wanted.
    """
    name = _variable(settings, reads, source)
    longer = f"answerer.max_thinking_tokens={2 * settings.max_tokens}"
    kept = settings.max_tokens
    default = _beginning(render({}))
    if settings.mode == "checkpoint":
        tokens = 0 if default is Beginning.CLOSED else kept
        return Switch({}, default, tokens, f"thinking as the template has it: {default}", longer)
    if name is None:
        return _without_switch(settings, default, kept, longer, source)
    on, off = render({name: True}), render({name: False})
    if on == off:
        raise CheckpointError(
            f"The chat template of {source} reads {name}, and the prompt is the same with either value.",
            f"Name another variable that it reads ({_listed(reads)}): answerer.thinking_variable=...; or leave it to "
            "the checkpoint: answerer.thinking=checkpoint",
        )
    if settings.mode == "never":
        beginning = _beginning(off)
        if beginning is Beginning.OPEN:
            raise CheckpointError(
                f"The chat template of {source} opens a thought though {name} is false.",
                settings.let_it_think,
            )
        told = f"thinking off by {name}: {beginning}"
        return Switch({name: False}, beginning, 0, told, f"answerer.thinking=always {longer}")
    beginning = _beginning(on)
    if beginning is Beginning.CLOSED:
        raise CheckpointError(
            f"The chat template of {source} closes the thought though {name} is true.",
            "Leave thinking to the checkpoint: answerer.thinking=checkpoint",
        )
    return Switch({name: True}, beginning, kept, f"thinking on by {name}: {beginning}", longer)


def _without_switch(settings: ThinkingSettings, default: Beginning, kept: int, longer: str, source: str) -> Switch:
    if settings.mode == "never":
        if default is Beginning.OPEN:
            raise CheckpointError(
                f"{source} always thinks: its chat template opens a thought and has no switch.",
                settings.let_it_think,
            )
        more = f"answerer.thinking=checkpoint {longer}"
        return Switch({}, default, 0, "thinking: the template has no switch, and opens no thought", more)
    if default is not Beginning.OPEN:
        raise CheckpointError(
            f"The chat template of {source} has no switch for thinking, and opens no thought by itself.",
            "Leave it to the model: answerer.thinking=checkpoint; or where the template reads a variable of another "
            "name: answerer.thinking_variable=NAME",
        )
    return Switch({}, default, kept, f"thinking always: {default}", longer)


def _variable(settings: ThinkingSettings, reads: frozenset[str], source: str) -> str | None:
    wanted = settings.variable
    if wanted is None:
        return next((name for name in _VARIABLES if name in reads), None)
    if wanted not in reads:
        raise ConfigError(
            f"answerer.thinking_variable={wanted}: the chat template of {source} does not read it.",
            f"It reads {_listed(reads)}. Let it be found: answerer.thinking_variable=null",
        )
    return wanted


def _beginning(prompt: str) -> Beginning:
    if leaves_thought_open(prompt):
        return Beginning.OPEN
    return Beginning.CLOSED if closes_thought(prompt) else Beginning.FREE


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "no variables"
