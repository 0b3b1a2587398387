"""A batch that rows enter and leave while it runs.

A row is one suffix on one prefix: a question about a window of frames that the model has read. A step costs a GPU
nearly the same for one row as for thirty, so rows of all prefixes go on together, whatever their lengths; each enters
when its prefix is there and leaves when it is finished. Its tokens are those of a greedy ``generate`` on its whole
prompt, whoever else is in the batch.

For any transformers model with a text decoder of plain attention layers. Not thread-safe: while it runs, the model's
attention is exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from pipeline.errors import OutOfMemoryError
from pipeline.generation.cached_reading import read_with_cache
from pipeline.generation.memory import free_failed_call, mapped_out_of_memory
from pipeline.generation.prefix_attention import Prefixes, PrefixStates
from pipeline.generation.row_buffers import KeptBuffers, RowBuffers
from pipeline.generation.row_states import SuffixCache, columns_bucket, rows_bucket, sent
from pipeline.generation.row_step import attention_over_prefix
from pipeline.generation.shared_prefix import Prefix

Key = TypeVar("Key", bound=Hashable)

IsComplete = Callable[[Sequence[int]], bool]
"""Whether tokens written so far are all that is wanted, though the model did not end."""

_TOKENS_AT_ONCE = 512
"""The most tokens a row of long suffixes that are read in one call, since their scores against the prefix are held."""
_NEW_AT_FIRST = 256
"""Columns for so many new tokens are there from the beginning, so that buffers rarely grow; few answers are longer."""


@dataclass(frozen=True)
class Continuation:
    """What greedy decoding appended to one prompt."""

    tokens: tuple[int, ...]
    """Without the token that ended it."""
    ended: bool
    """It ended by itself; false if the token limit cut it."""


@dataclass
class _Row(Generic[Key]):
    key: Key
    prefix: Prefix
    slot: int
    length: int
    """Own tokens that were read."""
    written: list[int] = field(default_factory=list)
    is_examined: bool = False
    """Whether the last token that it wrote is among these."""


class RunningBatch(Generic[Key]):
    """Rows that are written together.

    Args:
        model: the one that read the prefixes.
        end_tokens: each ends a row.
        is_complete: asked after every other token, with the tokens of one row.
        max_new_tokens: of a row, above 0.
        kept: the model's buffers, which are used while there are rows; by default some of its own.
    """

    def __init__(
        self,
        model: Any,
        *,
        end_tokens: frozenset[int],
        is_complete: IsComplete,
        max_new_tokens: int,
        kept: KeptBuffers | None = None,
    ) -> None:
        self._model = model
        self._kept = kept or KeptBuffers(model)
        self._ends = end_tokens
        self._is_complete = is_complete
        self._most = max_new_tokens
        self._rows: list[_Row[Key]] = []  # in the order of the buffers
        self._prefixes: dict[int, Prefix] = {}  # by slot
        self._finished: list[tuple[Key, Continuation]] = []
        self._own: RowBuffers | None = None
        self._at_once: int | None = None

    def __len__(self) -> int:
        """Rows that are not finished, and those that no step has given yet."""
        return len(self._rows) + len(self._finished)

    def growth(self, count: int, tokens: int, token_bytes: int) -> int:
        """Bytes that buffers need for further rows, whose answers are of the usual length.

        Args:
            count: rows.
            tokens: of the longest.
            token_bytes: of the states of one token.
        """
        (rows, columns), (old_rows, old_columns) = self._capacity(count, tokens), self._has()
        if (rows, columns) == (old_rows, old_columns):
            return 0
        freed = 0 if self._rows else old_rows * old_columns  # rows move before the old buffers are freed
        return token_bytes * max(0, rows * columns - freed)

    @torch.inference_mode()
    def add(self, prefix: Prefix, suffixes: Mapping[Key, Sequence[int]]) -> None:
        """Read suffixes, all in one call; each is a row from then on.

        Args:
            prefix: that the model has read.
            suffixes: token ids of text after it; none is empty, and lengths may differ.

        Raises:
            OutOfMemoryError: they do not fit; nothing was changed.
        """
        try:
            with mapped_out_of_memory():
                self._make_room(prefix.states, len(suffixes), max(map(len, suffixes.values())))
                self._enter(prefix, suffixes, self._read(prefix, list(suffixes.values())).argmax(-1))
        finally:
            self._give_back()

    @torch.inference_mode()
    def step(self) -> list[tuple[Key, Continuation]]:
        """Look at the token that each row has written, and have those write on that are not finished.

        Returns:
            The finished rows, which have left.

        Raises:
            OutOfMemoryError: not even one row fits, and none is finished; nothing was changed.
        """
        is_moved = False
        if self._rows:
            fresh, tokens = self._fresh()
            # On a GPU the next step begins before anybody looks: it would wait for the host meanwhile. A row that turns
            # out to be finished has then taken part once more.
            is_ahead = self._goes_ahead and any(len(row.written) + 1 < self._most for row in self._rows)
            is_moved = is_ahead and self._advance()
            self._examine(fresh, tokens())
            is_moved = is_moved if is_ahead or not self._rows else self._advance()
        if self._rows and not is_moved and not self._finished:
            problem = "No row of the running batch fits the device's memory."
            raise OutOfMemoryError(problem, "End other work on the device.")
        self._give_back()
        return self.finished()

    def finished(self) -> list[tuple[Key, Continuation]]:
        """The rows that have left and were not given, which there are after an error alone."""
        finished, self._finished = self._finished, []
        return finished

    @torch.inference_mode()
    def logits(self, prefix: Prefix, suffix: Sequence[int], forced: Sequence[int]) -> torch.Tensor:
        """What decides each next token while given ones are written, before a model's own scaling.

        Args:
            prefix: that the model has read.
            suffix: token ids of text after it.
            forced: token ids; each takes a step.

        Returns:
            After the suffix and after each of the tokens, ``[1 + tokens, vocabulary]`` in float32.
        """
        (key,) = keys = range(1)
        self._make_room(prefix.states, 1, len(suffix) + len(forced))
        found = [self._read(prefix, [suffix])]
        self._enter(prefix, {key: suffix}, found[0].argmax(-1))  # type: ignore[dict-item]
        (row,) = self._rows
        for token in forced:
            self._buffers.inputs.ids[0] = token
            with attention_over_prefix(self._model):
                found.append(self._buffers.step.forward(0, [row.slot], row.length + 1))
            row.length += 1
        self._leave(keys)
        self._give_back()
        return torch.cat(found).float()

    @torch.inference_mode()
    def drop(self, keys: frozenset[Key]) -> None:
        """Let unfinished rows leave."""
        self._leave([place for place, row in enumerate(self._rows) if row.key in keys])
        self._give_back()

    # --- capacity ---

    @property
    def _buffers(self) -> RowBuffers:
        assert self._own is not None
        return self._own

    def _has(self) -> tuple[int, int]:
        return self._kept.capacity if self._own is None else self._own.capacity

    def _capacity(self, count: int, tokens: int) -> tuple[int, int]:
        rows, columns = self._needed(count, tokens)
        old_rows, old_columns = self._has()
        return max(rows, old_rows), max(columns, old_columns)

    def _needed(self, count: int, tokens: int) -> tuple[int, int]:
        longest = max([tokens + min(self._most, _NEW_AT_FIRST), *(1 + row.length for row in self._rows)])
        return rows_bucket(len(self._rows) + count), columns_bucket(longest)

    def _make_room(self, like: PrefixStates, count: int, tokens: int) -> None:
        if self._own is None:
            self._own = self._kept.take()
        self._resize(like, self._capacity(count, tokens), self._needed(count, tokens))

    def _resize(self, like: PrefixStates, capacity: tuple[int, int], needed: tuple[int, int]) -> None:
        """Have buffers of a capacity; where that does not fit, of what is needed, without what earlier rows needed."""
        try:
            with mapped_out_of_memory():
                self._replace(like, capacity)
        except OutOfMemoryError:
            if capacity == needed:
                raise
        else:
            return
        free_failed_call()
        with mapped_out_of_memory():
            self._replace(like, needed)

    def _replace(self, like: PrefixStates, capacity: tuple[int, int]) -> None:
        if self._own is not None and self._own.capacity == capacity:
            return
        if not self._rows:
            self._own = None  # freed before the new ones are made
        prefixes = {slot: prefix.states for slot, prefix in self._prefixes.items()}
        self._own = self._kept.made(like, capacity, self._own, prefixes)

    def _give_back(self) -> None:
        """Leave the buffers to the next batch as soon as there is no row."""
        if self._rows:
            return
        self._at_once = None  # what did not fit then may fit now
        if self._own is not None:
            self._own.step.clear(list(self._prefixes))  # of suffixes that could not be read
            self._prefixes.clear()
            self._kept.give_back(self._own)
            self._own = None

    # --- rows ---

    def _enter(self, prefix: Prefix, suffixes: Mapping[Key, Sequence[int]], following: torch.Tensor) -> None:
        inputs, slot = self._buffers.inputs, self._slot(prefix)
        lengths = sent([len(suffix) for suffix in suffixes.values()], inputs.ids.device)
        new = slice(len(self._rows), len(self._rows) + len(suffixes))
        inputs.ids[new] = following.to(inputs.ids.device)
        inputs.lengths[new] = lengths.int()
        inputs.positions[new] = lengths + prefix.next_position
        inputs.active[new] = 1
        self._rows += [_Row(key, prefix, slot, len(suffix)) for key, suffix in suffixes.items()]

    def _slot(self, prefix: Prefix) -> int:
        for slot, known in self._prefixes.items():
            if known is prefix:
                return slot
        slot = next(place for place in range(len(self._prefixes) + 1) if place not in self._prefixes)
        self._prefixes[slot] = prefix
        self._buffers.step.put(slot, prefix.states)
        return slot

    @property
    def _goes_ahead(self) -> bool:
        return self._buffers.inputs.ids.is_cuda

    def _fresh(self) -> tuple[list[int], Callable[[], list[int]]]:
        """The rows that have written since the last time, and what gives the last tokens of all."""
        fresh = [place for place, row in enumerate(self._rows) if not row.is_examined]
        for place in fresh:
            self._rows[place].is_examined = True
        return fresh, self._buffers.inputs.last_tokens(len(self._rows))

    def _examine(self, fresh: Sequence[int], tokens: Sequence[int]) -> None:
        """Look at the tokens that rows have written; those that are finished leave."""
        leaving = []
        for place in fresh:
            row, token = self._rows[place], tokens[place]
            is_end = token in self._ends
            if not is_end:
                row.written.append(token)
            ended = is_end or self._is_complete(row.written)
            if ended or len(row.written) == self._most:
                self._finished.append((row.key, Continuation(tuple(row.written), ended)))
                leaving.append(place)
        self._leave(leaving)

    def _leave(self, places: Sequence[int]) -> None:
        """Rows from the end take the places of those that leave, so that there is no gap."""
        if not places:
            return
        gone, before = set(places), len(self._rows)
        left = before - len(gone)
        holes = [place for place in sorted(gone) if place < left]
        movers = [place for place in range(left, before) if place not in gone]
        if movers:
            self._buffers.states.move(movers, holes, max(self._rows[place].length for place in movers))
            self._buffers.inputs.move(movers, holes)
            for source, target in zip(movers, holes, strict=True):
                self._rows[target] = self._rows[source]
        del self._rows[left:]
        self._buffers.inputs.clear(left, before)
        needed = {row.slot for row in self._rows}
        gone = {slot for slot in self._prefixes if slot not in needed}
        for slot in gone:
            del self._prefixes[slot]
        if gone:
            self._buffers.step.clear(sorted(gone))

    # --- the model ---

    def _advance(self) -> bool:
        """Have every row write on, in parts where memory is short; whether any row did."""
        place, moved = 0, False
        while place < len(self._rows):
            part = self._rows[place : place + (self._at_once or len(self._rows))]
            if self._run(place, part):
                moved = True
            elif len(part) > 1:
                self._at_once = len(part) // 2
                continue
            place += len(part)
        return moved

    def _run(self, start: int, part: Sequence[_Row[Key]]) -> bool:
        try:
            longest = 1 + max(row.length for row in part)
            rows, columns = self._buffers.capacity
            if longest > columns:
                columns = columns_bucket(longest)
                self._resize(part[0].prefix.states, (rows, columns), (rows_bucket(len(self._rows)), columns))
            with attention_over_prefix(self._model):
                self._buffers.step.run(start, [row.slot for row in part], longest)
        except OutOfMemoryError:
            pass
        else:
            for row in part:
                row.length += 1
                row.is_examined = False
            return True
        free_failed_call()
        return False

    def _read(self, prefix: Prefix, suffixes: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read suffixes into the next free rows, and give the logits of what follows each."""
        start = len(self._rows)
        embed = self._model.get_input_embeddings()
        device = embed.weight.device
        lengths = sent([len(suffix) for suffix in suffixes], device)
        width = max(map(len, suffixes))
        # Padding stands after the suffix, where no token of it looks, and is overwritten by what is appended.
        padded = [[*suffix, *[suffix[0]] * (width - len(suffix))] for suffix in suffixes]
        ids = sent(padded, device)
        causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
        positions = torch.arange(width, device=device) + prefix.next_position
        found: torch.Tensor | None = None
        with attention_over_prefix(self._model):
            for first in range(0, width, _TOKENS_AT_ONCE):
                last = min(first + _TOKENS_AT_ONCE, width)
                output = read_with_cache(
                    self._model.get_decoder(),
                    SuffixCache(self._buffers.states, start, start + len(suffixes), first),
                    inputs_embeds=embed(ids[:, first:last]),
                    attention_mask=causal[None, None, first:last, :last].expand(len(suffixes), -1, -1, -1),
                    position_ids=positions[None, first:last].expand(len(suffixes), -1),
                    prefixes=Prefixes((prefix.states,), (len(suffixes),)),
                )
                states = output.last_hidden_state
                places = lengths.to(states.device) - 1 - first
                ends = states[torch.arange(len(suffixes), device=states.device), places.clamp(0, last - first - 1)]
                is_here = ((places >= 0) & (places < last - first))[:, None]
                found = ends if found is None else torch.where(is_here, ends, found)
        logits: torch.Tensor = self._model.get_output_embeddings()(found)
        return logits
