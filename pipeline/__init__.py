"""Two-stage VideoQA: a sampler says which moments matter, an answerer sees only those.

``FunctionSampler``, ``FunctionAnswerer`` and ``FunctionChoice`` make a sampler, an answerer and a policy of a function.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.answerers.function import FunctionAnswerer
    from pipeline.functions import TimedFrame
    from pipeline.samplers.function import FunctionSampler
    from pipeline.selection.function import FunctionChoice

__all__ = ["FunctionAnswerer", "FunctionChoice", "FunctionSampler", "TimedFrame"]
__version__ = "0.1.0"

_MODULES = {
    "FunctionAnswerer": "pipeline.answerers.function",
    "FunctionChoice": "pipeline.selection.function",
    "FunctionSampler": "pipeline.samplers.function",
    "TimedFrame": "pipeline.functions",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import pipeline`` stays quick."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
