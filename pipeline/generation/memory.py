"""What happens when a call of the model fails: its memory is freed, and what torch says of memory is our own error."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.errors import FramesError, OutOfMemoryError, PipelineError
from pipeline.families.known import is_of_the_device

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


def of_a_prompt(error: Exception) -> Exception:
    """An error that says something of one prompt, without the memory of the call that it ended.

    Raises:
        Exception: the error, if it says something of the device or the checkpoint.
    """
    if not isinstance(error, (OutOfMemoryError, FramesError)):
        if isinstance(error, PipelineError) or is_of_the_device(error):
            raise error
        _LOG.info("the model failed at a prompt", exc_info=True)
    return error.with_traceback(None)
