"""``gens report runs=FOLDER``: one page over the runs in a folder, finished or not. Loads no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from pipeline.benchmarks.subsets import read_ids
from pipeline.config import build
from pipeline.errors import ConfigError
from pipeline.paths import local_path
from pipeline.reports.page import PageLimits, report_of
from pipeline.reports.runs import RunArtefacts, collect
from pipeline.terminal import tell


def run(config: DictConfig) -> int:
    """Write the page and its files, and print the table."""
    if not isinstance(config.pictures, int) or config.pictures < 0:
        raise ConfigError(f"pictures={config.pictures} is not a number of pictures", "set pictures=0 or more")
    if not isinstance(config.cards, int) or config.cards < 1:
        raise ConfigError(f"cards={config.cards} is not a number of questions", "set cards=1 or more")
    folder = local_path(config.runs)
    runs, place, part = collect([folder]), folder, ""
    if config.subset is not None:
        subset = local_path(config.subset)
        # In a folder of its own, so that it does not take the place of the page over all questions.
        runs, part = _within(runs, subset), f"{subset.stem} alone"
        place = folder / f"subset-{subset.stem}"
    target = place if config.target is None else local_path(config.target)
    limits = PageLimits(pictures=config.pictures, cards=config.cards)
    report_of(runs, build(config.reader, "reader", config.plugins), target, limits, part)
    return 0


def _within(runs: Sequence[RunArtefacts], subset: Path) -> list[RunArtefacts]:
    """The runs, restricted to these questions; runs without any of them are left out."""
    ids = read_ids(subset, "subset", {question.id for run in runs for question in run.questions})
    parts = [run.within(ids) for run in runs]
    tell(f"over {len(ids)} questions only: {subset}")
    return [part for part in parts if part.questions]
