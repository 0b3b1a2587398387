"""Calls of users' own functions, which the adapters of the rooms make a sampler, an answerer or a policy of."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.config import nearest
from pipeline.domain import Frame, Status
from pipeline.errors import CheckpointError, ConfigError, FunctionError, PipelineError

_LOG = logging.getLogger(__name__)
MODEL = "model"
"""Name of the argument by which a function is given what ``load`` returned."""


class TimedFrame(NamedTuple):
    """A frame as a function is given it: ``for time, pixels in frames``."""

    time: float
    """Its timestamp in seconds."""
    pixels: npt.NDArray[np.uint8]
    """RGB, ``[height, width, 3]``, read-only: other questions are given the same array."""


def timed(frame: Frame) -> TimedFrame:
    """The frame as a function is given it."""
    pixels = frame.pixels.view()
    pixels.flags.writeable = False
    return TimedFrame(frame.time, pixels)


@dataclass(frozen=True)
class _Arguments:
    """What a function takes by name."""

    needed: Mapping[str, bool]
    """By argument: whether it has no default."""
    takes_any: bool
    """Whether it takes other names too: ``**settings``."""

    def __contains__(self, name: str) -> bool:
        return self.takes_any or name in self.needed

    @classmethod
    def of(cls, function: Callable[..., Any], given: int) -> _Arguments:
        """The arguments after the first ``given``."""
        parameters = list(inspect.signature(function).parameters.values())
        by_name = [
            each
            for place, each in enumerate(parameters)
            if each.kind is each.KEYWORD_ONLY or (each.kind is each.POSITIONAL_OR_KEYWORD and place >= given)
        ]
        needed = {each.name: each.default is each.empty for each in by_name}
        return cls(needed, any(each.kind is each.VAR_KEYWORD for each in parameters))


class UserFunction:
    """A function with its settings and its model, which is loaded at the first call.

    Each setting goes to whichever of ``function`` and ``load`` has an argument of its name.

    Args:
        key: of the part in the configuration, for messages: ``sampler``.
        function: called with what the adapter gives it, by position.
        settings: keyword arguments.
        load: called once; the function is given the result as ``model``.
        given: names for the arguments that the adapter gives, for messages.

    Raises:
        ConfigError: the function does not take these arguments.
    """

    def __init__(
        self,
        key: str,
        function: Callable[..., Any],
        settings: Mapping[str, Any],
        load: Callable[..., Any] | None,
        given: tuple[str, ...],
    ) -> None:
        self.name = name_of(function)
        self._key = key
        self._function = function
        self._load = load
        self._loading = Lock()
        self._loaded: dict[str, Any] = {}
        self._check_given(given)
        arguments = {self.name: _Arguments.of(function, len(given))}
        if load is not None:
            self._check_model(load, arguments[self.name])
            arguments[name_of(load)] = _Arguments.of(load, 0)
        self._check_settings(settings, arguments)
        self._settings = {name: value for name, value in settings.items() if name in arguments[self.name]}
        self._of_load = {
            name: value for name, value in settings.items() if load is not None and name in arguments[name_of(load)]
        }

    def __call__(self, *given: Any) -> Any:
        """The function's result.

        Raises:
            FunctionError: it raised an exception.
            CheckpointError: its model cannot be loaded.
        """
        model = self._model()
        try:
            return self._function(*given, **self._settings, **model)
        except PipelineError:
            raise
        except (Exception, SystemExit) as error:  # sys.exit() in somebody's library ends no run of ours
            status = Status.OUT_OF_MEMORY if is_out_of_memory(error) else Status.INVALID_OUTPUT
            _LOG.info("%s failed", self.name, exc_info=True)
            raise FunctionError(
                f"{self._key}: {self.name} raised {told(error)}",
                "give it smaller or fewer frames, or correct it; then run the same command again"
                if status is Status.OUT_OF_MEMORY
                else "correct it, then run the same command again; the traceback is in gens.log",
                status,
            ) from error

    def wrong(self, returned: Any, wanted: str) -> FunctionError:
        """The error for a result that the adapter cannot use."""
        shown = _in_one_line(repr(returned), 60)
        return FunctionError(
            f"{self._key}: {self.name} returned {shown} ({type(returned).__name__}) instead of {wanted}",
            "correct it, then run the same command again",
        )

    def close(self) -> None:
        """Let the model go, by its own ``close()`` if it has one. The next call loads it again."""
        model = self._loaded.pop(MODEL, None)
        if callable(getattr(model, "close", None)):
            model.close()

    def _model(self) -> Mapping[str, Any]:
        if self._load is None:
            return {}
        with self._loading:
            if MODEL not in self._loaded:
                try:
                    self._loaded[MODEL] = self._load(**self._of_load)
                except PipelineError:
                    raise
                except (Exception, SystemExit) as error:
                    _LOG.info("%s failed", name_of(self._load), exc_info=True)
                    raise CheckpointError(
                        f"{self._key}: {name_of(self._load)} raised {told(error)}",
                        "correct it, then run the same command again; the traceback is in gens.log",
                    ) from error
            return self._loaded

    def _check_given(self, given: tuple[str, ...]) -> None:
        try:
            inspect.signature(self._function).bind_partial(*given)
        except TypeError as error:
            raise ConfigError(
                f"{self._key}: {self.name} does not take {' and '.join(given)}: {error}",
                f"let its arguments begin with these: def {self._function.__name__}({', '.join(given)})",
            ) from error

    def _check_model(self, load: Callable[..., Any], arguments: _Arguments) -> None:
        if MODEL not in arguments:
            raise ConfigError(
                f"{self._key}: {self.name} has no argument {MODEL}, by which it is given what {name_of(load)} returns",
                f"add it: def {self._function.__name__}(..., {MODEL})",
            )

    def _check_settings(self, settings: Mapping[str, Any], arguments: Mapping[str, _Arguments]) -> None:
        place = f"{self._key}.settings"
        known = [name for each in arguments.values() for name in each.needed if name != MODEL or self._load is None]
        for name in settings:
            if not any(name in each for each in arguments.values()) or (name == MODEL and self._load is not None):
                raise ConfigError(
                    f"{place}.{name} is not an argument of {' or '.join(arguments)}.{nearest(name, known)}",
                    f"valid under {place}: {', '.join(known) or 'nothing'}",
                )
        for function, taken in arguments.items():
            for name, is_needed in taken.needed.items():
                if is_needed and name in known and name not in settings:
                    raise ConfigError(
                        f"{place}.{name} is missing: {function} has no default for it",
                        f"add it to the YAML, or on the command line: +{place}.{name}=...",
                    )


def name_of(function: Callable[..., Any]) -> str:
    """Such as ``my_package.contrast.score``."""
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"


def told(error: BaseException) -> str:
    """The exception with its message in one line, and where it was raised."""
    message = _in_one_line(str(error), 400)
    raised = f"{type(error).__name__}: {message}" if message else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    return f"{raised} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else raised


def _in_one_line(text: str, most: int) -> str:
    line = " ".join(text.split())
    return f"{line[:most]}..." if len(line) > most else line


def is_out_of_memory(error: BaseException) -> bool:
    """Python's own error, and that of torch, without importing torch."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
