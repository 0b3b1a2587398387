"""The memory of a running batch's rows and the graphs of its steps, which stay with the model from batch to batch.

A graph is captured for the addresses of these buffers, and capturing takes as long as tens of steps. So the next batch
of a model takes over what the last one had, and a run captures a graph for each size of batch once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.errors import OutOfMemoryError
from pipeline.generation.memory import free_failed_call, mapped_out_of_memory
from pipeline.generation.prefix_attention import PrefixStates
from pipeline.generation.row_states import RowStates
from pipeline.generation.row_step import RowInputs, RowStep, capture_obstacle, report_uncaptured

Result = TypeVar("Result")


@dataclass(frozen=True)
class RowBuffers:
    """The buffers of one capacity."""

    states: RowStates
    inputs: RowInputs
    step: RowStep

    @property
    def capacity(self) -> tuple[int, int]:
        """Rows, and tokens of each."""
        return self.states.rows, self.states.columns


class KeptBuffers:
    """The buffers of a model's running batches while no batch uses them.

    Args:
        model: that the batches are of.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._free: RowBuffers | None = None
        self._captures: bool | None = None

    @property
    def capacity(self) -> tuple[int, int]:
        """The capacity of what the next batch would take; zeros if there is nothing."""
        return self._free.capacity if self._free is not None else (0, 0)

    def take(self) -> RowBuffers | None:
        """What the last batch gave back, if it is still there. It is then the caller's alone."""
        taken, self._free = self._free, None
        return taken

    def give_back(self, buffers: RowBuffers) -> None:
        """Keep the buffers of a batch that has no rows."""
        buffers.states.clear()
        buffers.inputs.clear(0, buffers.states.rows)
        self._free = buffers

    def release(self) -> bool:
        """Free the memory of what is kept; whether there was anything."""
        return self.take() is not None

    def with_room(self, call: Callable[[], Result]) -> Result:
        """What a call of the model returns. One that does not fit beside what is kept is made again without that.

        Raises:
            OutOfMemoryError: it does not fit.
        """
        try:
            with mapped_out_of_memory():
                return call()
        except OutOfMemoryError:
            if not self.release():
                raise
        free_failed_call()
        with mapped_out_of_memory():
            return call()

    def made(
        self,
        like: PrefixStates,
        capacity: tuple[int, int],
        old: RowBuffers | None,
        prefixes: Mapping[int, PrefixStates],
    ) -> RowBuffers:
        """New buffers.

        Args:
            like: a prefix that the model has read, for the shapes of its layers.
            capacity: rows, and tokens of each.
            old: smaller ones, of which the rows are taken over.
            prefixes: that these rows begin with, by slot.
        """
        if self._captures is None:
            obstacle = capture_obstacle(self._model, like)
            if obstacle is not None:
                report_uncaptured(self._model, obstacle)
            self._captures = obstacle is None
        states = RowStates(like, *capacity)
        inputs = RowInputs(capacity[0], self._model.get_input_embeddings().weight.device)
        if old is not None:
            states.copied_from(old.states)
            inputs.copied_from(old.inputs)
        step = RowStep(self._model, states, inputs, capture=self._captures)
        for slot, prefix in prefixes.items():
            step.put(slot, prefix)
        return RowBuffers(states, inputs, step)
