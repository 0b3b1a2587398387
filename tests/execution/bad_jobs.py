"""Jobs that do what decoders of damaged files have done."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


def sleep() -> None:
    time.sleep(600)


def sleep_with_the_lock() -> None:
    ctypes.PyDLL(None).sleep(600)


def abort() -> None:
    os.abort()


def segfault() -> None:
    ctypes.string_at(8)


def leave() -> None:
    os._exit(3)


def leave_by_exception() -> None:
    sys.exit(3)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def allocate() -> None:
    held = []
    while True:
        held.append(np.ones(1 << 24))


def interrupt() -> None:
    raise KeyboardInterrupt


def break_off() -> None:
    raise ZeroDivisionError("by zero")


@dataclass(frozen=True)
class Bad:
    """Gives ``before`` parts, then calls a function of this module."""

    act: str
    before: int = 0
    path: str = "bad.mp4"

    def run(self, held: Callable[[str], Any]) -> Iterator[Any]:
        yield from range(self.before)
        globals()[self.act]()


@dataclass(frozen=True)
class Good:
    number: int
    path: str = "good.mp4"

    def run(self, held: Callable[[str], Any]) -> Iterator[Any]:
        yield self.number
        yield np.full((1 << 20, 3), self.number, np.uint8)


@dataclass(frozen=True)
class OnceBad:
    """Kills its worker in the middle, the first time."""

    mark: str
    path: str = "once.mp4"

    def run(self, held: Callable[[str], Any]) -> Iterator[Any]:
        yield 0
        if not Path(self.mark).exists():
            Path(self.mark).touch()
            die()
        yield 1


@dataclass(frozen=True)
class Modules:
    path: str = "modules.mp4"

    def run(self, held: Callable[[str], Any]) -> Iterator[Any]:
        yield sorted(sys.modules), os.getpid()


class Unreceivable:
    """Can be sent, and not be made again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


@dataclass(frozen=True)
class GivesUnreceivable:
    path: str = "unreceivable.mp4"

    def run(self, held: Callable[[str], Any]) -> Iterator[Any]:
        yield Unreceivable()


@dataclass(frozen=True)
class Counting:
    """Writes a byte into a file before each of its many parts."""

    file: str
    path: str = "long.mp4"

    def run(self, held: Callable[[str], Any]) -> Iterator[Any]:
        for number in range(1000):
            with open(self.file, "ab") as file:
                file.write(b".")
            yield number
