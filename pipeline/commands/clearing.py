"""Removes run folders of commands that failed before they had a result."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pipeline.commands.outcome import OUTCOME_FILE, JobStatus, read_outcome
from pipeline.errors import StorageError

LOG_FILE = "gens.log"


def nearest_existing(folder: Path) -> Path:
    """``folder``, or the nearest parent that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def clear_away(folder: Path, there: Path) -> None:
    """Remove a run folder without results, and its empty parents up to ``there``, which existed before the command.

    Folders are kept that hold a result, whose command was interrupted, that another process is writing to, or that hold
    a file which is not ours.
    """
    if there == folder or not folder.is_dir():
        return
    if any(folder.iterdir()):
        if (folder / OUTCOME_FILE).is_file() and read_outcome(folder).status is not JobStatus.FAILED:
            return
        try:
            remove_without_rows(folder)
        except StorageError:
            return
    for place in (folder, *folder.parents):
        if place == there:
            return
        try:
            place.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return


def remove_without_rows(folder: Path) -> None:
    """Remove a run folder, unless it holds a result or a file that is not ours.

    Raises:
        StorageError: another process is writing to it, or it cannot be locked.
    """
    from pipeline.artefacts.journal import LOCK_FILE, sole_writer

    with sole_writer(folder):
        if holds_something(folder):
            return
        _remove_files(folder)
    with suppress(OSError):
        (folder / LOCK_FILE).unlink(missing_ok=True)
        folder.rmdir()


def holds_something(folder: Path) -> bool:
    """Whether the folder holds a result, or a file that our commands do not write before they have one."""
    from pipeline.artefacts import folder as names
    from pipeline.artefacts.index import INDEX_SUFFIX
    from pipeline.artefacts.journal import LOCK_FILE
    from pipeline.execution.events import EVENTS_FILE

    told = {OUTCOME_FILE, LOG_FILE, EVENTS_FILE, names.CONFIG_FILE, names.RUN_FILE}
    beside = {LOCK_FILE, names.QUESTIONS_FILE, *told}
    results = {names.RELEVANCE_FILE, names.SELECTIONS_FILE, names.ANSWERS_FILE}
    beside |= {f"{name}{INDEX_SUFFIX}" for name in results}

    def is_nothing(path: Path) -> bool:
        empty = path.name in results and not path.stat().st_size
        return empty or path.name in beside or path.name.endswith(".part")

    return not all(path.is_dir() or is_nothing(path) for path in folder.rglob("*"))


def _remove_files(folder: Path) -> None:
    from pipeline.artefacts.journal import LOCK_FILE

    for path in sorted(folder.rglob("*"), reverse=True):
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()
            elif path.name != LOCK_FILE or path.parent != folder:
                path.unlink()
