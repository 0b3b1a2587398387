"""``gens new``: writes the files of a sampler, an answerer or a policy, and says how to run it."""

from __future__ import annotations

import importlib.util
import keyword
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pipeline.artefacts.writing import write_whole
from pipeline.commands.config_folders import VARIABLE, project, standing_folder
from pipeline.commands.skeletons import SKELETONS, Skeleton
from pipeline.config import conf_dir, nearest
from pipeline.errors import ConfigError
from pipeline.paths import local_path
from pipeline.stopping import ExitCode
from pipeline.terminal import tell

CONFIG_FOLDER = "mine"
"""Folder of the YAML file where neither environment nor project name one."""
_KINDS = f"one of {', '.join(SKELETONS)}"
_SMALL = ("benchmark=micro", "benchmark.videos=4", "benchmark.max_minutes=5")


def run(config: DictConfig) -> int:
    """Write the files, and print them with the commands that test and run them.

    Raises:
        ConfigError: the name cannot be used, or a file is there already.
        StorageError: a file cannot be written.
    """
    if OmegaConf.is_missing(config, "kind"):
        raise ConfigError("kind is missing", f"{_KINDS}: gens new sampler NAME")
    if OmegaConf.is_missing(config, "name"):
        raise ConfigError("name is missing", f"give it: gens new {config.kind} NAME")
    kind, name = str(config.kind), str(config.name)
    if kind not in SKELETONS:
        raise ConfigError(
            f"gens new {kind}: no such kind.{nearest(kind, SKELETONS)}",
            f"{_KINDS}: gens new sampler NAME",
        )
    skeleton = SKELETONS[kind]
    into = local_path(config.into)
    _check_name(name, skeleton, into)
    standing = standing_folder()
    options = into / CONFIG_FOLDER if standing is None else Path(os.path.relpath(standing))
    files = {
        into / name / "__init__.py": skeleton.code,
        options / skeleton.group / f"{name}.yaml": skeleton.option,
        into / "tests" / f"test_{name}.py": skeleton.test,
    }
    _check_absent(files)
    for path, text in files.items():
        write_whole(text.replace("NAME", name).encode(), path, "--into FOLDER")
        tell(f"wrote {path}")
    path_of_package = f"PYTHONPATH={shlex.quote(str(into))}"
    tell(f"\ntest it:  {path_of_package} python -m pytest {shlex.quote(str(into / 'tests' / f'test_{name}.py'))}")
    folder = [] if standing is not None else ["--config-dir", str(options)]
    here = project()
    trusted = ",".join(dict.fromkeys([name, *(here.plugins if here else ())]))
    words = ["gens", "evaluate", *folder, f"plugins=[{trusted}]", f"{skeleton.group}={name}", *_SMALL, *skeleton.words]
    tell(f"run it:   {path_of_package} {shlex.join(words)}")
    tell(f"\nplugins=[{name}] says that you trust the package; GENS_PLUGINS={name} says so for the whole shell.")
    if standing is None:
        tell(
            f"Instead of --config-dir, once for all commands: {VARIABLE}={shlex.quote(str(options.absolute()))}, or in "
            f'pyproject.toml\n[tool.gens-videoqa]\nconfig_dir = "{options}"'
        )
    return ExitCode.SUCCESS


def _check_name(name: str, skeleton: Skeleton, into: Path) -> None:
    kind = "policy" if skeleton.group == "selection" else skeleton.group
    other = f"choose another name: gens new {kind} my_{name}"
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name):
        raise ConfigError(
            f"{name} is not the name of a Python package", f"use letters, digits and _: gens new {kind} my_{kind}"
        )
    if (conf_dir() / skeleton.group / f"{name}.yaml").exists():
        raise ConfigError(f"{skeleton.group}={name} is there already", other)
    if name in sys.stdlib_module_names or (not (into / name).exists() and _is_installed(name)):
        raise ConfigError(f"{name} is the name of another package, which would hide it", other)


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _check_absent(files: Mapping[Path, str]) -> None:
    for path in files:
        if path.exists():
            raise ConfigError(f"{path} is there already, and is left as it is", "choose another name, or --into FOLDER")
