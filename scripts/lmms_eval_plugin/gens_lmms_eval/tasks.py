"""What lmms-eval's tasks do with a question that has no answer, and which part of a video they ask about."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

_TAKES_EMPTY = ("mmvu",)
"""Tasks that take an empty answer to a free question for right: MMVU looks for it in the gold text (0.7.3)."""
_DRAWING = (random, np.random)


def harm_of(name: str, task: object) -> str:
    """What a task makes of an empty answer, if it does not count it as wrong; else empty.

    Args:
        name: of the task.
        task: lmms-eval's object.
    """
    if name.startswith(_TAKES_EMPTY):
        return "takes an empty answer for right"
    of_config = getattr(getattr(task, "config", None), "process_results", None)
    scored = of_config if callable(of_config) else getattr(task, "process_results", None)
    return "draws an option at random where it reads none" if scored is not None and draws(scored) else ""


def draws(function: Callable[..., Any]) -> bool:
    """Whether a function, or one that it calls by name, uses a generator of random numbers."""
    return any(each in _DRAWING for each in _reached(function, set()))


def in_turn(videos: Sequence[str]) -> list[int]:
    """The places of questions, those about one video after another, videos in the order in which they come first.

    Args:
        videos: of the questions.
    """
    first = {video: place for place, video in reversed(list(enumerate(videos)))}
    return sorted(range(len(videos)), key=lambda place: (first[videos[place]], place))


def span_in(messages: Any, name: str) -> list[float] | None:
    """Start and end of the part of the video that a question is about; None for all of it.

    Args:
        messages: lmms-eval's ``ChatMessages``, with one video. Its part begins at 0 unless it says where.
        name: of the question.

    Raises:
        ValueError: the part has no end.
    """
    (video,) = (part for message in messages.messages for part in message.content if part.type == "video")
    if video.start_time is None and video.end_time is None:
        return None
    if video.end_time is None:
        raise ValueError(f"{name} is about its video from second {video.start_time} on, and gens needs the end, too")
    return [float(video.start_time or 0), float(video.end_time)]


def _reached(function: object, seen: set[int]) -> Iterator[object]:
    """The functions and modules that a function names, and those that these name."""
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType) or id(function) in seen:
        return
    seen.add(id(function))
    names = set(_names(function.__code__))
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    for found in [*(function.__globals__[name] for name in names if name in function.__globals__), *cells]:
        if isinstance(found, ModuleType):
            yield found
            # np.random, and functions of modules that are imported whole
            for inner in (getattr(found, name, None) for name in names):
                if isinstance(inner, ModuleType):
                    yield inner
                elif inner is not None and getattr(inner, "__module__", "").startswith("lmms_eval"):
                    yield from _reached(inner, seen)
        elif _is_of_generator(found):
            yield random
        else:
            yield from _reached(found, seen)


def _is_of_generator(found: object) -> bool:
    """Whether something is a generator of random numbers, or a function of one."""
    homes = (getattr(found, "__module__", None) or "", type(getattr(found, "__self__", None)).__module__)
    return any(home == "random" or home.startswith("numpy.random") for home in homes)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)
