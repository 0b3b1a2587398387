"""What all tests share: marks that skip themselves with a reason, and tiny checkpoints made once a session."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator

import pytest

import pipeline.families.loading  # noqa: F401  # prepares the import of torchvision, wherever transformers makes it

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts a background job with this signal ignored, and the commands that tests run would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: scripts/test --long"))
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this host"))
        if item.get_closest_marker("network") and os.environ["HF_HUB_OFFLINE"] != "0":
            item.add_marker(pytest.mark.skip(reason="needs the hub: set HF_HUB_OFFLINE=0 to run"))


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    """SVT-AV1, which writes some of the videos, gives root's thread real-time priority for good (``EbThreads.c``).

    Whatever that thread starts later would have it too: Chromium then keeps all other processes from running.
    """
    _lower_priority()
    yield
    _lower_priority()


def _lower_priority() -> None:
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_FIFO:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(scope="module", autouse=True)
def _what_stays_is_no_garbage() -> None:
    """Commands that fail and models that run out of memory collect garbage: not among all modules and tests."""
    gc.collect()
    gc.freeze()


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
