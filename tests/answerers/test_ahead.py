"""Drawing and working run ahead, in order, bounded, and stop when nobody takes the results."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipeline.answerers.ahead import ahead


def test_results_come_in_order_from_another_thread() -> None:
    results = list(ahead(range(20), lambda item: (item, threading.current_thread().name), 3))
    assert [item for item, _ in results] == list(range(20))
    assert threading.current_thread().name not in {name for _, name in results}


def test_the_next_is_made_while_the_present_one_is_used() -> None:
    made = threading.Event()
    items = ahead(range(2), lambda item: made.set() if item == 1 else None, 1)
    next(items)
    assert made.wait(5.0)


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
    assert enough.wait(5.0)
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
