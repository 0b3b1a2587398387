"""``gens report runs=FOLDER``: one page over the runs in a folder, finished or not. Loads no model."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from pipeline.config import build
from pipeline.reports.page import report_on


def run(config: DictConfig) -> int:
    """Write the page and print the table."""
    runs = Path(config.runs).expanduser()
    target = runs if config.target is None else Path(config.target).expanduser()
    report_on([runs], build(config.reader, "reader", config.plugins), target)
    return 0
