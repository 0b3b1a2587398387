"""``gens list``: the options of each group, read from the YAML files that the commands compose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.config import nearest
from pipeline.errors import ConfigError
from pipeline.terminal import draw, styled
from pipeline.wellformed import loaded_yaml

GROUPS = {
    "samplers": "sampler",
    "policies": "selection",
    "answerers": "answerer",
    "prompts": "answerer/prompt",
    "benchmarks": "benchmark",
}
NEEDS = ("checkpoint", "memory", "extra")


def run(config: DictConfig) -> int:
    """Print one group, or all."""
    from rich.table import Table

    for what in GROUPS if config.what is None else [config.what]:
        if what not in GROUPS:
            raise ConfigError(f"gens list {what}: no such list.{nearest(what, GROUPS)}", f"one of {', '.join(GROUPS)}")
        group = GROUPS[what]
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for name, about in sorted(entries(group)):
            table.add_row(styled(name), styled(about.get("what", "")))
            if needs := _needs(about):
                table.add_row("", styled(needs, "dim"))
        draw(styled(f"{what}: choose with {group}=NAME", "bold"), table, "")
    return 0


def _needs(about: dict[str, Any]) -> str:
    """Checkpoint, memory and extra in one line, without those that are 'none'."""
    given = {key: about.get(key) for key in NEEDS}
    return ", ".join(f"{key}: {value}" for key, value in given.items() if value not in (None, "none"))


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
    """Of an option; empty where its file cannot be read, which a command that chooses it reports."""
    try:
        found = loaded_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    about = found.get("about") if isinstance(found, dict) else None
    return about if isinstance(about, dict) else {}
