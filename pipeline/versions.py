"""Versions of Python and of the packages that decide results, for ``gens --version`` and ``run.json``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("gens-videoqa", "torch", "transformers", "numpy", "pillow", "av", "decord", "hydra-core", "openai")


def python() -> str:
    """Such as ``3.11.9``."""
    return platform.python_version()


def packages() -> dict[str, str]:
    """The version of each installed package, read from its metadata; nothing is imported."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
