"""Where messages go while a command runs: those of libraries to ``gens.log`` alone, ours to the terminal too.

Hydra gives the root logger two handlers before it runs a command: one for the console and one for the log file, or none
for a command without a run folder.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator

from pipeline.secrecy import without_secrets

_LIBRARIES = ("accelerate", "huggingface_hub", "ray", "torch", "transformers")
"""Those that give their own logger a handler when they are imported."""


class _RootedLogger(logging.Logger):
    """The logger of a library that takes no handlers: its messages go to those of the root."""

    def addHandler(self, hdlr: logging.Handler) -> None:
        """Does nothing."""

    @property
    def propagate(self) -> bool:
        """Always true."""
        return True

    @propagate.setter
    def propagate(self, value: bool) -> None:
        pass


class _OneLine(logging.Formatter):
    """The message without secrets; the traceback is in the log file."""

    def format(self, record: logging.LogRecord) -> str:
        """Without the traceback."""
        return without_secrets(record.getMessage())


class _WithoutSecrets(logging.Formatter):
    """What another formatter makes of a record, tracebacks included, without secrets."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """As the other one does it."""
        return without_secrets(self._inner.format(record))


def route() -> None:
    """Send all messages and warnings to the root logger, and only those of this package on to standard error.

    To be called when Hydra has set up the root logger, and before a library is imported where that can be.
    """
    root = logging.getLogger()
    consoles = [handler for handler in root.handlers if _is_console(handler)]
    for handler in consoles:
        root.removeHandler(handler)
    for handler in _handlers():
        if not isinstance(handler.formatter, _WithoutSecrets):
            handler.setFormatter(_WithoutSecrets(handler.formatter or logging.Formatter()))
    root.addHandler(_our_console())
    logging.captureWarnings(True)
    for logger in _library_loggers(_LIBRARIES):
        for handler in [handler for handler in logger.handlers if _is_console(handler)]:
            logger.removeHandler(handler)
        logger.propagate = True


def _is_console(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)


def _handlers() -> Iterator[logging.Handler]:
    """The handlers of all loggers: a configuration may give any of them a file of its own."""
    for logger in (logging.getLogger(), *logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield from logger.handlers


def _our_console() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_OneLine())
    handler.addFilter(logging.Filter("pipeline"))
    return handler


def _library_loggers(names: Iterable[str]) -> list[logging.Logger]:
    """The libraries' loggers, those of libraries that are not imported yet among them."""
    stock = logging.getLoggerClass()
    logging.setLoggerClass(_RootedLogger)
    try:
        return [logging.getLogger(name) for name in names]
    finally:
        logging.setLoggerClass(stock)
