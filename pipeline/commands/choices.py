"""Overrides for one choice of a group: ``sampler/gens_micro.fps=2``.

The word names an option by its file, ``conf/sampler/gens_micro.yaml``, and a key in it. It becomes the ordinary
override ``sampler.fps=2`` in the jobs that choose this option and has no effect on the others: in a sweep over
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
    """One such override."""

    word: str
    """As it was typed."""
    group: str
    """Such as ``answerer/prompt``."""
    option: str
    sign: str
    """Hydra's sign before a key: ``+`` adds it, ``~`` removes it."""
    key: str
    """The key inside the option."""
    value: str
    """The value with its ``=``; empty for ``~``."""

    def overrides(self, choices: Mapping[str, str | None]) -> list[str]:
        """The ordinary overrides in a configuration with these choices (``hydra.runtime.choices``)."""
        return [
            f"{self.sign}{place}.{self.key}{self.value}"
            for chosen, option in choices.items()
            for group, _, package in [chosen.partition("@")]
            if group == self.group and option == self.option
            for place in [package or group.replace("/", ".")]
        ]


def for_choices(words: Sequence[str], loader: ConfigLoader) -> tuple[list[str], list[ForChoice]]:
    """Separate overrides for one choice from the others.

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
    """The error for an override whose option is not chosen."""
    return ConfigError(
        f"{word.word} is about {word.group}={word.option}, which is not chosen",
        f"choose it, {word.group}={word.option}, or leave the word out",
    )
