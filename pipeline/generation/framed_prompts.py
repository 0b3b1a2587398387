"""Greedy answers to prompts that begin with frames; questions about the same frames share the reading of them.

Prompts come at any time, and each is a row of a running batch from when its frames are read until its answer is
finished. Each prompt, or the beginning that several share, is read alone: it is thousands of tokens of frames, which
fill the device by themselves, and beside nothing it needs no padding. The tokens are those of a greedy ``generate`` on
each whole prompt, whoever else is in the batch.

The next prompt waits if the memory computed beforehand does not hold it beside the running rows. Where
memory ends nevertheless (another program takes it), rows wait, are split, or go back to before they were read; none is
lost, unless it does not fit alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol
from weakref import ref

import torch

from pipeline.errors import OutOfMemoryError
from pipeline.generation.limits import OutputLimits
from pipeline.generation.memory import free_failed_call, mapped_out_of_memory, of_a_prompt
from pipeline.generation.room import Room
from pipeline.generation.row_buffers import KeptBuffers
from pipeline.generation.running_batch import Continuation, RunningBatch
from pipeline.generation.shared_prefix import Prefix
from pipeline.generation.texts import Generated, Key, Outcome, Work, end_tokens

_LOG = logging.getLogger(__name__)

_NO_TOKEN = -1
"""No id is the same."""


class FramedPrompt(Protocol):
    """A prompt that begins with frames."""

    @property
    def input_ids(self) -> Any:
        """``[L]``, an array or a tensor."""
        ...

    @property
    def frames(self) -> Any:
        """A tuple of frames, or one object for all; prompts that hold the same ones show the same frames."""
        ...

    @property
    def frames_end(self) -> int:
        """Tokens up to the last one of a picture, that one included."""
        ...


class Beginning:
    """The beginning of a prompt, up to its last frame. It does not keep the frames in memory."""

    def __init__(self, prompt: FramedPrompt) -> None:
        self._frames = [ref(each) for each in _each(prompt.frames)]
        self._ids: list[int] = prompt.input_ids[: prompt.frames_end].tolist()

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self._ids)

    def is_of(self, prompt: FramedPrompt) -> bool:
        """Whether a prompt begins with the same frames, and the same words before and between them."""
        frames = _each(prompt.frames)
        return (
            (len(frames), prompt.frames_end) == (len(self._frames), self.length)
            and all(known() is each for known, each in zip(self._frames, frames, strict=True))
            and prompt.input_ids[: self.length].tolist() == self._ids
        )


def _each(frames: Any) -> Sequence[Any]:
    return frames if isinstance(frames, tuple) else (frames,)


@dataclass(eq=False)
class _Read:
    """What the model has read of a prompt."""

    beginning: Beginning
    ids: list[int]
    prefixes: list[Prefix]
    """All of it, and then what other prompts share of it."""

    def prefix_of(self, ids: Sequence[int]) -> Prefix:
        """What a prompt about the same frames shares of it. The fewer differ, the more rows meet keys in one call."""
        shared = last_shared([[*self.ids, _NO_TOKEN], ids], self.beginning.length)
        fitting = [prefix for prefix in self.prefixes if prefix.length <= shared]
        if not fitting:
            fitting.append(self.prefixes[0].first(shared))
            self.prefixes += fitting
        return max(fitting, key=lambda prefix: prefix.length)


@dataclass(eq=False)
class _Asked(Generic[Key]):
    """A prompt that is not answered."""

    key: Key
    prompt: FramedPrompt
    ids: list[int]
    work: Work = field(default_factory=lambda: Work(reads=0.0))
    read: _Read | None = None
    """What it goes on from, once it is a row."""


class FramedPrompts(Generic[Key]):
    """Prompts that are answered together, as many as memory holds.

    Of the checkpoint's generation settings only the end tokens are used: its sampling values do not apply to greedy
    decoding, and a repetition penalty would count the words of the options against the answer.

    Args:
        language: a causal language model.
        read: reads the first tokens of a prompt, all frames among them.
        tokenizer: the checkpoint's, with ``decode`` and ``eos_token_id``.
        limits: of each answer.
        kept: the language model's buffers.
    """

    def __init__(
        self,
        language: Any,
        read: Callable[[Any, int], Prefix],
        tokenizer: Any,
        limits: OutputLimits,
        kept: KeptBuffers,
    ) -> None:
        self._read_prefix = read
        self._tokenizer = tokenizer
        self._limits = limits
        self._room = Room(language, kept)
        self._batch: RunningBatch[Key] = RunningBatch(
            language,
            end_tokens=end_tokens(language, tokenizer),
            is_complete=limits.are_reached,
            max_new_tokens=limits.total,
            kept=kept,
        )
        self._waiting: list[_Asked[Key]] = []
        self._rows: dict[Key, _Asked[Key]] = {}  # in the order in which they came
        self._reads: list[_Read] = []
        self._ended: list[tuple[_Asked[Key], Generated | Exception]] = []
        self._most = 10**9  # rows at once; less once so many did not fit
        self._is_full = False  # until a row leaves

    def __len__(self) -> int:
        """Prompts that were added and not given."""
        return len(self._waiting) + len(self._rows) + len(self._ended)

    def add(self, key: Key, prompt: FramedPrompt) -> None:
        """Have a prompt answered.

        Args:
            key: of its own.
            prompt: longer than its frames.
        """
        self._waiting.append(_Asked(key, prompt, prompt.input_ids.tolist()))

    def step(self) -> list[tuple[Key, Outcome]]:
        """Read one more beginning, where there is one that fits, or have each row write a token."""
        begin = time.perf_counter()
        fresh = self._next()
        asks = fresh or [*self._rows.values()]
        if fresh:
            self._enter(asks)
        else:
            self._advance()
        seconds = time.perf_counter() - begin
        for asked in asks:
            asked.work.add(seconds, len(asks), is_prefill=bool(fresh))
        return self.finished()

    def finished(self) -> list[tuple[Key, Outcome]]:
        """What is finished and was not given."""
        for key, written in self._batch.finished():
            self._end(self._rows.pop(key), self._generated(written))
        ended, self._ended = self._ended, []
        return [(asked.key, Outcome(result, asked.work)) for asked, result in ended]

    # --- prompts become rows ---

    def _next(self) -> list[_Asked[Key]]:
        """The prompts that may be rows now: the one that waits longest, and others about its frames."""
        if not self._waiting or self._is_full or len(self._rows) >= self._most:
            return []
        first = self._waiting[0]
        beginning = Beginning(first.prompt)
        asks = [asked for asked in self._waiting if beginning.is_of(asked.prompt)]
        asks = asks[: self._most - len(self._rows)]
        if self._known(first) is None:
            self._forget_idle()
            shared, held = _shared(asks), sum(read.prefixes[0].states.bytes for read in self._reads)
            longest = self._longest(asks, shared)
            if self._rows and not self._room.fits(shared, self._batch, len(asks), longest, held):
                return []
        return asks

    def _enter(self, asks: Sequence[_Asked[Key]]) -> None:
        """Let prompts about the same frames be rows. Those for which there is no room go on waiting."""
        read = self._known(asks[0]) or self._read(asks)
        if read is None:
            return
        by_prefix: dict[int, list[_Asked[Key]]] = {}
        for asked in asks:
            by_prefix.setdefault(id(read.prefix_of(asked.ids)), []).append(asked)
        for prefix in [*read.prefixes]:
            self._add(read, prefix, by_prefix.get(id(prefix), []))

    def _add(self, read: _Read, prefix: Prefix, asks: Sequence[_Asked[Key]]) -> None:
        at_once = len(asks)
        while asks and len(self._rows) < self._most and not self._is_full:
            longest = self._longest(asks, prefix.length)
            part = asks[: min(at_once, self._room.rows(self._batch, len(asks), longest))]
            error = self._added(read, prefix, part)
            if error is None:
                asks = asks[len(part) :]
            elif len(part) > 1:  # each by itself changes no answer
                at_once = len(part) // 2
                if isinstance(error, OutOfMemoryError):
                    self._lower(len(self._rows) + len(part), len(self._rows) + at_once)
            elif isinstance(error, OutOfMemoryError) and self._rows:
                self._is_full = True
            else:
                self._fail(part, error)
                asks = asks[1:]

    def _added(self, read: _Read, prefix: Prefix, asks: Sequence[_Asked[Key]]) -> Exception | None:
        """Let prompts be rows; gives the error that they could not."""
        try:
            self._batch.add(prefix, {asked.key: asked.ids[prefix.length :] for asked in asks})
        except Exception as error:
            failure = of_a_prompt(error)
        else:
            for asked in asks:
                asked.read, asked.work.shared = read, prefix.length
                self._waiting.remove(asked)
                self._rows[asked.key] = asked
            return None
        free_failed_call()
        return failure

    @torch.inference_mode()
    def _read(self, asks: Sequence[_Asked[Key]]) -> _Read | None:
        """What prompts begin with; None where it could not be read, and they wait or have failed."""
        first, shared = asks[0], _shared(asks)
        try:
            with mapped_out_of_memory():
                prefix = self._room.read(partial(self._read_prefix, first.prompt, shared))
        except Exception as error:
            failure = of_a_prompt(error)
        else:
            for asked in asks:
                asked.work.reads += 1 / len(asks)
            self._reads.append(_Read(Beginning(first.prompt), first.ids[:shared], [prefix]))
            return self._reads[-1]
        free_failed_call()
        if not isinstance(failure, OutOfMemoryError):
            self._fail(asks[:1], failure)
        elif self._rows:
            self._lower(len(self._rows) + 1, len(self._rows))
            self._is_full = True
        else:  # none of them is smaller
            self._fail(asks, failure)
        return None

    def _known(self, asked: _Asked[Key]) -> _Read | None:
        return next((read for read in self._reads if read.beginning.is_of(asked.prompt)), None)

    def _longest(self, asks: Sequence[_Asked[Key]], shared: int) -> int:
        """Tokens of the longest row, with all that it may write."""
        return max(len(asked.ids) for asked in asks) - shared + self._limits.total

    def _lower(self, tried: int, rows: int) -> None:
        """Go on with fewer rows."""
        _LOG.warning(
            "%d requests at once do not fit into memory; going on with %d. execution.answer_batch=%d avoids this.",
            *(tried, rows, rows),
        )
        self._most = rows

    # --- rows write ---

    def _advance(self) -> None:
        try:
            finished = self._batch.step()
        except OutOfMemoryError as error:
            failure = error.with_traceback(None)
        else:
            for key, written in finished:
                self._end(self._rows.pop(key), self._generated(written))
            return
        free_failed_call()
        self._make_way(failure)

    def _make_way(self, failure: OutOfMemoryError) -> None:
        """Not even one row can write on: those that came last wait again, until others are finished."""
        rows = [*self._rows.values()]
        if len(self._reads) > len({id(asked.read) for asked in rows}):
            self._forget_idle()
        elif len(rows) == 1:
            self._batch.drop(frozenset(self._rows))
            self._fail(rows, failure)
        else:
            last = [asked for asked in rows if asked.read is rows[-1].read]
            last = last if len(last) < len(rows) else rows[(len(rows) + 1) // 2 :]
            self._batch.drop(frozenset(asked.key for asked in last))
            for asked in last:
                del self._rows[asked.key]
                asked.read = None
            self._waiting[:0] = last
            self._lower(len(rows), len(self._rows))
            self._is_full = True
            self._forget_idle()

    def _fail(self, asks: Iterable[_Asked[Key]], error: Exception) -> None:
        for asked in asks:
            if self._rows.pop(asked.key, None) is None:
                self._waiting.remove(asked)
            self._end(asked, error)

    def _end(self, asked: _Asked[Key], result: Generated | Exception) -> None:
        self._ended.append((asked, result))
        self._is_full = False
        if asked.read is not None and all(row.read is not asked.read for row in self._rows.values()):
            self._forget_idle(but=asked.read)  # the next question is often about the same frames

    def _forget_idle(self, but: _Read | None = None) -> None:
        """Free the memory of what no row goes on from."""
        used = {id(asked.read) for asked in self._rows.values()} | {id(but)}
        self._reads = [read for read in self._reads if id(read) in used]

    def _generated(self, written: Continuation) -> Generated:
        text = self._tokenizer.decode(list(written.tokens), skip_special_tokens=True)
        return Generated(text, written.tokens, written.ended and not self._limits.are_reached(written.tokens))


def _shared(asks: Sequence[_Asked[Any]]) -> int:
    return last_shared([asked.ids for asked in asks], asks[0].prompt.frames_end)


def last_shared(rows: Sequence[Sequence[int]], known: int = 0) -> int:
    """How many tokens all rows begin with, each with at least one left to go on from.

    Args:
        rows: token ids.
        known: so many are the same.
    """
    shortest = min(len(row) for row in rows) - 1
    for column, tokens in enumerate(zip(*(row[known:] for row in rows), strict=False), known):
        if len(set(tokens)) > 1:
            return min(column, shortest)
    return shortest
