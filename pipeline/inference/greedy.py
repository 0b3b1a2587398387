"""What a model wrote, where it ends, and what happens when memory runs out."""

from __future__ import annotations

import gc
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from pipeline.errors import OutOfMemoryError

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generated:
    """What a model wrote for one item of a batch."""

    text: str
    tokens: tuple[int, ...]
    """New tokens, without the one that ended them."""
    ended: bool
    """Whether the model ended by itself; otherwise the limit cut it."""


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """All tokens that end an answer: the checkpoint's, and its tokenizer's end of turn."""
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*listed, tokenizer.eos_token_id) if token is not None)


@contextmanager
def mapped_out_of_memory() -> Iterator[None]:
    """Turn any of torch's ways to say so into our own error, once what it held is free again.

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
        traceback.clear_frames(error.__traceback__)  # they hold the tensors of the failed call
    else:
        return
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise OutOfMemoryError(problem, "Give the model fewer or smaller frames, or fewer requests at once.")


def _is_out_of_memory(error: BaseException) -> bool:
    words = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        sign in words for sign in ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    )


def halving(
    run: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
) -> list[Result | OutOfMemoryError]:
    """Run a batch; where it does not fit, its halves, down to single items.

    Args:
        run: one result an item, or :class:`OutOfMemoryError`; results must not depend on who is in the batch.
        items: the batch.

    Returns:
        In order, each item's result, or the error if even alone it does not fit.
    """
    if not items:
        return []
    try:
        return list(run(items))
    except OutOfMemoryError as error:
        if len(items) == 1:
            return [error]
    middle = len(items) // 2
    _LOG.warning(
        "%d requests at once do not fit the memory; going on with %d. execution.answer_batch=%d saves the attempt.",
        len(items),
        middle,
        middle,
    )
    return halving(run, items[:middle]) + halving(run, items[middle:])
