"""A user's function that chooses among scored frames."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from pipeline.functions import UserFunction
from pipeline.identity import Identified
from pipeline.selection.choice import Curve


@dataclass(frozen=True)
class FunctionChoice(Identified):
    """Takes the positions that a function returns. It sees only the frames that may be taken for their scores."""

    kind: ClassVar[str] = "function"
    needs_embeddings: ClassVar[bool] = False

    function: Callable[..., Any]
    """``function(times, scores, count, **settings)``: seconds and scores of the frames, in order of time, as float64
    arrays; returns at most ``count`` positions in them, each once, in any order. It is called where there are more
    than ``count`` frames; the best remaining scores follow where it returns fewer positions."""
    settings: Mapping[str, Any]
    """Keyword arguments."""

    def __post_init__(self) -> None:
        _ = self._call  # a function that does not take its settings is known now

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """The function's choice, as positions of all candidates, ascending.

        Raises:
            FunctionError: it raised an exception, or returned something else than such positions.
        """
        named = curve.named_positions
        given = self._call(curve.times[named], curve.scores[named], count)
        wanted = f"at most {count} different positions from 0 to {len(named) - 1}"
        try:
            positions = [operator.index(each) for each in (given.tolist() if hasattr(given, "tolist") else given)]
        except TypeError as error:
            raise self._call.wrong(given, wanted) from error
        if len(positions) > count or len({*positions}) < len(positions) or not {*positions} <= {*range(len(named))}:
            raise self._call.wrong(given, wanted)
        return sorted(int(named[position]) for position in positions)

    @cached_property
    def _call(self) -> UserFunction:
        return UserFunction("selection.choice", self.function, self.settings, None, ("times", "scores", "count"))
