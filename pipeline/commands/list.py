"""``gens list``: the options of each group, read from the YAML files that the commands compose."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.checks.devices import Machine, this_machine
from pipeline.config import nearest
from pipeline.errors import ConfigError
from pipeline.terminal import draw, styled, tell
from pipeline.wellformed import loaded_yaml

if TYPE_CHECKING:
    from rich.text import Text

GROUPS = {
    "samplers": "sampler",
    "policies": "selection",
    "answerers": "answerer",
    "prompts": "answerer/prompt",
    "benchmarks": "benchmark",
    "judges": "judge",
    "rubrics": "judge/rubric",
}
_WITH_MODELS = ("sampler", "answerer")
NEEDS = ("checkpoint", "memory", "extra")


_PACKAGES = {"any": "torchvision", "api": "openai"}
"""The package that tells whether an extra is installed."""
_WIDTH = 79
"""Columns of a narrow terminal."""
_MOST_LINES = 4
"""Of a group without models in the overview, which is to fit a screen."""
_GB = 1e9
_AS_FLOAT32 = 2
"""Weights take that much more memory on a CPU than in half precision on a GPU."""


class Place(StrEnum):
    """Whether a choice runs on this machine."""

    HERE = "runs here"
    SLOWLY = "runs on the CPU, slowly"
    LACKS_EXTRA = "needs an extra"
    TOO_LARGE = "too large for this machine"


def run(config: DictConfig) -> int:
    """Print what each choice of one group is and needs, or the names of all groups."""
    machine = this_machine()
    if config.what is None:
        _overview(machine)
        return 0
    if config.what not in GROUPS:
        wrong = f"gens list {config.what}: no such list.{nearest(config.what, GROUPS)}"
        raise ConfigError(wrong, f"one of {', '.join(GROUPS)}")
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, about in sorted(entries(GROUPS[config.what])):
        table.add_row(styled(name), styled(about.get("what", "")))
        if needs := _needs(about, machine):
            table.add_row("", styled(needs, "dim"))
    draw(styled(f"{config.what}: choose with {GROUPS[config.what]}=NAME", "bold"), table)
    return 0


def _overview(machine: Machine) -> None:
    """The names of all groups on one screen, those with models by where they run; of what is too large, the number."""
    size = f"{machine.memory / _GB:.0f} GB of memory"
    tell(fill(f"{machine.name}, {size}; gens list answerers says more of each", _WIDTH))
    for what, group in GROUPS.items():
        heading = f"{what}: {group}=NAME"
        if group not in _WITH_MODELS:
            draw(_of_group(what, heading, sorted(name for name, _ in entries(group))))
            continue
        draw(styled(heading, "bold"))
        names: dict[Place, list[str]] = {}
        for name, about in sorted(entries(group)):
            names.setdefault(place(about, machine), []).append(name)
        for where in Place:
            found = names.get(where, [])
            if found and where is Place.TOO_LARGE:
                tell(f"  {where}: {len(found)}; gens list {what} names them")
            elif found:
                line = f"{where}: {' '.join(_short(found))}"
                tell(fill(line, _WIDTH, initial_indent="  ", subsequent_indent="  "))


def _of_group(what: str, heading: str, names: Sequence[str]) -> Text:
    """A group without models in some lines; of one that takes more, the number."""
    told = fill(f"{heading}  {' '.join(_short(names))}", _WIDTH, subsequent_indent="  ")
    if told.count("\n") >= _MOST_LINES:
        told = f"{heading}  {len(names)}; gens list {what} names them"
    line = styled(told)
    line.stylize("bold", 0, len(heading))
    return line


def _short(names: Sequence[str]) -> list[str]:
    """The names, those that differ in their last part written together: ``qwen2_vl_{2b,7b}``."""
    lasts: dict[str, list[str]] = {}
    for name in names:
        stem, _, last = name.rpartition("_")
        lasts.setdefault(stem or last, []).append(f"_{last}" if stem else "")
    for stem, found in lasts.items():
        yet = [last.removeprefix("_") for last in found]
        lasts[stem] = found if len(found) == 1 else [f"_{{{','.join(yet)}}}"] if "" not in yet else found
    return [f"{stem}{last}" for stem, found in lasts.items() for last in found]


def place(about: Mapping[str, Any], machine: Machine) -> Place:
    """Where a choice runs, by its ``about``."""
    package = _PACKAGES.get(str(about.get("extra")))
    if package is not None and find_spec(package) is None:
        return Place.LACKS_EXTRA
    memory = str(about.get("memory"))
    stated = re.search(r"([\d.]+) GB", memory)
    if stated is None:
        return Place.HERE
    size = float(stated[1]) * _GB
    if "GPU" not in memory:
        return Place.HERE if size <= machine.memory else Place.TOO_LARGE
    if machine.gpus:
        gpus = [gpu.total for gpu in machine.gpus]
        return Place.HERE if size <= (sum(gpus) if "several" in memory else max(gpus)) else Place.TOO_LARGE
    on_cpu = re.search(r"([\d.]+) GB on a CPU", memory)
    size = float(on_cpu[1]) * _GB if on_cpu else size * _AS_FLOAT32
    return Place.SLOWLY if size <= machine.memory else Place.TOO_LARGE


def _needs(about: Mapping[str, Any], machine: Machine) -> str:
    """Checkpoint, memory and extra in one line, without those that are 'none'; of what has a model, where it runs."""
    given = {key: about.get(key) for key in NEEDS if about.get(key) not in (None, "none")}
    told = [f"{key}: {value}" for key, value in given.items()]
    return ", ".join([*told, place(about, machine)]) if given else ""


def entries(group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and ``about`` of every option of a group, on our own and the user's search path."""
    seen: set[str] = set()
    for source in HydraConfig.get().runtime.config_sources:
        if source.schema != "file":
            continue
        for path in sorted((Path(source.path) / group).glob("*.yaml")):
            if path.stem not in seen:
                seen.add(path.stem)
                yield path.stem, _about(path)


def _about(path: Path) -> dict[str, Any]:
    """What an option says of itself; empty if its file cannot be read, which a command that chooses it reports."""
    try:
        found = loaded_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    about = found.get("about") if isinstance(found, dict) else None
    return about if isinstance(about, dict) else {}
