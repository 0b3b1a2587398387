"""A part of a benchmark, named by a list of ids: the v-centric questions of LongVideoBench and MLVU, for instance.

The lists are their authors' and not shipped here. A part is asked (``benchmark.ids``), or counted after a run over all
of it (``subset`` of ``gens report`` and ``gens compare``).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pipeline.artefacts.entries import read_json, read_text
from pipeline.config import nearest
from pipeline.errors import InputError


def read_ids(file: Path, override: str, known: Collection[str]) -> frozenset[str]:
    """The ids in a file: a JSON list, or one a line.

    Args:
        file: its path.
        override: the key that names the file, for the error.
        known: the ids that exist.

    Raises:
        InputError: no such file, it is not text, it holds no id, or one that is not known.
    """
    text = read_text(file, override)
    if text.lstrip().startswith("["):
        entries = read_json(file, override)
    else:
        entries = [line.strip() for line in text.split("\n") if line.strip()]
    ids = frozenset(str(entry) for entry in entries if isinstance(entry, str | int))
    if not ids or len(ids) < len(entries):
        raise InputError(
            f"{file} is not a list of ids, each once", f"it needs one id a line, or a JSON list of ids: {override}=..."
        )
    unknown = sorted(ids.difference(known))
    if unknown:
        shown = ", ".join(repr(id) for id in unknown[:5]) + (" ..." if len(unknown) > 5 else "")
        raise InputError(
            f"{file}: {len(unknown)} of {len(ids)} ids are of no question here: {shown}.{nearest(unknown[0], known)}",
            f"take them out of the list, or name the list of this benchmark: {override}=...",
        )
    return ids
