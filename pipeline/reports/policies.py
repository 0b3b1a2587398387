"""A selection policy in the few words that tell it from others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pipeline.config import conf_dir
from pipeline.reports.runs import RunArtefacts
from pipeline.wellformed import loaded_yaml


def policy_words(run: RunArtefacts) -> str:
    """The option's name with the settings that differ from those of its YAML file.

    All settings for a policy without a YAML file of ours, and where the run does not say which it is.
    """
    node = run.parsed_settings.get("selection")
    name = node.get("name") if isinstance(node, Mapping) else None
    defaults = _defaults(name) if isinstance(name, str) and name.isidentifier() else {}
    settings = run.selection.split(" ")[1:]
    # Not the words of a sampler that selects by itself, as uniform does.
    if not defaults or not any("=" in setting for setting in settings):
        return run.selection
    differing = []
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in defaults or not _is_same(defaults[key], value):
            differing.append(setting)
    return " ".join([str(name), *differing])


def _is_same(default: Any, told: str) -> bool:
    """Whether a setting is as in its YAML; one that depends on others, ``${...}``, has no value of its own there."""
    if isinstance(default, float):
        return f"{default:g}" == told or str(default) == told
    return str(default) == told or str(default).startswith("${")


@cache
def _defaults(name: str) -> Mapping[str, Any]:
    """The settings in ``conf/selection/NAME.yaml``, those of its ``choice`` beside the others; empty without a file."""
    file = conf_dir() / "selection" / f"{name}.yaml"
    if not file.is_file():
        return {}
    content = loaded_yaml(file.read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for other in content.get("defaults", ()):
        if isinstance(other, str) and other != "_self_":
            found |= _defaults(other)
        elif isinstance(other, Mapping):  # a policy inside: {"/selection@large": "topk"}
            for place, option in other.items():
                found |= _inside(str(place).rpartition("@")[2], _defaults(str(option)))
    found |= content
    found |= content.get("choice", {})
    for key, value in content.items():
        if isinstance(value, Mapping):
            found |= _inside(key, value)
    return found


def _inside(place: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{place}.{key}": value for key, value in settings.items()}
