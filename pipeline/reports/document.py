"""What every page shares: templates, the one style and script that may run, and a whole file or none on the disk."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import StorageError
from pipeline.reports.results import share

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"


def environment(filters: Mapping[str, Callable[..., str]]) -> Environment:
    """The templates, with text of others escaped and a misspelt name as an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(percent=share, counted=_counted, words=_words, thousands=thousands, packed=packed, **filters)
    return made


def inlined(name: str) -> dict[str, Markup | str]:
    """Our style ``NAME.css`` and script ``NAME.js`` with the hashes that the page's Content-Security-Policy names."""
    from markupsafe import Markup

    style, script = (Markup((_TEMPLATES / f"{name}.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    return {"style": style, "style_hash": _hash(style), "script": script, "script_hash": _hash(script)}


def packed(markup: str) -> str:
    """Markup as base64 of gzip: a browser passes over a long page of it at once, and unpacks what is looked at."""
    return base64.b64encode(gzip.compress(markup.encode(), compresslevel=6, mtime=0)).decode("ascii")


def thousands(count: int) -> str:
    """``24000`` with a thin space: a comma is a decimal point to half of the world."""
    return f"{count:,}".replace(",", "\u202f")


def write_whole(content: bytes, target: Path, override: str) -> None:
    """Write ``target`` so that no reader ever sees a part of it; ``override`` is what chooses another place.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("wb", dir=target.parent, delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
        # Readable like any other file of the run; temporary files are private.
        temporary.chmod(0o644)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"{target} cannot be written: {error.strerror}", f"choose another place: {override}"
        ) from error


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _words(text: object) -> str:
    return str(text).replace("_", " ")
