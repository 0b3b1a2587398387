"""``gens download benchmark=NAME``: lists the parts of a benchmark and downloads those on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pipeline.artefacts.entries import checked
from pipeline.benchmarks.origin import Origin, Part, fetch
from pipeline.errors import InputError
from pipeline.paths import local_path
from pipeline.terminal import tell


def run(config: DictConfig) -> int:
    """List all parts, and download those that can be downloaded.

    Raises:
        InputError: a wanted part is missing; the message lists all of them, and where to put them.
    """
    name = HydraConfig.get().runtime.choices["benchmark"]
    origin = _origin(config, name)
    folder = local_path(config.paths.data) / origin.folder
    wanted = [*origin.annotations, *(origin.videos if config.videos else ())]
    _tell(origin, name, folder, wanted)
    refused = [error for part in wanted if (error := _fetched(part, folder)) is not None]
    if refused:
        listed = "\n  ".join(f"{number}. {error.problem}" for number, error in enumerate(refused, start=1))
        remedies = "\n  ".join(f"{number}. {error.remedy}" for number, error in enumerate(refused, start=1))
        raise InputError(f"not everything is in {folder}:\n  {listed}", f"\n  {remedies}")
    tell(f"gens evaluate benchmark={name} paths.data={config.paths.data}" + _where(config))
    return 0


def _origin(config: DictConfig, name: str) -> Origin:
    if OmegaConf.select(config, "benchmark.origin") is None:
        raise InputError(
            f"benchmark={name} has no origin in its YAML: it is made on this machine, or is your own",
            "name a published one, as gens list benchmarks shows them: gens download benchmark=longvideobench",
        )
    block: Any = OmegaConf.to_container(config.benchmark.origin, resolve=True)
    return checked(Origin, block, f"benchmark={name}: origin")


def _tell(origin: Origin, name: str, folder: Path, wanted: Sequence[Part]) -> None:
    tell(f"{name}: {origin.home}\nlicence: {origin.licence}\nfolder: {folder}")
    for part in (*origin.annotations, *origin.videos):
        tell(f"* {part.what}\n    from {part.hub}{', after consent' if part.gated else ''}: {', '.join(part.files)}")
        if part not in wanted:
            tell("    skipped; add videos=true")
    for what in origin.by_hand:
        tell(f"* by hand: {what}")


def _fetched(part: Part, folder: Path) -> InputError | None:
    """Download a part, and print the result or why it is missing."""
    try:
        count = fetch(part, folder)
    except InputError as error:
        return error
    tell(f"here: {part.what}: {count} files")
    return None


def _where(config: DictConfig) -> str:
    """The file that the benchmark is read from, if its YAML names one."""
    path = OmegaConf.select(config, "benchmark.path", throw_on_missing=False)
    return f"\nreads {path}; another file: benchmark.path=..." if path else "\nname its file: benchmark.path=..."
