"""Checkpoints, and the models that are loaded from them. Whoever comes here can import torchvision afterwards.

PyPI has one torchvision for each torch, built for CUDA. Its compiled operators do not load beside a torch without CUDA,
and its import then ends with "operator torchvision::nms does not exist" (pytorch/vision issues 9077 and 9085), although
none of the resizing that processors use needs them. Declaring the operators' schemas first is enough for the import.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

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
            _declare_operators()
        return None


def _prepare_torchvision() -> None:
    """Prepare the import of torchvision by any module. Imports nothing itself."""
    if not any(isinstance(finder, _BeforeTorchvision) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BeforeTorchvision())


def _declare_operators() -> None:
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


_prepare_torchvision()
