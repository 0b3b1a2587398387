"""Work on the next items while the present one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Done:
    """Stands behind the last item."""


_DONE: Final = _Done()


def ahead(items: Iterable[Item], work: Callable[[Item], Result], most: int) -> Generator[Result, None, None]:
    """``work`` of each item, in order, done in one other thread.

    The items are drawn in that thread too. Whatever drawing or working raises is raised here, in its turn.

    Args:
        items: drawn one at a time.
        work: called with one item at a time.
        most: so many results at most wait to be taken, which bounds the memory.
    """
    iterator = iter(items)

    def step() -> Result | _Done:
        for item in iterator:
            return work(item)
        return _DONE

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waiting = deque(pool.submit(step) for _ in range(most))
        try:
            while not isinstance(result := waiting.popleft().result(), _Done):
                waiting.append(pool.submit(step))
                yield result
        finally:
            for future in waiting:
                future.cancel()
