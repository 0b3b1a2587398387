"""What tests of the server share."""

from __future__ import annotations

import os

import pytest

LMMS_EVAL = "GENS_LMMS_EVAL"
"""Names a Python that has lmms-eval 0.7, in an environment of its own: its requirements are not ours."""


@pytest.fixture
def harness() -> str:
    python = os.environ.get(LMMS_EVAL)
    if python is None:
        pytest.skip(f"set {LMMS_EVAL} to a Python that has lmms-eval 0.7 to run this")
    return python
