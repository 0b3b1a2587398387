"""Where messages go while a command runs: those of libraries to ``gens.log`` alone, ours to the terminal too.

Hydra gives the root logger two handlers before it runs a command: one for the console and one for the log file, or none
for a command without a run folder.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

_LIBRARIES = ("accelerate", "huggingface_hub", "torch", "transformers")
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
    """The message alone; what belongs to a fault stands in the log file."""

    def format(self, record: logging.LogRecord) -> str:
        """Without the traceback."""
        return record.getMessage()


def route() -> None:
    """Send all messages and warnings to the root logger, and only those of this package on to standard error.

    To be called when Hydra has set up the root logger, and before a library is imported where that can be.
    """
    root = logging.getLogger()
    consoles = [handler for handler in root.handlers if _is_console(handler)]
    for handler in consoles:
        root.removeHandler(handler)
    root.addHandler(_our_console())
    logging.captureWarnings(True)
    for logger in _library_loggers(_LIBRARIES):
        for handler in [handler for handler in logger.handlers if _is_console(handler)]:
            logger.removeHandler(handler)
        logger.propagate = True


def _is_console(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)


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
