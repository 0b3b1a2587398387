"""Tiny checkpoints of the types, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from native import Folders


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    pytest.importorskip(
        "torchvision", reason="the types' own processors need torchvision: pip install 'gens-videoqa[any]'"
    )
    made: dict[str, Path] = {}
    return Folders(made, lambda: tmp_path_factory.mktemp("native"))
