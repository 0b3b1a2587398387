"""The origin of a published benchmark, from the ``origin`` block of its YAML, and its download.

The hub serves some of it; some it serves after consent, and some (videos of YouTube, of Ego4D) nobody serves at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artefacts.writing import FREE_SPACE, full_disk_error, unwritable
from pipeline.benchmarks.unpacking import unpack
from pipeline.errors import InputError


@dataclass(frozen=True)
class Part:
    """Files of one repository of the hub that belong together."""

    what: str
    """In words, with the size where it is known."""
    hub: str
    """Repository of a data set."""
    gated: bool
    """Whether its owners ask for consent first."""
    files: tuple[str, ...]
    """Names, or patterns as the hub has them (``*`` also crosses folders)."""
    unpack_to: str | None
    """Folder, seen from the benchmark's, that archives are unpacked into; None: there are no archives."""


@dataclass(frozen=True)
class Origin:
    """All that is to be known before a benchmark is on this machine."""

    licence: str
    home: str
    folder: str
    """Under ``paths.data``."""
    annotations: tuple[Part, ...]
    videos: tuple[Part, ...]
    by_hand: tuple[str, ...]
    """What no command can fetch, and how people get it."""


def fetch(part: Part, folder: Path) -> int:
    """Download a part into ``folder``, going on where an earlier download ended, and unpack its archives.

    Returns:
        How many files the repository has of it.

    Raises:
        InputError: the hub cannot be reached, wants consent, has none of the files, or the disk cannot hold them.
        StorageError: the disk is full, or cannot be written.
    """
    from huggingface_hub import errors

    try:
        # Planned first: for a folder that has something in it the download alone would pass over a hub out of reach.
        planned = _from_hub(part, folder, plan=True)
        _check_room(sum(file.file_size for file in planned if file.will_download), part, folder)
        _from_hub(part, folder, plan=False)
    # Its bases are the errors of the HTTP library, which has changed before, and come through as they are.
    # The hub's transfer library raises RuntimeError for what the disk does not take.
    except (OSError, ValueError, RuntimeError, *errors.HfHubHTTPError.__bases__) as error:
        full = full_disk_error(error)
        if full is not None:
            raise unwritable(full.filename or folder, full, "paths.data=...") from error
        raise _refused(part, folder, error) from error
    if part.unpack_to is not None:
        unpack([folder / file.filename for file in planned], folder / part.unpack_to)
    return len(planned)


def by_hand(part: Part, folder: Path) -> str:
    """How to get a part on a machine with network, and where it goes on this one."""
    patterns = " ".join(f"--include '{pattern}'" for pattern in part.files)
    lines = [f"hf download {part.hub} --repo-type dataset {patterns} --local-dir {folder}"]
    if part.gated:
        lines.insert(0, f"where there is a network, agree on https://huggingface.co/datasets/{part.hub}, then:")
    if part.unpack_to is not None:
        lines.append(f"unpack the archives into {folder / part.unpack_to}")
    return "\n     ".join(lines)


def _from_hub(part: Part, folder: Path, *, plan: bool) -> Sequence[Any]:
    from huggingface_hub import snapshot_download

    found = snapshot_download(
        part.hub, repo_type="dataset", allow_patterns=list(part.files), local_dir=folder, dry_run=plan
    )
    if plan and not found:
        raise InputError(
            f"{part.hub} has none of {', '.join(part.files)}: it is laid out otherwise than it was",
            f"look at https://huggingface.co/datasets/{part.hub} and put the files into {folder}",
        )
    return found if isinstance(found, list) else ()


def _check_room(needed: int, part: Part, folder: Path) -> None:
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    wanted = needed * (2 if part.unpack_to is not None else 1)
    free = shutil.disk_usage(place).free
    if wanted > free:
        raise InputError(
            f"{part.what}: {wanted / 1e9:.1f} GB are needed in {place}, and {free / 1e9:.1f} GB are free",
            f"{FREE_SPACE}; or choose a larger disk: paths.data=FOLDER",
        )


def _refused(part: Part, folder: Path, error: Exception) -> InputError:
    from huggingface_hub import errors

    # The plan wraps what kept it from asking the hub.
    reason = error.__cause__ if isinstance(error, errors.DryRunError) and error.__cause__ is not None else error
    if isinstance(reason, errors.GatedRepoError):
        return InputError(
            f"{part.what}: the owners of {part.hub} ask for consent first",
            f"agree on https://huggingface.co/datasets/{part.hub}, then `hf auth login`, then this command again",
        )
    if isinstance(reason, errors.RepositoryNotFoundError):
        return InputError(
            f"{part.what}: there is no data set {part.hub} on the hub, or it is not shown without a login",
            f"look for it on the hub, `hf auth login` if it is there, and put its files into {folder}",
        )
    if isinstance(reason, OSError) and reason.filename is not None:
        return InputError(
            f"{reason.filename} cannot be written: {reason.strerror}", "choose a folder: paths.data=FOLDER"
        )
    first = str(reason).strip().split("\n")[0] or type(reason).__name__
    return InputError(f"{part.what}: the hub did not give it: {first}", by_hand(part, folder))
