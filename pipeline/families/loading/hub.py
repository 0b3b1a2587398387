"""Checkpoints of the Hugging Face hub: fetched once, pinned to a commit, usable from the cache without network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from pipeline.artefacts.writing import full_disk_error, unwritable
from pipeline.errors import CheckpointError
from pipeline.families.known import override
from pipeline.families.loading import contents
from pipeline.families.loading.contents import Notes

_SMALL_FILES = ["*.json", "*.jinja", "*.txt", "*.model"]


class UnreachableError(CheckpointError):
    """A file is not in the local cache, and the hub cannot be asked for it."""


def fetch_it(source: str, revision: str | None) -> str:
    """How to get a hub checkpoint onto a machine without network."""
    named = f" --revision {revision}" if revision else ""
    return (
        f"Fetch it on a machine with network: `hf download {source}{named} --local-dir FOLDER` (older: "
        f"`huggingface-cli download`), then {override('source', 'FOLDER')}."
    )


# Cached so that one process sees one commit, even when the branch moves while it runs.
@lru_cache(maxsize=64)
def config_file(source: str, revision: str | None) -> Path:
    """``config.json`` of a hub repository, in the cache folder of its commit: the folder's name is the commit.

    Raises:
        CheckpointError: there is no such repository or revision, or no network.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    name = "config.json"

    def fetch() -> str:
        if not isinstance(try_to_load_from_cache(source, name, revision=revision), str):
            # Asks once. Without a network the download would try again for half a minute, and then say the same.
            get_hf_file_metadata(hf_hub_url(source, name, revision=revision))
        return str(hf_hub_download(source, name, revision=revision))

    return Path(_from_hub(source, revision, fetch))


@lru_cache(maxsize=64)
def snapshot(source: str, commit: str) -> Path:
    """The cache folder with all files of a commit, safetensors before other weight formats.

    Raises:
        CheckpointError: as :func:`config_file`.
    """
    from huggingface_hub import snapshot_download

    def fetch(weight_pattern: str) -> Path:
        patterns = [*_SMALL_FILES, weight_pattern]
        return Path(
            _from_hub(source, commit, lambda: snapshot_download(source, revision=commit, allow_patterns=patterns))
        )

    cached = _cached(source, commit)
    if cached is not None:
        return cached
    folder = fetch("*.safetensors")
    return folder if contents.weight_files(folder) else fetch("*.bin")


@lru_cache(maxsize=64)
def settings(source: str, commit: str) -> Path:
    """The cache folder with the small files of a commit: all but the weights.

    Raises:
        CheckpointError: as :func:`config_file`.
    """
    from huggingface_hub import snapshot_download

    cached = _cached(source, commit)
    if cached is not None:
        return cached
    fetched = _from_hub(source, commit, lambda: snapshot_download(source, revision=commit, allow_patterns=_SMALL_FILES))
    return Path(fetched)


def content_of(source: str, commit: str, notes: Notes) -> str | None:
    """The digest of a commit's contents: that of a folder with the same files. Fetches no weights.

    The hub lists the hashes of large files; small ones are fetched. Where it does not, the files in the local cache
    are hashed.

    Returns:
        None where neither the hub's list nor a whole copy is at hand.
    """
    try:
        return contents.digest(_listed(source, commit))
    except CheckpointError:
        folder = _cached(source, commit)
    return contents.of_folder(folder, notes) if folder is not None else None


def _listed(source: str, commit: str) -> dict[str, str]:
    """The SHA-256 of a commit's files, as the hub says."""
    from huggingface_hub import HfApi, hf_hub_download

    found: dict[str, str] = {}

    def ask() -> str:
        siblings = HfApi().model_info(source, revision=commit, files_metadata=True).siblings or ()
        large = {sibling.rfilename: sibling.lfs.sha256 for sibling in siblings if sibling.lfs is not None}
        for name in contents.deciding(sibling.rfilename for sibling in siblings):
            if name in large:
                found[name] = large[name]
            else:
                fetched = Path(hf_hub_download(source, name, revision=commit))
                found[name] = hashlib.sha256(fetched.read_bytes()).hexdigest()
        return source

    _from_hub(source, commit, ask)
    return found


def _cached(source: str, commit: str) -> Path | None:
    """The whole snapshot in the local cache, if it is whole: a commit never changes, so the hub need not be asked."""
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(snapshot_download(source, revision=commit, local_files_only=True))
        contents.check_complete(folder, "")
    except (errors.LocalEntryNotFoundError, CheckpointError):
        return None
    return folder if any(folder.rglob("tokenizer*")) else None


def _from_hub(source: str, revision: str | None, fetch: Callable[[], str]) -> str:
    from huggingface_hub import errors
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        return str(fetch())
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{source} is on the hub and its owners ask for consent first.",
            f"Agree on https://huggingface.co/{source}, then `hf auth login`.",
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise CheckpointError(
            f"There is no checkpoint {source!r}: neither a folder here nor a public repository on the hub.",
            f"Correct the name: {override('source')}; a private one needs `hf auth login`.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(
            f"{source} has no revision {revision!r} on the hub.", f"Correct it: {override('revision')}."
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:  # before their base classes
        raise _unreachable(source, revision) from error
    except errors.EntryNotFoundError as error:
        raise CheckpointError(
            f"The hub repository {source} has no config.json: it is not a checkpoint of a transformers model.",
            f"Name another one: {override('source')}.",
        ) from error
    except (OSError, RuntimeError, errors.HfHubHTTPError) as error:
        full = full_disk_error(error)
        if full is not None:
            raise unwritable(full.filename or HF_HUB_CACHE, full, "export HF_HUB_CACHE=...") from error
        raise CheckpointError(
            f"{source} cannot be fetched from the hub: {error}.", fetch_it(source, revision)
        ) from error
    except errors.HTTPError as error:  # of the connection; what the hub itself answers is caught above
        raise _unreachable(source, revision) from error


def _unreachable(source: str, revision: str | None) -> UnreachableError:
    return UnreachableError(
        f"{source} is not in the local cache, and the hub cannot be reached (no network, or HF_HUB_OFFLINE=1).",
        fetch_it(source, revision),
    )
