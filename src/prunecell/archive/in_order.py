"""Work in threads, whose results come in the order of what is worked on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_LITTLE = 1 << 16  # bytes of an item that is done sooner than handed over
_AHEAD = 1 << 26  # bytes of items that may be in work or wait for their turn; there are as many items as threads anyhow


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, n_threads: int, n_bytes: Callable[[Item], int]
) -> Iterator[Result]:
    """Give `work(item)` for each item, in their order.

    As many items as threads are in work or wait for their turn, or more of small ones, so that a large one does not
    hold up the others. Items are taken in the caller's thread, and what the work raises is raised there, too, when it
    is the item's turn.

    Args:
        work: what is done.
        items: what it is done with; one is taken when there is room for it.
        n_threads: with 1 the caller's thread does all the work.
        n_bytes: what an item takes in memory.

    >>> list(in_order(lambda x: x * x, range(5), n_threads=2, n_bytes=lambda _: 1 << 20))
    [0, 1, 4, 9, 16]
    """
    if n_threads <= 1:
        yield from map(work, items)
        return
    waiting: deque[tuple[Future[Result], int]] = deque()
    total = 0
    with ThreadPoolExecutor(n_threads, "prunecell") as pool:
        try:
            for item in items:
                size = n_bytes(item)
                while waiting and (waiting[0][0].done() or (len(waiting) >= n_threads and total + size > _AHEAD)):
                    first, gone = waiting.popleft()
                    total -= gone
                    yield first.result()
                waiting.append((_done(work, item) if size < _LITTLE else pool.submit(work, item), size))
                total += size
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for future, _ in waiting:
                future.cancel()


def _done(work: Callable[[Item], Result], item: Item) -> Future[Result]:
    future: Future[Result] = Future()
    try:
        future.set_result(work(item))
    except Exception as error:  # noqa: BLE001 - it is raised when it is the item's turn
        future.set_exception(error)
    return future
