"""Reports what a checkpoint's first use raises as a fault of the checkpoint.

A config that contradicts the weights or the other files often loads without an error: nothing in the weights depends on
the number of heads, on the layer whose features are taken, or on the size of a window. The first prompt then fails
somewhere inside of transformers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.errors import CheckpointError
from pipeline.families.known import override

_LOG = logging.getLogger(__name__)
_FAULTS = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError),
    NotImplementedError,
)


@dataclass
class FirstUse:
    """Watches the uses of one checkpoint until each kind of them has succeeded once."""

    source: str
    """Hub id or folder of the checkpoint."""
    _proven: set[str] = field(default_factory=set)

    @contextmanager
    def watched(self, use: str) -> Iterator[None]:
        """Turn an error of the first such use into one that names the checkpoint; later ones stay what they are.

        Args:
            use: what is done, as a noun: ``prompt``.

        Raises:
            CheckpointError: the first use failed.
        """
        try:
            yield
        except _FAULTS as error:
            if use in self._proven or _is_of_the_device(error):
                raise
            _LOG.info("the first %s of %s failed", use, self.source, exc_info=True)
            raise CheckpointError(
                f"{self.source} cannot be used: its first {use} fails with {type(error).__name__}: {error}.",
                f"Its configuration files do not go with its weights, or with each other. Fetch them again, or name "
                f"another checkpoint: {override('source')}. Where the error was raised stands in gens.log.",
            ) from error
        self._proven.add(use)


def _is_of_the_device(error: BaseException) -> bool:
    """A GPU that fails says nothing of the checkpoint."""
    import torch

    return isinstance(error, getattr(torch, "AcceleratorError", ())) or "CUDA error" in str(error)
