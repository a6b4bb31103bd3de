"""Run one function on many items in threads while the caller processes earlier results; bounded, ordered, cancellable.

Reading, decoding and writing photos release Python's global lock, so threads use all cores. To chain stages, pass a
generator that iterates over one `read_ahead` as the items of the next; the generator runs in the caller's thread.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from .events import CancelToken, NeverCancelled, raise_if_cancelled

Item = TypeVar("Item")
Result = TypeVar("Result")

PIXELS_AHEAD = 48_000_000
"""Largest sum of pixels of the waiting results, if their size is known; large photos would fill the memory."""

PIXELS_PER_BATCH = 24_000_000
"""A batch for a network has at most this number of pixels, so that large photos do not fill memory."""


def read_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    ahead: int = 16,
    pixels: Callable[[Result], int] | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[tuple[Item, Future[Result]]]:
    """Yield each item, in order, with its finished future: `future.result()` returns at once, or raises the error.

    Args:
        function: called once per item, in a thread.
        items: iterated lazily, in the caller's thread.
        ahead: number of items that are started before the caller uses their results; at least 1.
        pixels: returns the size of a result in pixels; if given, fewer items are started while results are large.
        cancel: checked before each item is yielded.

    Raises:
        Cancelled: `cancel` was set. Every started item is finished or dropped before this is raised.
    """
    cancel = cancel or NeverCancelled()
    workers = min(4, os.cpu_count() or 1, ahead)
    remaining = iter(items)
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    limit = ahead if pixels is None else workers  # the size of the first result is unknown
    pool = ThreadPoolExecutor(workers)
    try:
        while True:
            raise_if_cancelled(cancel)
            for item in islice(remaining, max(0, limit - len(waiting))):
                waiting.append((item, pool.submit(function, item)))
            if not waiting:
                return
            item, future = waiting.popleft()
            error = future.exception()  # waits
            if pixels is not None and error is None:
                limit = min(ahead, max(workers, PIXELS_AHEAD // max(1, pixels(future.result()))))
            yield item, future
    finally:
        pool.shutdown(cancel_futures=True)


def in_batches(
    items: Iterable[Item], count: int, pixels: Callable[[Item], int] | None = None, max_pixels: int = PIXELS_PER_BATCH
) -> Iterator[list[Item]]:
    """Yield lists of up to `count` consecutive items.

    If `pixels` is given, which returns the size of an item, a list has at most `max_pixels`; a larger item is alone.
    """
    batch: list[Item] = []
    total = 0
    for item in items:
        size = 0 if pixels is None else pixels(item)
        if batch and total + size > max_pixels:
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
        if len(batch) == count:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch
