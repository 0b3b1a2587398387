"""Shared by all pages: templates, style and script."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.reports.results import share
from pipeline.wellformed import well_formed

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def environment(filters: Mapping[str, Callable[..., str]], *folders: Path) -> Environment:
    """The environment of the templates: values are escaped, and a misspelt name is an error.

    Args:
        filters: besides those of all pages.
        folders: with further templates.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader([TEMPLATES, *folders]),
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

    style, script = (Markup((TEMPLATES / f"{name}.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    return {"style": style, "style_hash": _hash(style), "script": script, "script_hash": _hash(script)}


def packed(markup: str) -> str:
    """Markup as base64 of gzip: browsers skip it quickly in a long page, and unpack only what is shown."""
    return base64.b64encode(gzip.compress(well_formed(markup).encode(), compresslevel=6, mtime=0)).decode("ascii")


def thousands(count: int) -> str:
    """``24000`` with a thin space, since many countries use the comma as a decimal point."""
    return f"{count:,}".replace(",", "\u202f")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _words(text: object) -> str:
    return str(text).replace("_", " ")
