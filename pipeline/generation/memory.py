"""What happens when memory runs out: torch's errors as our own, and batches in halves."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

from pipeline.errors import OutOfMemoryError

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOG = logging.getLogger(__name__)


@contextmanager
def mapped_out_of_memory() -> Iterator[None]:
    """Turn torch's out-of-memory errors into our own, after the memory of the failed call is freed.

    Raises:
        OutOfMemoryError: torch found no memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not _is_out_of_memory(error):
            raise
        reason, _, _ = str(error).partition("\n")  # Python's own MemoryError gives none
        problem = f"The model call does not fit the device's memory. {reason}".strip()
    else:
        return
    free_failed_call()
    raise OutOfMemoryError(problem, "Give the model fewer or smaller frames, or fewer requests at once.")


def free_failed_call() -> None:
    """Give back the memory of a call that did not fit.

    Its frames hold tensors in reference cycles, and the exception holds the frames: call this again before another
    attempt, once the exception is handled.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _is_out_of_memory(error: BaseException) -> bool:
    words = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        sign in words for sign in ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    )


class Halving(Generic[Item, Result]):
    """Runs batches; one that does not fit the memory is run in halves, down to single items.

    A size that did not fit is not tried again.

    Args:
        run: one result an item, or raises :class:`OutOfMemoryError`; results must not depend on who is in the batch.
    """

    def __init__(self, run: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        self._run = run
        self._most: int | None = None

    def __call__(self, items: Sequence[Item]) -> list[Result | OutOfMemoryError]:
        """Each item's result, in order, or the error if the item does not fit by itself."""
        found: list[Result | OutOfMemoryError] = []
        while left := items[len(found) :]:
            found += self._tried(left[: self._most])
        return found

    def _tried(self, items: Sequence[Item]) -> list[Result | OutOfMemoryError]:
        """The results of a batch, or of its first half."""
        try:
            return list(self._run(items))
        except OutOfMemoryError as error:
            if len(items) == 1:
                return [error]
        free_failed_call()
        self._most = len(items) // 2
        _LOG.warning(
            "%d requests at once do not fit the memory; going on with %d. execution.answer_batch=%d saves the attempt.",
            len(items),
            self._most,
            self._most,
        )
        return self._tried(items[: self._most])
