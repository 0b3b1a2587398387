"""What changes in the libraries under the models: names in transformers, and how torchvision is imported.

Many ``forward`` methods of transformers take ``**kwargs`` and ignore names that they do not know. A keyword that was
renamed is then not an error: the model computes something else. So names are looked up here, and the effect is checked.

PyPI has one torchvision for each torch, built for CUDA. Its compiled operators do not load beside a torch without CUDA,
and its import then ends with "operator torchvision::nms does not exist" (pytorch/vision issues 9077 and 9085), although
none of the resizing that processors use needs them. Declaring the operators' schemas first is enough for the import.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
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


_BOXES = "Tensor dets, Tensor scores, float iou_threshold"
_SCHEMAS = (f"nms({_BOXES}) -> Tensor", f"qnms({_BOXES}) -> Tensor")
_declared: list[Any] = []
"""The library object: its schemas are removed when it is collected."""


class _BeforeTorchvision(MetaPathFinder):
    """Declares the schemas when the package itself is about to be imported; finds no module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision" and not _declared:
            declare_operators()
        return None


def prepare_torchvision() -> None:
    """Have torchvision's import prepared, whoever imports it. Imports nothing itself."""
    if not any(isinstance(finder, _BeforeTorchvision) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BeforeTorchvision())


def declare_operators() -> None:
    """Declare the schemas, unless torch has CUDA or the installed build is one for the CPU."""
    import torch

    # With operators that load, a second declaration would clash.
    if torch.version.cuda is None and _is_built_for_cuda():
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)
        _declared.append(library)


def _is_built_for_cuda() -> bool:
    try:
        file = importlib.metadata.distribution("torchvision").locate_file("torchvision/version.py")
        return "+cu" in Path(str(file)).read_text(encoding="utf-8")
    except (importlib.metadata.PackageNotFoundError, OSError):
        return False
