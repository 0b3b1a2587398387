"""Copies of a process that work for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.execution.forks import ForkedWork


def fail() -> None:
    raise ValueError


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_each_work_is_done_by_another_process_while_this_one_goes_on() -> None:
    done: list[int] = []
    found = ForkedWork(3, lambda: done.append(os.getpid()))([os.getpid, lambda: b"x" * 300_000, lambda: done])
    assert found is not None
    assert found[0] not in (os.getpid(), None)
    assert found[1:] == [b"x" * 300_000, []]
    assert done == [os.getpid()]


@pytest.mark.parametrize("bad", [fail, kill_itself])
def test_one_that_fails_costs_the_result_and_nothing_else(bad: Callable[[], Any]) -> None:
    assert ForkedWork(3, lambda: None)([os.getpid, bad, os.getpid]) is None
    with pytest.raises(ChildProcessError):  # none is left behind
        os.waitpid(-1, os.WNOHANG)


def test_what_fails_meanwhile_is_raised_when_all_have_ended() -> None:
    with pytest.raises(ValueError):
        ForkedWork(3, fail)([os.getpid])
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
