"""Copies of a process that work for it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psutil
import pytest

from pipeline.execution.forks import Fork, ForkedWork


def fail() -> None:
    raise ValueError


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_each_work_is_done_by_another_process() -> None:
    found = ForkedWork(3)([os.getpid, lambda: b"x" * 300_000, os.getppid])
    assert found is not None
    assert found[0] not in (os.getpid(), None)
    assert found[1:] == [b"x" * 300_000, os.getpid()]


@pytest.mark.parametrize("bad", [fail, kill_itself])
def test_one_that_fails_costs_the_result_and_nothing_else(bad: Callable[[], Any]) -> None:
    before = psutil.Process().children()
    assert ForkedWork(3)([os.getpid, bad, os.getpid]) is None
    none_is_left(before)


def test_without_another_process_there_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    assert ForkedWork(3)([os.getpid, os.getpid]) is None


def test_a_copy_that_is_not_waited_for_is_ended() -> None:
    begun, before = time.monotonic(), psutil.Process().children()
    with closing(Fork(lambda: time.sleep(60))):
        pass
    assert time.monotonic() - begun < 30
    none_is_left(before)


def none_is_left(before: list[psutil.Process]) -> None:
    assert psutil.Process().children() == before
