"""How a model reads tokens after those in a cache, under whichever name the installed transformers takes the cache.

Many ``forward`` methods of transformers take ``**kwargs`` and ignore names that they do not know. A keyword that was
renamed is then not an error: the model computes something else. So names are looked up here, and the effect is checked.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline.errors import IncompatibleLibraryError

if TYPE_CHECKING:
    import torch
    from transformers import Cache

_CACHE_KEYWORDS = ("cache", "past_key_values")
"""The first since transformers 5.24; the second until then, removed in 5.40."""


class AllKept(Exception):
    """Raised by a cache whose last layer has its keys and values, where nobody wants what the module makes of them."""


def read_with_cache(module: torch.nn.Module, cache: Cache, **inputs: Any) -> Any:
    """Call a transformers model on the tokens after those in ``cache``, and add them to it.

    Args:
        module: a model, or its text decoder.
        cache: what the module has read so far; empty at the beginning of a prompt.
        inputs: arguments of its ``forward``, ``input_ids`` or ``inputs_embeds`` among them (``[batch, tokens, ...]``).

    Returns:
        What the module returns; None if the cache ended the call with :class:`AllKept`.

    Raises:
        IncompatibleLibraryError: the installed transformers takes no cache under a known name, or ignored it.
    """
    known = cache.get_seq_length()
    try:
        output = module(**inputs, **{cache_keyword(type(module).forward): cache}, use_cache=True)
    except AllKept:
        output = None
    tokens = (inputs["inputs_embeds"] if "inputs_embeds" in inputs else inputs["input_ids"]).shape[1]
    kept = cache.get_seq_length() - known
    if kept != tokens:
        raise _incompatible(f"{type(module).__name__} read {tokens} tokens and kept {kept} of them in its cache")
    return output


@lru_cache(maxsize=64)
def cache_keyword(forward: Callable[..., Any]) -> str:
    """Under which name ``forward`` takes the keys and values of earlier tokens."""
    parameters = inspect.signature(forward).parameters
    for name in _CACHE_KEYWORDS:
        if name in parameters:
            return name
    raise _incompatible(f"{forward.__qualname__} has no parameter named {' or '.join(_CACHE_KEYWORDS)}")


def _incompatible(problem: str) -> IncompatibleLibraryError:
    import transformers

    return IncompatibleLibraryError(
        f"transformers {transformers.__version__} does not work as expected: {problem}.",
        "Install a version that works: pip install 'transformers==5.24.*'.",
    )
