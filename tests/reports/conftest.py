from __future__ import annotations

import pytest
from sweep_on_disk import Sweep, make_sweep


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Four finished runs over six questions of three videos, one of which is gone."""
    return make_sweep(tmp_path_factory.mktemp("sweep"))
