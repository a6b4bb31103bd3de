import threading
import time

import pytest

from napari_skinseg.errors import Cancelled
from napari_skinseg.read_ahead import in_batches, read_ahead


def test_results_have_the_order_of_the_items():
    def slow_first(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number * 10

    assert [(item, future.result()) for item, future in read_ahead(slow_first, range(20))] == [
        (number, number * 10) for number in range(20)
    ]


def test_an_error_of_one_item_does_not_stop_the_others():
    succeeded = {item: future.exception() is None for item, future in read_ahead(lambda number: 1 / number, [1, 0, 2])}
    assert succeeded == {1: True, 0: False, 2: True}


def test_the_number_of_items_started_in_advance_is_limited():
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield number

    for used, _ in enumerate(read_ahead(lambda number: number, items(), ahead=5), start=1):
        assert len(taken) <= used + 5


def test_fewer_items_are_started_in_advance_while_results_are_large():
    taken = []

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    most_waiting = max(
        len(taken) - used
        for used, _ in enumerate(read_ahead(lambda number: number, items(), ahead=30, pixels=lambda _: 40_000_000), 1)
    )
    assert most_waiting <= 4


def test_cancel_raises_and_starts_no_more_items():
    cancel, started = threading.Event(), []

    def cancel_at_four():
        for item, _ in read_ahead(started.append, range(1000), ahead=3, cancel=cancel):
            if item == 4:
                cancel.set()

    with pytest.raises(Cancelled):
        cancel_at_four()
    assert len(started) < 12


def test_a_generator_between_two_stages_runs_in_the_calling_thread():
    threads = set()

    def network():
        for _, future in read_ahead(lambda number: number + 1, range(10), ahead=4):
            threads.add(threading.get_ident())
            yield future.result()

    written = [future.result() for _, future in read_ahead(lambda number: number * 2, network(), ahead=4)]
    assert written == [2 * (number + 1) for number in range(10)]
    assert threads == {threading.get_ident()}


def test_batches_are_limited_by_number_and_by_pixels():
    assert list(in_batches([1, 1, 1, 5, 9, 1], 2, lambda size: size, 6)) == [[1, 1], [1, 5], [9], [1]]
