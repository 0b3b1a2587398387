"""Greedy answers of a batch through transformers' own ``generate``."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def generate_greedily(
    model: Any, tokenizer: Any, inputs: Mapping[str, torch.Tensor], max_new_tokens: int
) -> list[Generated]:
    """The most probable token, again and again, for each item of the batch.

    Of the checkpoint's generation settings only the end and padding tokens are used: its sampling values do not apply,
    and its repetition penalty would count the padding, which depends on who else is in the batch.

    Args:
        model: a loaded transformers model with ``generate``.
        tokenizer: its tokenizer.
        inputs: ``input_ids`` and ``attention_mask`` ``[B, L]``, padded on the left, and whatever else the model takes.
        max_new_tokens: a limit for each item.
    """
    device = model.get_input_embeddings().weight.device
    ends, pad = end_tokens(model, tokenizer), pad_token(model, tokenizer)
    with _only(model, ends, pad), torch.inference_mode():
        output = model.generate(
            **{name: tensor.to(device) for name, tensor in inputs.items()},
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
        )
        written = output[:, inputs["input_ids"].shape[1] :].tolist()
    return [_finished(row, ends, tokenizer) for row in written]


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """All tokens that end an answer: the checkpoint's, and its tokenizer's end of turn."""
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*listed, tokenizer.eos_token_id) if token is not None)


def pad_token(model: Any, tokenizer: Any) -> int:
    """The token to pad with."""
    for token in (tokenizer.pad_token_id, model.generation_config.pad_token_id, *end_tokens(model, tokenizer)):
        if isinstance(token, int):
            return token
    return 0


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


@contextmanager
def _only(model: Any, ends: frozenset[int], pad: int) -> Iterator[None]:
    """``generate`` fills whatever a call leaves open from the model's own settings, so these are put aside."""
    from transformers import GenerationConfig

    before = model.generation_config
    model.generation_config = GenerationConfig(eos_token_id=sorted(ends), pad_token_id=pad)
    try:
        yield
    finally:
        model.generation_config = before


def _finished(row: list[int], ends: frozenset[int], tokenizer: Any) -> Generated:
    length = next((place for place, token in enumerate(row) if token in ends), len(row))
    tokens = tuple(row[:length])
    return Generated(tokenizer.decode(tokens, skip_special_tokens=True), tokens, ended=length < len(row))


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
