"""``config.yaml`` and ``run.json``: what ran in a run folder, where, and when."""

from __future__ import annotations

import json
import os
import platform
import shlex
import socket
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import pipeline
from pipeline import versions
from pipeline.artefacts.folder import CONFIG_FILE, RUN_FILE
from pipeline.artefacts.writing import write_whole
from pipeline.checks.devices import this_machine
from pipeline.environment import overrides_of, written
from pipeline.errors import StorageError
from pipeline.secrecy import without_secrets
from pipeline.wellformed import loaded_object

_ELSEWHERE = "paths.runs=..."


def typed() -> str:
    """The command line of this job of Hydra's."""
    hydra = HydraConfig.get()
    return shlex.join(["gens", hydra.job.config_name or "", *overrides_of(hydra)])


def record(config: DictConfig, folder: Path, command: str) -> dict[str, Any]:
    """Write what runs in ``folder``: the resolved config, and the facts that are returned.

    Args:
        config: without Hydra's own settings.
        folder: of the run.
        command: what started it, as somebody can type it again.

    Raises:
        StorageError: it cannot be written.
    """
    facts = {
        "command": without_secrets(command),
        "started": _now(),
        "ended": None,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "machine": f"{platform.system()} {platform.machine()}",
        "gpu": this_machine().name,
        "commit": _commit(),
        "python": versions.python(),
        "versions": versions.packages(),
    }
    write_whole(written(config).encode(), folder / CONFIG_FILE, _ELSEWHERE)
    write_whole(f"{json.dumps(facts, indent=2)}\n".encode(), folder / RUN_FILE, _ELSEWHERE)
    return facts


def record_end(folder: Path) -> None:
    """Add to ``run.json`` when its command ended. On a full disk it stays as it is."""
    with suppress(OSError, ValueError, StorageError):
        facts = loaded_object((folder / RUN_FILE).read_text(encoding="utf-8"))
        facts["ended"] = _now()
        write_whole(f"{json.dumps(facts, indent=2)}\n".encode(), folder / RUN_FILE, _ELSEWHERE)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    """The commit of this program, with ``-dirty`` where its files differ from it; None if neither git nor pip knows."""
    here = Path(pipeline.__file__)
    if _git("ls-files", "--error-unmatch", here.name) is not None:  # not of a repository that only surrounds it
        return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        told = loaded_object(distribution("gens-videoqa").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    commit = told.get("vcs_info", {}).get("commit_id")
    return None if commit is None else str(commit)


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=Path(pipeline.__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
