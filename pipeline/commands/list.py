"""``gens list``: what can be put into the pipeline, read from the YAML files that the commands compose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.config import nearest
from pipeline.errors import ConfigError

GROUPS = {"samplers": "sampler", "policies": "selection", "answerers": "answerer", "benchmarks": "benchmark"}
COLUMNS = ("checkpoint", "memory", "extra")


def run(config: DictConfig) -> int:
    """Print one group, or all."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for what in GROUPS if config.what is None else [config.what]:
        if what not in GROUPS:
            raise ConfigError(f"gens list {what}: no such list.{nearest(what, GROUPS)}", f"one of {', '.join(GROUPS)}")
        group = GROUPS[what]
        table = Table(title=f"{what}: choose with {group}=NAME", title_justify="left", box=None, pad_edge=False)
        for column in (group, "what it is", *COLUMNS):
            table.add_column(column, overflow="fold")
        for name, about in sorted(entries(group)):
            table.add_row(name, *(str(about.get(column) or "-") for column in ("what", *COLUMNS)))
        console.print(table)
        console.print()
    return 0


def entries(group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and ``about`` of every option of a group, on our own and the user's search path."""
    seen: set[str] = set()
    for source in HydraConfig.get().runtime.config_sources:
        if source.schema != "file":
            continue
        for path in sorted((Path(source.path) / group).glob("*.yaml")):
            if path.stem not in seen:
                seen.add(path.stem)
                yield path.stem, (yaml.safe_load(path.read_text()) or {}).get("about", {})
