"""Keys that are set for one choice of a group alone: ``sampler/gens_micro.fps=2``.

The word reads as the file that it is about, ``conf/sampler/gens_micro.yaml``, and the key in it. It is an ordinary
override, ``sampler.fps=2``, of the jobs in which that option is chosen, and none of the others: in a sweep over
``sampler=uniform,gens_micro`` the uniform sampler has no such key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hydra.core.config_loader import ConfigLoader

from pipeline.config import nearest
from pipeline.errors import ConfigError

_WORD = re.compile(r"(?P<sign>\+{0,2}|~)(?P<group>\w+(?:/\w+)*)/(?P<rest>[^/=@]+\.[^/=@]+)(?P<value>=.*)?", re.DOTALL)


@dataclass(frozen=True)
class ForChoice:
    """One such word."""

    word: str
    """As it was typed."""
    group: str
    """Such as ``answerer/prompt``."""
    option: str
    sign: str
    """What Hydra has before a key: ``+`` adds it, ``~`` takes it out."""
    key: str
    """Inside the option."""
    value: str
    """With its ``=``; empty for ``~``."""

    def overrides(self, choices: Mapping[str, str | None]) -> list[str]:
        """What the word comes to in a configuration with these choices (``hydra.runtime.choices``)."""
        return [
            f"{self.sign}{place}.{self.key}{self.value}"
            for chosen, option in choices.items()
            for group, _, package in [chosen.partition("@")]
            if group == self.group and option == self.option
            for place in [package or group.replace("/", ".")]
        ]


def for_choices(words: Sequence[str], loader: ConfigLoader) -> tuple[list[str], list[ForChoice]]:
    """Part words that are about one choice from the others.

    Raises:
        ConfigError: the group has no such option.
    """
    others: list[str] = []
    found: list[ForChoice] = []
    for word in words:
        match = _WORD.fullmatch(word)
        options = loader.get_group_options(match["group"]) if match else []
        if match is None or not options:
            others.append(word)
            continue
        rest = match["rest"]
        option = max((name for name in options if rest.startswith(f"{name}.")), key=len, default=None)
        if option is None:
            asked = rest.partition(".")[0]
            raise ConfigError(
                f"{word}: {match['group']} has no option {asked}.{nearest(asked, options)}",
                f"one of {', '.join(options)}",
            )
        key = rest.removeprefix(f"{option}.")
        found.append(ForChoice(word, match["group"], option, match["sign"], key, match["value"] or ""))
    return others, found


def unchosen(word: ForChoice) -> ConfigError:
    """The word is about an option that is not chosen."""
    return ConfigError(
        f"{word.word} is about {word.group}={word.option}, which is not chosen",
        f"choose it, {word.group}={word.option}, or leave the word out",
    )
