"""Run one function on many items in threads, ahead of the loop that uses the results: bounded, ordered, cancellable.

Reading, decoding and writing photos release Python's global lock, so threads keep all cores busy. Stages are chained by
nesting: the items of one call may be a generator that reads from another call, and runs in the thread of the caller.
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
"""Results whose size is known wait only up to this sum of pixels, so that large photos do not fill memory."""

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
        function: is called once per item, in a thread.
        items: is read lazily, in the thread of the caller.
        ahead: number of items that are begun before their results are used; at least 1.
        pixels: size of a result in pixels; given, fewer items are begun ahead while results are large.
        cancel: is read before each item is yielded.

    Raises:
        Cancelled: `cancel` was set. Items that were begun are finished or dropped before this is raised.
    """
    cancel = cancel or NeverCancelled()
    workers = min(4, os.cpu_count() or 1, ahead)
    remaining = iter(items)
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    limit = ahead if pixels is None else workers  # the size of the first result is not known yet
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
    items: Iterable[Item], count: int, pixels: Callable[[Item], int], max_pixels: int = PIXELS_PER_BATCH
) -> Iterator[list[Item]]:
    """Yield lists of up to `count` consecutive items with at most `max_pixels` together; a larger item is alone."""
    batch: list[Item] = []
    total = 0
    for item in items:
        size = pixels(item)
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
