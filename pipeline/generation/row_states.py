"""What rows of a running batch add to their prefixes, in buffers that stay where they are.

A captured graph writes to the addresses that it was captured with. So the keys and values of all rows are parts of a
few tensors of constant size, each step writes at each row's own column, and only growing moves them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache

from pipeline.generation.prefix_attention import PrefixStates

_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
"""Sizes of batches, and then multiples of these by powers of 2."""
_COLUMNS = 128


def rows_bucket(rows: int) -> int:
    """The smallest size of a batch with room for so many rows."""
    scale = 1
    while rows > _ROWS[-1] * scale:
        scale *= 2
    return next(size * scale for size in _ROWS if size * scale >= rows)


def columns_bucket(tokens: int) -> int:
    """The smallest length of a row with room for so many tokens."""
    size = _COLUMNS
    while size < tokens:
        size *= 2
    return size


def sent(numbers: Sequence[Any], device: torch.device) -> torch.Tensor:
    """Integers as a tensor on a device. The host goes on at once: CUDA copies them aside before the call returns."""
    return torch.tensor(numbers).to(device, non_blocking=True)


class RowStates:
    """Keys and values of ``rows`` rows with up to ``columns`` tokens each.

    Args:
        like: a prefix that the model has read, for the shapes of its layers.
        rows: capacity.
        columns: capacity.
    """

    def __init__(self, like: PrefixStates, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        kinds: dict[Any, list[tuple[int, int]]] = defaultdict(list)
        for layer, pair in enumerate(zip(like.keys, like.values, strict=True)):
            for half, tensor in enumerate(pair):
                kinds[tensor.shape[0], tensor.shape[2], tensor.dtype, tensor.device].append((layer, half))
        found: dict[tuple[int, int], torch.Tensor] = {}
        self._all = []
        for (heads, size, dtype, device), places in kinds.items():
            # Zeros, because a weight of 0 does not undo a NaN in a column that was never written.
            whole = torch.zeros(len(places), rows, heads, columns, size, dtype=dtype, device=device)
            found |= dict(zip(places, whole.unbind(), strict=True))
            self._all.append(whole)
        self.layers = [(found[layer, 0], found[layer, 1]) for layer in range(len(like.keys))]

    def clear(self) -> None:
        """Forget all tokens, so that later rows cannot tell these buffers from new ones."""
        for whole in self._all:
            whole.zero_()

    def copied_from(self, other: RowStates) -> None:
        """Take over the first rows and columns, as many as there is room for."""
        rows, columns = min(self.rows, other.rows), min(self.columns, other.columns)
        for mine, theirs in zip(self._all, other._all, strict=True):
            mine[:, :rows, :, :columns] = theirs[:, :rows, :, :columns]

    def move(self, sources: Sequence[int], targets: Sequence[int], tokens: int) -> None:
        """Copy rows of at most so many tokens to the places of others; what comes after these tokens no row sees."""
        for whole in self._all:
            used = whole[:, :, :, :tokens]
            for source, target in zip(sources, targets, strict=True):
                used[:, target] = used[:, source]


class SuffixCache(Cache):  # type: ignore[misc]
    """For reading suffixes: several tokens of rows that follow each other, from column ``first`` on."""

    def __init__(self, states: RowStates, start: int, end: int, first: int) -> None:
        super().__init__(layers=[])
        self._states, self._start, self._end, self._first = states, start, end, first
        self._read = 0

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Write after what was read before, and give all of these rows' tokens."""
        last = self._first + key_states.shape[2]
        parts = [whole[self._start : self._end, :, :last] for whole in self._states.layers[layer_idx]]
        for part, new in zip(parts, (key_states, value_states), strict=True):
            part[:, :, self._first :] = new
        self._read = key_states.shape[2]
        return tuple(parts)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens that were read."""
        return self._first + self._read


class StepCache(Cache):  # type: ignore[misc]
    """For one step: one token of each of the rows from ``start`` to ``end``, at each row's own column.

    Args:
        states: the buffers.
        start: the first row.
        end: after the last.
        columns: where each of these rows goes on, ``[rows]`` on the device.
        longest: no row has more tokens with the new one.
    """

    def __init__(self, states: RowStates, start: int, end: int, columns: torch.Tensor, longest: int) -> None:
        super().__init__(layers=[])
        self._states, self._start, self._end, self._longest = states, start, end, longest
        self._places = {columns.device: (torch.arange(start, end, device=columns.device), columns)}
        self._read = 0

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Write the new token of each row, and give all of the rows' buffers up to the longest."""
        parts = []
        for whole, new in zip(self._states.layers[layer_idx], (key_states, value_states), strict=True):
            rows, columns = self._placed(whole.device)
            whole[rows, :, columns] = new[:, :, 0]
            parts.append(whole[self._start : self._end, :, : self._longest])
        self._read = 1
        return tuple(parts)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens that were read with this cache; each row's own number is known to its row alone."""
        return self._read

    def _placed(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        if device not in self._places:
            rows, columns = next(iter(self._places.values()))
            self._places[device] = (rows.to(device), columns.to(device))
        return self._places[device]
