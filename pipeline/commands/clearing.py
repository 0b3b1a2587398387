"""Removes run folders of commands that failed before they had a result."""

from __future__ import annotations

import os
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
    """Remove a run folder, unless it holds a result or anything that is not ours.

    Raises:
        StorageError: another process is writing to it, or it cannot be locked.
    """
    from pipeline.artefacts.journal import LOCK_FILE, sole_writer

    with sole_writer(folder):
        leftovers = _leftovers(folder)
        if leftovers is None:
            return
        # One by one, so that what is put there meanwhile stays.
        for path in leftovers:
            with suppress(OSError):
                if path.is_dir():
                    path.rmdir()
                elif path != folder / LOCK_FILE:
                    path.unlink()
    with suppress(OSError):
        (folder / LOCK_FILE).unlink(missing_ok=True)
        folder.rmdir()


def holds_something(folder: Path) -> bool:
    """Whether the folder holds a result, or anything that our commands do not write before they have one."""
    return _leftovers(folder) is None


def _leftovers(folder: Path) -> list[Path] | None:
    """What a command without results has left, the content of a folder before it; None if there is anything else.

    A link, and a folder that is not itself one of a run, are never ours.
    """
    found: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                inner = None if read_outcome(path).status is JobStatus.NOT_STARTED else _leftovers(path)
                if inner is None:
                    return None
                found += inner
            elif not entry.is_file(follow_symlinks=False) or not _is_leftover(path):
                return None
            found.append(path)
    return found


def _is_leftover(path: Path) -> bool:
    from pipeline.artefacts import folder as names
    from pipeline.artefacts.index import INDEX_SUFFIX
    from pipeline.artefacts.journal import LOCK_FILE
    from pipeline.artefacts.writing import UNFINISHED
    from pipeline.execution.events import EVENTS_FILE

    results = {names.RELEVANCE_FILE, names.SELECTIONS_FILE, names.ANSWERS_FILE}
    if path.name in results:
        return not path.stat().st_size
    if path.name == names.QUESTIONS_FILE:
        return names.is_of_a_run(path)
    ours = {LOCK_FILE, OUTCOME_FILE, LOG_FILE, EVENTS_FILE, names.CONFIG_FILE, names.RUN_FILE}
    ours |= {f"{name}{INDEX_SUFFIX}" for name in results}
    return path.name in ours or UNFINISHED.fullmatch(path.name) is not None
