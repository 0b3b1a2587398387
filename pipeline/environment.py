"""Values that settings take from the environment. Settings are written with the variables' names in their place.

``answerer.extra_body.api_key='${oc.env:MY_KEY}'`` works with the variable's value and is written as its name, wherever
settings are written. A secret that stands in the settings itself is refused before anything is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from omegaconf import Container, DictConfig, ListConfig, OmegaConf, ValueNode

from pipeline.errors import ConfigError
from pipeline.secrecy import is_secret_name, keep_secret, looks_secret

_PLACES = "paths"
"""The key of folders, which are written as they are, because later runs have to find them."""
_OF_PEOPLE = frozenset({"question", "options", "answer", "video", "subtitles_file", "hydra"})
"""Keys with free text of the user, and Hydra's own settings, which are not written."""
_SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
_INTERPOLATION = re.compile(r"\$\{[\w.:/]+\}")

_by_name: ContextVar[bool] = ContextVar("by_name", default=False)


def register_environment() -> None:
    """Replace the resolver ``${oc.env:NAME}`` by one that records secrets and can give names in place of values."""
    OmegaConf.register_new_resolver("oc.env", _from_environment, replace=True)


@contextmanager
def by_name() -> Iterator[None]:
    """Within this context, ``${oc.env:NAME}`` resolves to itself, except under ``paths``."""
    token = _by_name.set(True)
    try:
        yield
    finally:
        _by_name.reset(token)


def overrides_of(settings: DictConfig) -> list[str]:
    """The overrides of a job as they were typed. Reading them from Hydra's list would resolve them.

    Args:
        settings: the node ``hydra``.
    """
    words = OmegaConf.to_container(settings.overrides.task, resolve=False)
    assert isinstance(words, list)
    return [str(word) for word in words]


def written(config: Container) -> str:
    """The resolved settings as YAML, with the names of variables in place of their values."""
    with by_name():
        return OmegaConf.to_yaml(config, resolve=True)


def check_no_secrets(config: DictConfig, typed: Sequence[str] = ()) -> None:
    """Check that the settings hold no secret. The error does not quote it.

    Args:
        config: the whole configuration.
        typed: overrides on the command line.

    Raises:
        ConfigError: they hold one.
    """
    for key, value in _leaves(config, ""):
        if value.strip() and key.partition(".")[0] not in _OF_PEOPLE:
            _check(key, value, typed)


def _check(key: str, value: str, typed: Sequence[str]) -> None:
    if key.endswith("base_url") and re.search(r"[@?#]", value):
        return  # refused by the answerer, which takes an address alone
    held = next((name for name, found in os.environ.items() if found == value and _is_secret(name, found)), None)
    literal = _INTERPOLATION.sub("", value)
    if held is None and not looks_secret(literal) and not (is_secret_name(key) and "${" not in value):
        return
    variable = held or "MY_SECRET"
    named = variable if key.endswith("_env") else f"'${{oc.env:{variable}}}'"
    # A key that the command line added has to be added again.
    added = [word.partition("=")[0].lstrip("+") for word in typed if word.startswith("+")]
    sign = "++" if any(f"{key}.".startswith(f"{name}.") for name in added) else ""
    raise ConfigError(
        f"{key} holds a secret, which would be written into the run folder",
        f"put it into an environment variable and name that: {sign}{key}={named}",
    )


def refused_secret(word: str) -> ConfigError:
    """The error for an override that cannot be read and may hold a secret. It does not quote the value."""
    key = word.partition("=")[0]
    return ConfigError(
        f"{key} holds what looks like a secret, and cannot be read",
        f"put it into an environment variable and name that: {key}='${{oc.env:MY_SECRET}}'",
    )


def _is_secret(variable: str, value: str) -> bool:
    return len(value) >= 8 and _SECRET_VARIABLE.search(variable) is not None


def _leaves(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Full key and text of every value before interpolation; also of numbers, since a secret may be one."""
    if isinstance(node, DictConfig | ListConfig):
        names: Sequence[Any] = list(node) if isinstance(node, DictConfig) else range(len(node))
        if node._is_none() or node._is_missing() or node._is_interpolation():
            return
        for name in names:
            place = f"{key}.{name}" if key else str(name)
            inner = node._get_node(name)
            if isinstance(inner, DictConfig | ListConfig):
                yield from _leaves(inner, place)
            elif isinstance(inner, ValueNode) and not inner._is_none():
                yield place, str(inner._value())


def _from_environment(name: str, *default: Any, _parent_: Container) -> str | None:
    """OmegaConf's ``oc.env``, with the rules of this module."""
    value = os.environ.get(name)
    if value is None:
        if not default:
            raise KeyError(f"environment variable {name!r} is not set")
        return None if default[0] is None else str(default[0])
    place = str(_parent_._get_full_key(None) or "")
    if place == _PLACES or place.startswith(f"{_PLACES}."):
        return value
    if _by_name.get():
        return f"${{oc.env:{name}}}"
    if place.partition(".")[0] != "hydra" and not os.path.exists(value):
        keep_secret(value, name)
    return value
