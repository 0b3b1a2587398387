"""``gens export selections=FILE form=FORM``: a selection file as another project reads it."""

from __future__ import annotations

import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.artefacts.journal import read_rows
from pipeline.artefacts.rows import SelectionRow
from pipeline.commands.run import exit_code
from pipeline.config import build
from pipeline.domain import Status
from pipeline.errors import InputError


def run(config: DictConfig) -> int:
    """Write the file; 1 where a question has no frames, since the other form has no word for why."""
    form = build(config.form, "form", config.plugins)
    source = Path(config.selections).expanduser()
    rows = read_rows(SelectionRow, source)
    if not rows:
        raise InputError(f"{source} holds no selection", "name a selections.jsonl that gens sample has finished")
    chosen = HydraConfig.get().runtime.choices["form"]
    target = Path(config.target).expanduser() if config.target else source.with_suffix(f".{chosen}{form.suffix}")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_text(form.text(rows), encoding="utf-8")
    os.replace(part, target)
    print(f"{len(rows)} selections as {chosen}: {target}")
    return exit_code([Status.OK if row.selection.frames else _why_empty(row) for row in rows])


def _why_empty(row: SelectionRow) -> Status:
    return row.selection.status if row.selection.status is not Status.OK else Status.NO_FRAMES
