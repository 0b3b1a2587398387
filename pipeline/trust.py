"""Which packages a configuration may take classes from, and who decides that.

A ``_target_`` in a YAML file names code to run. Classes of this package are always allowed; those of another package
only if the user trusts it: on the command line (``plugins=[NAME]``), in the environment variable ``GENS_PLUGINS``, or
in ``~/.config/gens-videoqa/``. YAML files elsewhere cannot grant trust, since they may come with somebody's data.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import isfunction
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.errors import ConfigError
from pipeline.wellformed import loaded_yaml

VARIABLE = "GENS_PLUGINS"
OURS = "pipeline"
_CALLBACKS = frozenset(
    {
        "hydra.experimental.callback.Callback",
        "hydra.experimental.callbacks.LogJobReturnCallback",
        "hydra.experimental.callbacks.PickleJobInfoCallback",
    }
)
_HYDRAS_PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")
"""Installed launchers and sweepers. Hydra imports all of them when it starts, and makes no others."""
_LOGGING = frozenset(
    {
        "logging.Formatter",
        "logging.StreamHandler",
        "logging.NullHandler",
        "logging.FileHandler",
        "logging.handlers.RotatingFileHandler",
        "logging.handlers.TimedRotatingFileHandler",
        "logging.handlers.WatchedFileHandler",
        "colorlog.ColoredFormatter",
    }
)
_STREAMS = frozenset({"ext://sys.stdout", "ext://sys.stderr"})
_LIKE = "correct it; it holds a line like plugins: [NAME]"
_RUNTIME = re.compile(r"\$\{hydra\.(?:runtime\.output_dir|job\.\w+)\}")
_LOG_FILE = re.compile(r"(?:\$\{hydra\.runtime\.output_dir\}/)?(?:\$\{hydra\.job\.name\}|[^/\\$])+")


def trusted_packages(typed: Iterable[str]) -> tuple[str, ...]:
    """The packages that the user trusts.

    Args:
        typed: the packages of ``plugins=[...]`` on the command line.

    Raises:
        ConfigError: one is not a package of plug-ins, or the user's settings file cannot be read.
    """
    given = [
        *((name, f"plugins=[{name}]") for name in typed),
        *((name, f"{VARIABLE}={name}") for name in re.split(r"[\s,:;]+", os.environ.get(VARIABLE, "")) if name),
        *_of_user(),
    ]
    for name, where in given:
        _check_package(name, where)
    return tuple(dict.fromkeys(name for name, _ in given))


def check_plugins(config: DictConfig, trusted: Sequence[str]) -> None:
    """Check that ``plugins`` names only trusted packages.

    Raises:
        ConfigError: a file names another one.
    """
    named = OmegaConf.to_container(config.plugins, resolve=True) if config.get("plugins") else []
    for name in named if isinstance(named, list) else [named]:
        if name not in trusted:
            _check_package(name, f"plugins: [{name}] in a YAML file")
            raise ConfigError(
                f"plugins: {name} is set in a YAML file, and a file cannot make a package trusted",
                f"if you trust that package, say so yourself: plugins=[{name}]",
            )


def check_hydra(settings: DictConfig, trusted: Sequence[str], typed: Iterable[str]) -> None:
    """Check, before Hydra acts on its settings, that they make no untrusted object and set no environment variable.

    Args:
        settings: the node ``hydra``.
        trusted: as :func:`trusted_packages` gives them.
        typed: keys on the command line.

    Raises:
        ConfigError: they do.
    """
    for group in ("callbacks", "launcher", "sweeper"):
        node = OmegaConf.select(settings, group)
        for key, target in _values(_resolved(node), f"hydra.{group}", ("_target_",)):
            own = group != "callbacks" and key == f"hydra.{group}._target_" and str(target).startswith(_HYDRAS_PLUGINS)
            if not (own or target in _CALLBACKS):
                trusted_class(target, key, trusted, ours=False)
    for group in ("job_logging", "hydra_logging"):
        _check_logging(OmegaConf.select(settings, group), f"hydra.{group}", trusted)
    for name in OmegaConf.select(settings, "job.env_set") or {}:
        if f"hydra.job.env_set.{name}" not in set(typed):
            raise ConfigError(
                f"hydra.job.env_set.{name} is set in a YAML file, and a file cannot set environment variables",
                f"set it in the shell, before the command: {name}=...",
            )


def trusted_class(path: Any, key: str, trusted: Sequence[str], ours: bool = True) -> Any:
    """The class that ``key``, such as ``sampler._target_``, names; for plug-ins also a function.

    It must be defined in a trusted package: what a module of ours merely imports is not ours.

    Raises:
        ConfigError: it is not a class, or belongs to another package.
    """
    holder, _, field = key.rpartition(".")
    if not isinstance(path, str):
        raise ConfigError(f"{holder} names no class", f"its YAML needs a line like {key}: pipeline.room.Class")
    allowed = (OURS, *trusted) if ours else tuple(trusted)
    found = _imported(path, key, allowed)
    of_plugin = _within(path.rpartition(".")[0], trusted)
    if not isinstance(found, type) and not (of_plugin and isfunction(found)):
        raise ConfigError(f"{key}={path} is not a class", f"check the {field} in its YAML")
    _check_defined(found, path, key, allowed)
    if not of_plugin and not dataclasses.is_dataclass(found):
        raise ConfigError(f"{key}={path} is not part of a pipeline", f"check the {field} in its YAML")
    return found


def trusted_function(path: str, key: str, trusted: Sequence[str]) -> Any:
    """The function of a plug-in that ``key``, such as ``sampler.function``, names.

    Raises:
        ConfigError: it is not a function, or belongs to a package that is not trusted.
    """
    if "." not in path:
        raise ConfigError(f"{key}={path} names no package", f"name the function with its package: {key}=PACKAGE.{path}")
    found = _imported(path, key, trusted)
    if not isfunction(found):
        raise ConfigError(f"{key}={path} is not a function", f"name one: {key}=PACKAGE.FUNCTION")
    _check_defined(found, path, key, trusted)
    return found


def _check_defined(found: Any, path: str, key: str, allowed: Sequence[str]) -> None:
    """Raise if a module of these packages has merely imported what ``path`` names."""
    defined = getattr(found, "__module__", None) or ""
    if not _within(defined, allowed):
        raise _untrusted(f"{path}, which is {defined}.{found.__name__},", key, defined, allowed)


def _imported(path: str, key: str, allowed: Sequence[str]) -> Any:
    """What ``path`` names in these packages. The module of a plug-in may raise anything while it is imported."""
    module, _, name = path.rpartition(".")
    if not _within(module, allowed):
        raise _untrusted(path, key, module, allowed)
    remedy = f"check the {key.rpartition('.')[2]} in its YAML"
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        reason = str(error)
        if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
            remedy = f"{remedy}; install the package, or name the folder that holds it: PYTHONPATH=FOLDER gens ..."
        elif isinstance(error, ModuleNotFoundError) and error.name and not _within(module, (error.name,)):
            remedy = f"install what {module} imports: pip install {error.name}"
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        remedy = f"correct {module}: python -c 'import {module}' shows where it is"
        raise ConfigError(f"{key}={path} cannot be imported: {reason}", remedy) from error
    raise ConfigError(f"{key}={path} cannot be imported: {reason}", remedy)


def _untrusted(path: str, key: str, module: str, allowed: Sequence[str]) -> ConfigError:
    package = module.partition(".")[0] or path
    problem = f"{key}={path} is outside {', '.join(allowed) or 'what is trusted'}"
    if _is_pythons(package):
        holder = key.rpartition(".")[0]
        return ConfigError(f"{problem}, and {package} is a part of Python", f"choose another: {holder}=...")
    return ConfigError(problem, f"if you trust that package, declare it: plugins=[{package}]")


def _within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _is_pythons(package: str) -> bool:
    return package in sys.stdlib_module_names or package in sys.builtin_module_names


def _check_package(name: Any, where: str) -> None:
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f"{where} is not the name of a package", "name the package of your own classes: plugins=[...]"
        )
    if _is_pythons(name.partition(".")[0]):
        raise ConfigError(
            f"{where}: {name} is a part of Python, and has no parts of a pipeline",
            "leave it out, or name the package of your own classes: plugins=[...]",
        )


def _of_user() -> Iterator[tuple[Any, str]]:
    """The packages named by ``plugins`` in the user's own settings files, each with its place."""
    folder = _settings_folder()
    for path in sorted(folder.glob("*.yaml")) if folder is not None else ():
        try:
            content = loaded_yaml(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            first = str(error).split("\n", maxsplit=1)[0]
            raise ConfigError(f"{path} cannot be read: {first}", _LIKE) from error
        named = content.get("plugins") if isinstance(content, Mapping) else None
        if named is not None and not isinstance(named, list):
            raise ConfigError(f"{path}: plugins is not a list", _LIKE)
        yield from ((name, f"{path}: plugins: [{name}]") for name in named or ())


def _settings_folder() -> Path | None:
    """The user's settings folder by the XDG Base Directory Specification, which ignores relative paths."""
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if given.is_absolute():
        return given / "gens-videoqa"
    home = Path(os.path.expanduser("~"))
    return home / ".config" / "gens-videoqa" if home.is_absolute() else None


def _check_logging(node: Any, group: str, trusted: Sequence[str]) -> None:
    raw = OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else None
    for key, value in _values(raw, group, None):
        name, text = key.rpartition(".")[2], str(value)
        if name in ("class", "()"):
            if value not in _LOGGING:
                trusted_class(value, key, trusted, ours=False)
        elif name == "filename" and not _LOG_FILE.fullmatch(text):
            inside = f"'{key}=${{hydra.runtime.output_dir}}/...'"
            raise ConfigError(f"{key}={value} is outside the run folder", f"write logs there: {inside}")
        elif ("://" in text and value not in _STREAMS) or "${" in _RUNTIME.sub("", text):
            raise ConfigError(
                f"{key}={value} may name code, and logging would run it",
                f"write a plain value, or one of {', '.join(sorted(_STREAMS))}",
            )


def _resolved(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _values(node: Any, key: str, names: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    """Full key and value of every leaf; only of leaves with one of ``names``, if any are given."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _values(value, f"{key}.{name}", names)
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _values(value, f"{key}.{place}", names)
    elif names is None or key.rpartition(".")[2] in names:
        yield key, node
