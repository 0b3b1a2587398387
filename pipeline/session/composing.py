"""From the arguments of a session to settings: the words of a command line, composed and checked as those are.

Hydra is used only to compose. Its global state, of which the caller's own app may be a part, is put back as it was.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

from omegaconf import DictConfig

from pipeline.errors import ConfigError, PipelineError
from pipeline.quoting import literal
from pipeline.wellformed import loaded_yaml

VERB = "ask"
"""Whose primary config names the defaults."""
ASKED = ("video", "question", "options", "answer", "subtitles_file")
"""Its keys that belong to a question, and to no session."""
_MARK = "\n  in Python: "
_NAME = re.compile(r"[\w./-]+")
_OVERRIDE = re.compile(r"(?<![\w.@/'\"=])\+{0,2}([a-z_]+(?:\.\w+)*)=(\[[^\]]*\]|'[^']*'|[^\s;,)`]+)")
_NO_OPTION = re.compile(r"(\w+(?:/\w+)*)=\S*: no such option\.(?: Did you mean '(\S+)'\?)?")
_NO_KEY = re.compile(r"is not a (?:key|setting).*Did you mean '([\w.]+)'")
_one_at_a_time = threading.Lock()


@contextmanager
def own_hydra() -> Iterator[None]:
    """Within this context Hydra and the resolvers of OmegaConf are ours; the caller's are put back at its end.

    One thread at a time is in it. What is composed must also be resolved in it. The state is the whole process's, so
    that another thread should not compose something else meanwhile.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.plugins import Plugins
    from hydra.core.singleton import Singleton
    from omegaconf.basecontainer import BaseContainer

    with _one_at_a_time:
        ConfigStore.instance()  # before the state is kept: both are filled as they are made
        plugins = copy(Plugins.instance())
        plugins.class_name_to_class = dict(plugins.class_name_to_class)
        plugins.plugin_type_to_subclass_list = copy(plugins.plugin_type_to_subclass_list)
        for kind, found in plugins.plugin_type_to_subclass_list.items():
            plugins.plugin_type_to_subclass_list[kind] = list(found)
        instances, resolvers = Singleton._instances, dict(BaseContainer._resolvers)
        own = {kind: each for kind, each in instances.items() if kind not in (GlobalHydra, HydraConfig)}
        Singleton._instances = {**own, Plugins: plugins}
        try:
            yield
        finally:
            Singleton._instances = instances
            BaseContainer._resolvers.clear()
            BaseContainer._resolvers.update(resolvers)


def composed(settings: Mapping[str, Any], left_out: Sequence[str], folder: str | None) -> DictConfig:
    """The settings of a session.

    Args:
        settings: by name of a group or key: the name of an option, a mapping of keys, a pair of both, or a value.
        left_out: groups that need no option, since the caller gives an object.
        folder: of YAML files added by the user.

    Raises:
        PipelineError: they cannot be used.
    """
    from pipeline.commands import driving

    for name in ASKED:
        if name in settings:
            raise ConfigError(f"{name} belongs to a question", f"give it where you ask: session.ask(..., {name}=...)")
    without = [f"~{name}" for name in left_out]
    options = [word for name, value in settings.items() for word in _option(name, value)]
    places: Mapping[str, str] = {}
    if any(_may_choose(value) for value in settings.values()):
        chosen = driving.composed(VERB, [*options, *without], folder).hydra.runtime.choices
        places = {
            package or group.replace("/", "."): key for key in chosen for group, _, package in [key.partition("@")]
        }
    words = [word for name, value in settings.items() for word in overrides(name, value, places)]
    return driving.composed(VERB, [*words, *without], folder)


def overrides(name: str, value: Any, places: Mapping[str, str]) -> list[str]:
    """The words of a command line for one argument.

    Args:
        name: of a group or a key.
        value: the name of an option, a mapping of keys, a pair of both, or a value.
        places: the group of each place in the settings that an option of a group fills: ``answerer.prompt`` is filled
            by ``answerer/prompt``, and ``sampler.second`` by ``sampler@sampler.second``.
    """
    return [*_option(name, value), *_keys(name, value[1] if _is_pair(value) else value, places)]


def call(settings: Mapping[str, Any]) -> str:
    """The arguments as somebody can type them again, with the class of each object."""
    plain = (str, Mapping, tuple, list, bool, int, float)
    told = {
        name: repr(value) if isinstance(value, plain) else f"{type(value).__name__}(...)"
        for name, value in settings.items()
        if value is not None
    }
    return f"Session({', '.join(f'{name}={value}' for name, value in told.items())})"


@contextmanager
def told_in_python() -> Iterator[None]:
    """Errors name a setting by its key and, in addition, as an argument of a session."""
    try:
        yield
    except PipelineError as error:
        if _MARK not in error.remedy:
            error.remedy += in_python(error.problem, error.remedy)
        raise


def in_python(problem: str, remedy: str) -> str:
    """The overrides that an error names, as arguments of a session; empty where it names none.

    Where the remedy has none, the key or the option counts that the problem says was perhaps meant.
    """
    named = _OVERRIDE.findall(remedy)
    if not named and (option := _NO_OPTION.match(problem)):
        named = [(option[1].replace("/", "."), option[2] or "...")]
    elif not named and (key := _NO_KEY.search(problem)):
        named = [(key[1], "...")]
    found: dict[str, Any] = {}
    for key, value in named:
        if key.partition(".")[0] not in ASKED:
            _put(found, key.split("."), "..." if value.startswith("...") else value.rstrip("."))
    return f"{_MARK}{' or '.join(f'Session({name}={_text(value)})' for name, value in found.items())}" if found else ""


def _option(name: str, value: Any) -> list[str]:
    option = value[0] if _is_pair(value) else value
    if name not in _GROUPS or not isinstance(option, str):
        return []
    return [f"{name}={option if _NAME.fullmatch(option) else literal(option)}"]


_GROUPS = ("sampler", "selection", "answerer", "execution", "reader")


def _keys(key: str, value: Any, places: Mapping[str, str]) -> list[str]:
    """The words for what stands below a key."""
    if isinstance(value, Mapping):
        return [word for name, inner in value.items() for word in _below(key, str(name), inner, places)]
    return [] if key in _GROUPS else [f"{key}={literal(value)}"]


def _below(key: str, name: str, value: Any, places: Mapping[str, str]) -> list[str]:
    sign = name[: len(name) - len(name.lstrip("+"))]
    place = f"{key}.{name.lstrip('+')}"
    if sign or not (isinstance(value, Mapping) or _may_name_option(value)):
        return [f"{sign}{place}={literal(value)}"]
    if place in places and _may_name_option(value):
        option, more = value if _is_pair(value) else (value, {})
        return [f"{places[place]}={option}", *_keys(place, more, places)]
    return _keys(place, value, places) if isinstance(value, Mapping) else [f"{place}={literal(value)}"]


def _may_choose(value: Any) -> bool:
    """Whether an option of a group may be named below the first level."""
    inside = value[1] if _is_pair(value) else value
    return isinstance(inside, Mapping) and any(_may_name_option(each) or _may_choose(each) for each in inside.values())


def _may_name_option(value: Any) -> bool:
    return isinstance(value, str) or _is_pair(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], Mapping)


def _put(found: dict[str, Any], path: Sequence[str], value: str) -> None:
    at = found
    for name in path[:-1]:
        inner = at.get(name)
        at[name] = at = inner if isinstance(inner, dict) else {}
    at.setdefault(path[-1], value)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{name}": {_text(inner)}' for name, inner in value.items()) + "}"
    if value == "...":
        return "..."
    try:
        parsed = loaded_yaml(value)
    except ValueError:
        parsed = value
    return f'"{parsed}"' if isinstance(parsed, str) else repr(parsed)
