"""Two-stage VideoQA: a sampler says which moments matter, an answerer sees only those.

:class:`Session` asks questions from Python, and ``load_runs`` gives the rows of run folders as a table.
``FunctionSampler``, ``FunctionAnswerer`` and ``FunctionChoice`` make a sampler, an answerer and a policy of a function.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.answerers.function import FunctionAnswerer
    from pipeline.functions import TimedFrame
    from pipeline.reports.questions import load_runs
    from pipeline.samplers.function import FunctionSampler
    from pipeline.selection.function import FunctionChoice
    from pipeline.session import Session

__all__ = ["FunctionAnswerer", "FunctionChoice", "FunctionSampler", "Session", "TimedFrame", "load_runs"]
__version__ = "0.1.0"

_MODULES = {
    "FunctionAnswerer": "pipeline.answerers.function",
    "FunctionChoice": "pipeline.selection.function",
    "FunctionSampler": "pipeline.samplers.function",
    "Session": "pipeline.session",
    "TimedFrame": "pipeline.functions",
    "load_runs": "pipeline.reports.questions",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import pipeline`` stays quick."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
