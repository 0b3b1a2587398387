"""The user's folders of YAML files: ``--config-dir``, ``GENS_CONFIG``, and ``config_dir`` in pyproject.toml.

The command line and the environment are the user's own, so the files of their folders come before ours. A
``pyproject.toml`` may come with somebody's data: its folder only adds options, and it cannot say what is trusted.
"""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from pipeline.config import conf_dir, nearest
from pipeline.errors import ConfigError
from pipeline.paths import local_path

VARIABLE = "GENS_CONFIG"
_TABLE = "gens-videoqa"
_KEYS = ("config_dir", "plugins")


@dataclass(frozen=True)
class Project:
    """The table ``[tool.gens-videoqa]`` of a ``pyproject.toml``."""

    file: Path
    config_dir: Path | None
    plugins: tuple[str, ...]
    """Packages that it asks for. They are trusted only if the user says so elsewhere."""

    def check_trusted(self, trusted: Sequence[str]) -> None:
        """Check that the user trusts the packages that the project asks for.

        Raises:
            ConfigError: the user does not; the remedy is the word to type.
        """
        if any(name not in trusted for name in self.plugins):
            raise ConfigError(
                f"{self.file}: plugins = {[*self.plugins]} stands in the working folder's project, and a file there "
                "does not say what is trusted",
                f"if you trust that, say so yourself: plugins=[{','.join(dict.fromkeys([*trusted, *self.plugins]))}]",
            )


def project() -> Project | None:
    """The table in the nearest ``pyproject.toml`` that has one, from the working folder upwards; None without one.

    Raises:
        ConfigError: the table cannot be read, or holds an unknown key.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        table = _table(file)
        if table is not None:
            return _project(file, table)
    return None


def folder_given(name: str, word: str) -> str:
    """The absolute path of a folder that the user names.

    Args:
        name: the folder.
        word: how it was given, for messages: ``--config-dir``.

    Raises:
        ConfigError: there is no such folder.
    """
    found = os.path.abspath(local_path(name))
    if not os.path.isdir(found):
        space = "" if word.endswith("=") else " "
        raise ConfigError(f"{word}{space}{name}: there is no such folder", f"check the path: {word}{space}FOLDER")
    return found


def folder_of_environment() -> str | None:
    """The folder that ``GENS_CONFIG`` names."""
    name = os.environ.get(VARIABLE)
    return folder_given(name, f"{VARIABLE}=") if name else None


def standing_folder() -> Path | None:
    """The folder in which new YAML files are found without a word on the command line."""
    of_environment = folder_of_environment()
    if of_environment is not None:
        return Path(of_environment)
    here = project()
    return None if here is None else here.config_dir


class StandingFolders(SearchPathPlugin):  # type: ignore[misc]
    """Adds the folders of environment and project to every search path that Hydra makes."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put the environment's folder first and the project's last."""
        of_environment = folder_of_environment()
        if of_environment is not None:
            search_path.prepend(provider=VARIABLE, path=f"file://{of_environment}")
        here = project()
        if here is not None and here.config_dir is not None:
            search_path.append(provider="pyproject", path=f"file://{here.config_dir}")


def use_standing_folders(first: str | None) -> None:
    """Have Hydra search them, and check that no file of the project has the place of one of ours.

    Args:
        first: the folder of ``--config-dir``.

    Raises:
        ConfigError: there is no such folder, or the project's holds a file that would never be read.
    """
    Plugins.instance().register(StandingFolders)
    before_ours = (first, folder_of_environment())
    here = project()
    if here is None or here.config_dir is None or str(here.config_dir) in before_ours or here.config_dir == conf_dir():
        return
    for ours in conf_dir().rglob("*.yaml"):
        theirs = here.config_dir / ours.relative_to(conf_dir())
        if theirs.exists():
            raise ConfigError(
                f"{theirs} has the name of one of our own files, which no folder that {here.file} names can replace",
                f"rename it, or say that it comes first: export {VARIABLE}={shlex.quote(str(here.config_dir))}",
            )


def _table(file: Path) -> Any:
    """The table, or None where there is none. A file that cannot be read matters only if it names the table."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if _TABLE not in text:
        return None
    try:
        tools = tomllib.loads(text).get("tool")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", "correct it") from error
    return tools.get(_TABLE) if isinstance(tools, dict) else None


def _project(file: Path, table: Any) -> Project:
    for key in table if isinstance(table, Mapping) else ():
        if key not in _KEYS:
            raise ConfigError(
                f"{file}: [tool.{_TABLE}] has no key {key}.{nearest(key, _KEYS)}", f"valid there: {', '.join(_KEYS)}"
            )
    folder = table.get("config_dir") if isinstance(table, Mapping) else 0
    plugins = table.get("plugins", []) if isinstance(table, Mapping) else []
    if not isinstance(folder, str | None) or not isinstance(plugins, list):
        raise ConfigError(f"{file}: [tool.{_TABLE}] cannot be used", 'write config_dir = "FOLDER" there')
    found = None if folder is None else (file.parent / local_path(folder)).resolve()
    if found is not None and not found.is_dir():
        raise ConfigError(
            f'{file}: config_dir = "{folder}": there is no such folder',
            "make it, or correct the path; it is relative to the file",
        )
    return Project(file, found, tuple(map(str, plugins)))
