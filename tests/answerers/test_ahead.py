"""Drawing and working run ahead, in order, bounded, and stop when nobody takes the results."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import pytest

from pipeline.answerers.ahead import Ahead, ahead, pieces_of


def test_results_come_in_order_from_another_thread() -> None:
    results = list(ahead(range(20), lambda item: (item, threading.current_thread().name), 3))
    assert [item for item, _ in results] == list(range(20))
    assert threading.current_thread().name not in {name for _, name in results}


def test_the_next_is_made_while_the_present_one_is_used() -> None:
    made = threading.Event()
    items = ahead(range(2), lambda item: made.set() if item == 1 else None, 1)
    next(items)
    assert made.wait(60.0)


def test_no_more_is_made_than_may_wait() -> None:
    drawn: list[int] = []
    enough = threading.Event()

    def items() -> Iterator[int]:
        for item in range(100):
            drawn.append(item)
            if item == 3:
                enough.set()
            yield item

    results = ahead(items(), lambda item: item, 3)
    assert next(results) == 0
    assert enough.wait(60.0)
    results.close()
    assert len(drawn) <= 5


def test_what_drawing_or_working_raises_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("drawing")

    results = ahead(items(), lambda item: item, 4)
    assert next(results) == 1
    with pytest.raises(OSError, match="drawing"):
        next(results)
    with pytest.raises(ZeroDivisionError):
        list(ahead([1, 0], lambda item: 1 / item, 4))


def test_results_hold_no_more_memory_than_is_stated() -> None:
    """Bytes of all results that are made and not released; the other half of the memory is for those that wait."""
    held, most_held, taken, numbers = 0, 0, [], count()
    lock = threading.Lock()

    def make(size: int) -> int:
        nonlocal held, most_held
        with lock:
            held += size
            most_held = max(most_held, held)
        return size

    sizes = [30, 30, 30, 30, 20, 30, 10, 30, 30]
    made = Ahead(iter(sizes), make, 8, lambda size: {next(numbers): size}, 120)
    while batch := made.take(8):
        time.sleep(0.02)
        taken.append([size for _, size in batch])
        with lock:
            held -= sum(taken[-1])
        for place, _ in batch:
            made.release(place)
    made.close()
    assert [size for batch in taken for size in batch] == sizes
    assert all(sum(batch) <= 60 for batch in taken)
    assert most_held <= 120


def test_a_result_larger_than_the_memory_is_made_alone() -> None:
    alive: list[int] = []
    made = Ahead(range(4), lambda item: alive.append(item) or item, 8, lambda item: {item: 1000}, 100)
    for number in range(4):
        assert made.take(8) == [(number, number)]
        time.sleep(0.02)
        assert alive == list(range(number + 1))
        made.release(number)
    assert made.take(8) == []
    made.close()


def all_there(made: Ahead[int, int], count: int) -> None:
    """Wait until so many results could be taken."""
    with made._changed:
        assert made._changed.wait_for(lambda: len(made._waiting) == count, 60.0)


def test_what_results_share_counts_once() -> None:
    """As the frames of many questions about the same moments."""
    made = Ahead(range(6), lambda item: item, 6, lambda item: {-1: 90, item: 1}, 200)
    all_there(made, 6)
    assert made.take(6) == [(number, number) for number in range(6)]
    made.close()


def test_those_that_were_taken_leave_half_of_the_memory_to_others() -> None:
    made = Ahead(range(6), lambda item: item, 6, lambda item: {item: 30}, 200)
    all_there(made, 6)
    assert made.take(2) == [(0, 0), (1, 1)]
    assert made.take(6, wait=False) == [(2, 2)]
    assert made.take(6, wait=False) == []
    made.release(1)
    assert made.take(6, wait=False) == [(3, 3)]
    made.close()


def test_nobody_waits_for_what_is_not_there_unless_asked_to() -> None:
    more = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        more.wait(60.0)
        yield 2
        raise OSError("drawing")

    made = Ahead(items(), lambda item: item, 4)
    assert made.take(4) == [(0, 1)]
    assert made.take(4, wait=False) == []
    more.set()
    assert made.take(4) == [(1, 2)]
    with pytest.raises(OSError, match="drawing"):
        made.take(4)
    assert made.take(4) == []
    made.close()


def test_pieces_are_arrays_and_tensors_wherever_they_are() -> None:
    import torch

    @dataclass(frozen=True)
    class Inputs:
        ids: torch.Tensor
        pixels: object
        note: str = "x"

    whole, array = torch.zeros(100, dtype=torch.float32), np.zeros((4, 5), np.uint8)
    given = Inputs(whole[:10], (whole[50:], [array, array[1:]], {"mask": torch.ones(3, dtype=torch.int64)}))
    assert sorted(pieces_of(given).values()) == [20, 24, 400]
