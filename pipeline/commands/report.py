"""``gens report runs=FOLDER``: one page over the runs in a folder, finished or not. Loads no model."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from pipeline.config import build
from pipeline.errors import ConfigError
from pipeline.reports.page import report_on


def run(config: DictConfig) -> int:
    """Write the page with the files beside it, and print the table."""
    if not isinstance(config.pictures, int) or config.pictures < 0:
        raise ConfigError(f"pictures={config.pictures} is no number of pictures", "set pictures=0 or more")
    runs = Path(config.runs).expanduser()
    target = runs if config.target is None else Path(config.target).expanduser()
    report_on([runs], build(config.reader, "reader", config.plugins), target, config.pictures)
    return 0
