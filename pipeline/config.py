"""From YAML to objects. The configuration is the only registry: ``_target_`` names the class, its fields the keys.

A configurable class is a frozen dataclass without defaults, so a value stands in its YAML and nowhere else. A field of
type ``Callable`` takes the name of a plug-in's function. Types, unknown keys and missing keys are checked here, once,
with the full override in the message.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pipeline.environment import register_environment
from pipeline.errors import ConfigError, PipelineError, of_stage
from pipeline.secrecy import is_secret_name
from pipeline.trust import OURS, trusted_class, trusted_function

PACKAGE = Path(__file__).resolve().parent
LARGEST = 1e15
"""Of a number in the settings."""


def conf_dir() -> Path:
    """The folder of our YAML files: inside the package when installed, beside it in a checkout."""
    packaged = PACKAGE / "conf"
    return packaged if packaged.is_dir() else PACKAGE.parent / "conf"


def nearest(word: str, valid: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the closest valid word, or nothing."""
    close = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def build(node: DictConfig, key: str, plugins: Sequence[str] = ()) -> Any:
    """Make the object that ``node`` describes, and first the objects inside it (nodes with their own ``_target_``).

    Args:
        node: a config with ``_target_``, and ``about`` where ``gens list`` shows it.
        key: where the node stands in the whole config, for messages (``sampler``).
        plugins: other packages whose classes may be made.

    Raises:
        ConfigError: the target is not allowed, or a key or value does not fit it.
    """
    try:
        container = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is missing", f"give it: {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        if unset := re.search(r"environment variable '(\w+)' is not set", str(error)):
            raise ConfigError(
                f"{key}: the environment variable {unset[1]} is not set", f"export {unset[1]}=..."
            ) from error
        unusable = getattr(error, "full_key", None) or key
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(f"{unusable} has no usable value: {reason}", f"give one: {unusable}=...") from error
    assert isinstance(container, dict)
    _check_numbers(container, key)
    try:
        return _made({str(name): value for name, value in container.items()}, key, plugins)
    except PipelineError as error:
        error.remedy = of_stage(error.remedy, key)
        raise


def _check_numbers(
    node: Any, key: str, part: Mapping[str, Any] | None = None, place: tuple[int | str, ...] = ()
) -> None:
    """Refuse numbers that would overflow. Narrower limits of a setting are checked by its class.

    Args:
        node: a part, or a value within one.
        key: where it stands in the whole config.
        part: the part that it is a value of.
        place: where it stands there.
    """
    if isinstance(node, dict | list):
        if isinstance(node, dict) and "_target_" in node:
            part, place = node, ()
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            _check_numbers(value, f"{key}.{name}", part, (*place, name))
    elif isinstance(node, int | float) and abs(node) > LARGEST:
        text = f"{node:g}" if isinstance(node, float) else f"a number of {int(math.log10(abs(node))) + 1} digits"
        usual = "..." if part is None else _in_our_yaml(str(part["_target_"]), place, part.get("name"))
        raise ConfigError(f"{key} is {text}, and no setting is above {LARGEST:g}", f"set it: {key}={usual}")


def _made(node: Mapping[str, Any], key: str, plugins: Sequence[str]) -> Any:
    target = _class(node.get("_target_"), f"{key}._target_", plugins)
    settings = {
        name: _made(value, f"{key}.{name}", plugins) if isinstance(value, dict) and "_target_" in value else value
        for name, value in node.items()
        if name not in ("_target_", "about", "origin")
    }
    if not dataclasses.is_dataclass(target):
        return target(**settings)
    _check_keys(target, settings, key)
    functions = {
        name: trusted_function(value, f"{key}.{name}", plugins)
        for name, value in settings.items()
        if isinstance(value, str) and _is_function(typing.get_type_hints(target)[name])
    }
    return _validated(target, {**settings, **functions}, key)


def _class(path: Any, key: str, plugins: Sequence[str]) -> Any:
    """The class at a path; a class of ours that is no longer there is named by the path that our YAML files have."""
    try:
        return trusted_class(path, key, plugins)
    except ConfigError as error:
        found = _ours_named_like(path) if isinstance(path, str) and path.startswith(f"{OURS}.") else ()
        if not found or path in found:
            raise
        remedy = f"correct the _target_ in its YAML, or add {key}={found[0]}"
        raise ConfigError(error.problem, f"the class is {' or '.join(found)}: {remedy}") from error


def _ours_named_like(path: str) -> Sequence[str]:
    """The ``_target_`` of our YAML files with this class name, or else the closest; of several, those of its room."""
    targets: dict[str, set[str]] = {}
    for file in conf_dir().rglob("*.yaml"):
        for target in re.findall(r"^\s*_target_: *([\w.]+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            targets.setdefault(target.rpartition(".")[2], set()).add(target)
    name = path.rpartition(".")[2]
    named = targets.get(name) or {
        target for close in difflib.get_close_matches(name, targets, n=1, cutoff=0.8) for target in targets[close]
    }
    room = path.split(".")[1]
    return sorted({target for target in named if target.split(".")[1] == room} or named)


def _is_function(hint: Any) -> bool:
    """Whether a setting of this type is a function, which a YAML names as it names a class."""
    return Callable in (typing.get_origin(hint), *map(typing.get_origin, typing.get_args(hint)))


def _check_keys(kind: Any, settings: Mapping[str, Any], key: str) -> None:
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for name, value in settings.items():
        if name not in fields:
            raise ConfigError(
                f"{key}.{name} is not a setting.{nearest(name, fields)}", f"valid under {key}: {', '.join(fields)}"
            )
        for inner in (hints[name], *typing.get_args(hints[name])):
            if dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
                _check_keys(inner, value, f"{key}.{name}")
    for name, field in fields.items():
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in settings and not has_default:
            raise ConfigError(
                f"{key}.{name} is missing", f"add it to the YAML, or on the command line: +{key}.{name}=..."
            )


def _validated(kind: Any, settings: Mapping[str, Any], key: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([key, *(str(part) for part in first["loc"])])
        value = (
            "..." if any(is_secret_name(str(part)) or "key" in str(part) for part in first["loc"]) else first["input"]
        )
        listed = re.findall(r"'([^']*)'", str(first.get("ctx", {}).get("expected", "")))
        usual = _in_our_yaml(f"{kind.__module__}.{kind.__qualname__}", first["loc"], settings.get("name"))
        remedy = f"set one of {', '.join(listed)}: {place}={listed[0]}" if listed else f"set it: {place}={usual}"
        raise ConfigError(f"{place}={value!r}: {first['msg']}", remedy) from error


def _in_our_yaml(target: str, place: Sequence[int | str], name: Any) -> str:
    """The value of a setting in our YAML files as it is typed, such as ``8``; ``...`` if none can be typed.

    Args:
        target: the class whose setting it is, as a ``_target_``.
        place: the setting's name, and names within its value.
        name: of the option, whose own value is taken where it has one.
    """
    for file in sorted(conf_dir().rglob("*.yaml"), key=lambda file: (file.stem != name, file)):
        if target in file.read_text(encoding="utf-8"):
            for node in _nodes_of(target, OmegaConf.to_container(OmegaConf.load(file))):
                value = node
                for part in place:
                    value = value.get(part) if isinstance(value, dict) else None
                typed = str(value).lower() if isinstance(value, bool) else str(value)
                if value is not None and re.fullmatch(r"[\w.-]+", typed):
                    return typed
    return "..."


def _nodes_of(target: str, node: Any) -> Iterator[Any]:
    """The nodes of a class within a config."""
    if isinstance(node, dict):
        if node.get("_target_") == target:
            yield node
        for value in node.values():
            yield from _nodes_of(target, value)


def register_resolvers() -> None:
    """Register the resolvers of YAML files.

    ``${package_file:...}`` names a file in this package, ``${token_side:CLASS,DEFAULT}`` asks an answerer of ours for
    the side of its tokens, and ``${oc.env:...}`` hides secrets.
    """
    register_environment()
    OmegaConf.register_new_resolver("token_side", _token_side, replace=True)
    OmegaConf.register_new_resolver("package_file", lambda path: str(PACKAGE / path), replace=True)


def _token_side(target: str, default: int) -> int:
    """Pixels along one side of a token, by the rule with which a class of ours resizes frames; it is not made."""
    if not target.startswith(f"{OURS}."):
        return default
    rule = getattr(trusted_class(target, "answerer._target_", ()), "scale_rule", None)
    return default if rule is None else int(rule.unit)
